/** Group lists: a page of the groups, and a page of the members of one. */
import { type Group, type GroupId, isMember, parseStream, type UserId } from "../../../events/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import { describeMember, type GroupView, type MemberView } from "../operator-views.ts";
import { type IndexParts, KeptIndex } from "./kept-index.ts";
import { type BadCursor, badCursor, type ListPage, orderOf, placeAfter } from "./list-page.ts";
import { OrderedIds, type Place } from "./ordered-ids.ts";
import type { PeopleListIndex } from "./people-index.ts";
import { foldText } from "./search-text.ts";
import { startTurns, type WorkTurns } from "./turns.ts";

export type GroupsQuery = Readonly<{
  limit: number;
  after?: string | undefined;
  q?: string | undefined;
  sort: string;
  members: "all" | "count";
}>;
export type ListedGroup = GroupView & Readonly<{ memberCount: number; excludedCount: number }>;
export type MembersQuery = Readonly<{
  limit: number;
  after?: string | undefined;
  q?: string | undefined;
  sort: string;
  status: "member" | "excluded" | "all";
}>;

const nameChars = 200;
const blockMax = 128;

export class GroupIndex {
  readonly #index: KeptIndex<GroupId>;
  readonly #keys = new Map<GroupId, string>();
  readonly #order = new OrderedIds<string, GroupId>();

  constructor(parts: IndexParts) {
    const { replica } = parts;
    this.#index = new KeptIndex(parts, {
      *all() {
        for (const { groupId } of replica.projection.groups()) yield groupId;
      },
      *touchedBy({ touched }) {
        for (const stream of touched) {
          const parsed = parseStream(stream);
          if (parsed.kind === "group") yield parsed.id;
        }
      },
      read: (groupId) => this.#read(groupId, replica.projection.group(groupId)),
      clear: () => {
        this.#keys.clear();
        this.#order.clear();
      },
    });
  }

  settled(): Promise<void> {
    return this.#index.settled();
  }

  get size(): number {
    return this.#keys.size;
  }

  after(place: Place<string, GroupId> | null, isDescending: boolean, count: number) {
    return this.#order.after(place, isDescending, count);
  }

  matches(groupId: GroupId, q: string): boolean {
    return (this.#keys.get(groupId) ?? "").includes(q) || foldText(groupId, nameChars).includes(q);
  }

  count(q: string, isVisible: ((groupId: GroupId) => boolean) | null): number {
    let count = 0;
    for (const groupId of this.#keys.keys()) if (isVisible?.(groupId) !== false && this.matches(groupId, q)) count += 1;
    return count;
  }

  #read(groupId: GroupId, group: Group | undefined): void {
    const before = this.#keys.get(groupId);
    const key = group === undefined ? undefined : foldText(group.name || groupId, nameChars);
    if (before === key) return;
    if (before !== undefined) this.#order.delete(before, groupId);
    if (key === undefined) this.#keys.delete(groupId);
    else {
      this.#keys.set(groupId, key);
      this.#order.insert(key, groupId);
    }
  }
}

export async function listGroups(
  deps: OperatorApiDeps,
  groups: GroupIndex,
  query: GroupsQuery,
  isVisible: ((groupId: GroupId) => boolean) | null = null,
): Promise<ListPage<ListedGroup> | BadCursor> {
  const { limit, sort, members } = query;
  const q = foldText(query.q ?? "", nameChars);
  const { isDescending } = orderOf(sort);
  const list = JSON.stringify(["groups", sort, q]);
  const from = placeAfter<string, GroupId>(deps.cursors, list, { after: query.after, kind: "string" });
  if (from !== null && "badCursor" in from) return badCursor;
  await groups.settled();
  const turns = startTurns(deps);
  const items: ListedGroup[] = [];
  let place: Place<string, GroupId> | null = from;
  let [last, hasMore, isOver] = [from, false, false];
  while (!hasMore && !isOver) {
    const block: readonly Place<string, GroupId>[] = groups.after(place, isDescending, blockMax);
    isOver = block.length === 0;
    for (const entry of block) {
      place = entry;
      const isOne = isVisible?.(entry.id) !== false && (q === "" || groups.matches(entry.id, q));
      const group = isOne ? deps.replica.projection.group(entry.id) : undefined;
      if (group === undefined) continue;
      hasMore = items.length >= limit;
      if (hasMore) break;
      items.push(await describeListed(deps, group, { withMembers: members === "all", turns }));
      last = entry;
    }
    await turns.step();
  }
  const isAll = q === "" && isVisible === null;
  const count = isAll ? groups.size : from === null && !hasMore ? items.length : groups.count(q, isVisible);
  const next = hasMore && last !== null ? deps.cursors.write(list, last) : null;
  return { items, next, total: { count, exact: true } };
}

export async function describeListed(
  { replica, now }: OperatorApiDeps,
  { groupId, name }: Group,
  { withMembers, turns }: Readonly<{ withMembers: boolean; turns: WorkTurns }>,
): Promise<ListedGroup> {
  const members: MemberView[] = [];
  const at = now();
  let [memberCount, excludedCount] = [0, 0];
  for (const userId of replica.projection.eachMember(groupId)) {
    const membership = replica.projection.membership(userId, groupId);
    if (membership === undefined) continue;
    if (isMember(membership, at)) memberCount += 1;
    else if (membership.excluded) excludedCount += 1;
    if (withMembers) members.push(describeMember(replica, userId, { groupId, now: at }));
    await turns.step();
  }
  members.sort((a, b) => (a.userId < b.userId ? -1 : 1));
  return { id: groupId, name, members, memberCount, excludedCount };
}

/** By name. The members after the place are read; only those of the page are sorted. */
export async function listMembers(
  deps: OperatorApiDeps,
  people: PeopleListIndex,
  groupId: GroupId,
  query: MembersQuery,
): Promise<ListPage<MemberView> | BadCursor> {
  const { limit, sort, status } = query;
  const { isDescending } = orderOf(sort);
  const q = foldText(query.q ?? "", nameChars);
  const list = JSON.stringify(["members", groupId, sort, status, q]);
  const from = placeAfter<string, UserId>(deps.cursors, list, { after: query.after, kind: "string" });
  if (from !== null && "badCursor" in from) return badCursor;
  await people.settled();
  const { projection } = deps.replica;
  const turns = startTurns(deps);
  const now = deps.now();
  const nearest = new Nearest(limit + 1, from, isDescending);
  let count = 0;
  for (const userId of projection.eachMember(groupId)) {
    await turns.step();
    const membership = projection.membership(userId, groupId);
    if (membership === undefined || (q !== "" && !people.matches(userId, q))) continue;
    const isOne = isMember(membership, now);
    if (status === "member" ? !isOne : status === "excluded" && (isOne || !membership.excluded)) continue;
    count += 1;
    nearest.add(people.locate("name", userId));
  }
  const found = nearest.places.slice(0, limit);
  const last = found.at(-1);
  const hasMore = nearest.places.length > limit && last !== undefined;
  return {
    items: found.map(({ id }) => describeMember(deps.replica, id, { groupId, now })),
    next: hasMore ? deps.cursors.write(list, last) : null,
    total: { count, exact: true },
  };
}

/** The first places after another one, of those that are added. */
class Nearest {
  readonly places: Place<string, UserId>[] = [];
  readonly #max: number;
  readonly #from: Place<string, UserId> | null;
  readonly #sign: number;

  constructor(max: number, from: Place<string, UserId> | null, isDescending: boolean) {
    this.#max = max;
    this.#from = from;
    this.#sign = isDescending ? -1 : 1;
  }

  add(place: Place<string, UserId>): void {
    if (this.#from !== null && this.#compare(place, this.#from) <= 0) return;
    const last = this.places.at(-1);
    if (this.places.length >= this.#max && last !== undefined && this.#compare(place, last) >= 0) return;
    let [low, high] = [0, this.places.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(this.places[middle] as Place<string, UserId>, place) < 0) low = middle + 1;
      else high = middle;
    }
    this.places.splice(low, 0, place);
    if (this.places.length > this.#max) this.places.pop();
  }

  #compare(a: Place<string, UserId>, b: Place<string, UserId>): number {
    const order = a.key === b.key ? (a.id < b.id ? -1 : a.id === b.id ? 0 : 1) : a.key < b.key ? -1 : 1;
    return this.#sign * order;
  }
}

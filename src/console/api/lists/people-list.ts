/** People list: a page of the people who match, in order. */
import type { User, UserId } from "../../../events/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import { describeUser, type UserView } from "../operator-views.ts";
import { type BadCursor, type ListPage, orderOf, placeAfter, type Total } from "./list-page.ts";
import type { Place } from "./ordered-ids.ts";
import type { PeopleListIndex, PeopleOrder } from "./people-index.ts";
import { foldText } from "./search-text.ts";
import { startTurns } from "./turns.ts";

export type PeopleQuery = Readonly<{
  limit: number;
  after?: string | undefined;
  q?: string | undefined;
  sort: string;
  status: User["status"] | "all";
}>;

const blockMax = 128;
/** People of which matches are counted; of more, the count is estimated. */
const countedMax = 200_000;

export async function listPeople(
  deps: OperatorApiDeps,
  people: PeopleListIndex,
  query: PeopleQuery,
): Promise<ListPage<UserView> | BadCursor> {
  const { limit, sort, status } = query;
  const q = foldText(query.q ?? "", 200);
  const { order, isDescending } = orderOf<PeopleOrder>(sort);
  const list = JSON.stringify(["people", sort, status, q]);
  const from = placeAfter<string, UserId>(deps.cursors, list, { after: query.after, kind: "string" });
  if (from !== null && "badCursor" in from) return from;
  await people.settled();
  const turns = startTurns(deps);
  const matches = (userId: UserId): boolean =>
    (status === "all" || deps.replica.projection.user(userId)?.status === status) &&
    (q === "" || people.matches(userId, q));
  const items: UserView[] = [];
  let place: Place<string, UserId> | null = from;
  let [last, hasMore, isOver] = [from, false, false];
  while (!hasMore && !isOver) {
    const block: readonly Place<string, UserId>[] = people.after(order, place, isDescending, blockMax);
    isOver = block.length === 0;
    for (const entry of block) {
      place = entry;
      const user = matches(entry.id) ? deps.replica.projection.user(entry.id) : undefined;
      if (user === undefined) continue;
      hasMore = items.length >= limit;
      if (hasMore) break;
      items.push(describeUser(deps.replica, user, { now: deps.now(), idle: deps.idle, known: deps.providers }));
      last = entry;
      await turns.step();
    }
    await turns.step();
  }
  const next = hasMore && last !== null ? deps.cursors.write(list, last) : null;
  const isWhole = from === null && !hasMore;
  const isFiltered = q !== "" || status !== "all";
  const total = isWhole
    ? { count: items.length, exact: true }
    : isFiltered
      ? await countPeople(people, matches, () => turns.step())
      : { count: people.size, exact: true };
  return { items, next, total };
}

async function countPeople(
  people: PeopleListIndex,
  matches: (userId: UserId) => boolean,
  step: () => Promise<unknown>,
): Promise<Total> {
  let [seen, count] = [0, 0];
  for (const userId of people.people()) {
    if (seen >= countedMax) break;
    seen += 1;
    if (matches(userId)) count += 1;
    if (seen % 256 === 0) await step();
  }
  const { size } = people;
  return seen < size ? { count: Math.round((count / seen) * size), exact: false } : { count, exact: true };
}

/** The people whose name, e-mail, subject or id has the text. */
export async function peopleWith(
  deps: OperatorApiDeps,
  people: PeopleListIndex,
  text: string,
): Promise<ReadonlySet<UserId>> {
  await people.settled();
  const q = foldText(text, 200);
  const turns = startTurns(deps);
  const found = new Set<UserId>();
  let seen = 0;
  for (const userId of people.people()) {
    seen += 1;
    if (people.matches(userId, q)) found.add(userId);
    if (seen % 256 === 0) await turns.step();
  }
  return found;
}

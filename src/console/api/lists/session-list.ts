/**
 * Session list: a page of the sessions that match, in order.
 *
 * With a person, a group or a search the sessions of these people are read; otherwise the session index is followed
 * from the place of the cursor. A page that takes too long ends early, with a cursor to continue from.
 */
import {
  type GroupId,
  isMember,
  isTokenSession,
  parseSessionId,
  type Session,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../../events/index.ts";
import { type OperatorApiDeps, tryParse } from "../operator-route.ts";
import { describeSession, findUsers, type SessionView } from "../operator-views.ts";
import { type BadCursor, badCursor, type ListPage, orderOf, placeAfter, type Total } from "./list-page.ts";
import type { Place } from "./ordered-ids.ts";
import type { PeopleListIndex } from "./people-index.ts";
import { peopleWith } from "./people-list.ts";
import { type SessionListIndex, type SessionOrder, sessionKey } from "./session-index.ts";
import { startTurns, type WorkTurns } from "./turns.ts";

export type SessionsQuery = Readonly<{
  limit: number;
  after?: string | undefined;
  q?: string | undefined;
  sort: string;
  status: "active" | "revoked" | "expired" | "all";
  user?: string | undefined;
  group?: string | undefined;
  idpId?: string | undefined;
  kind?: "sign-in" | "token" | undefined;
  issuedBefore?: string | undefined;
  endsBefore?: string | undefined;
}>;
export type Indexes = Readonly<{ people: PeopleListIndex; sessions: SessionListIndex }>;

const blockMax = 256;
const sampleMax = 1_000;
/** Sessions that are sorted for one page; people with more are read in the order of the index. */
const sortedMax = 5_000;
const pageMsMax = 2_000;

type SortKey = SessionOrder | "person";
/** What a session has to be, beside what the list of its people says. */
type Wanted = (session: Session) => SessionView | undefined;
type Found = Readonly<{ view: SessionView; place: Place<number | string, string> }>;

export async function listSessions(
  deps: OperatorApiDeps,
  indexes: Indexes,
  query: SessionsQuery,
): Promise<ListPage<SessionView> | BadCursor> {
  const { order, isDescending } = orderOf<SortKey>(query.sort);
  const { limit: _, after, ...filters } = query;
  const list = JSON.stringify(["sessions", filters]);
  const kind = order === "person" ? "string" : "number";
  const from = placeAfter<number | string, string>(deps.cursors, list, { after, kind });
  if (from !== null && "badCursor" in from) return badCursor;
  const wanted = wantedBy(deps, query);
  const turns = startTurns(deps);
  const named = sessionNamed(deps, query.q);
  const people = named === undefined ? await peopleOf(deps, indexes.people, query, turns) : undefined;
  const ids = named !== undefined ? [named] : people === undefined ? undefined : sessionsOf(deps, people);
  const walk = { deps, indexes, wanted, turns, isDescending, limit: query.limit, from };
  const page =
    ids !== undefined
      ? await sortedPage(walk, order, ids)
      : order === "person"
        ? await personPage(walk, people)
        : await indexPage(walk, order, people);
  const next = page.end === null ? null : deps.cursors.write(list, page.end);
  return { items: page.found.map(({ view }) => view), next, total: page.total };
}

type Walk = Readonly<{
  deps: OperatorApiDeps;
  indexes: Indexes;
  wanted: Wanted;
  turns: WorkTurns;
  isDescending: boolean;
  limit: number;
  from: Place<number | string, string> | null;
}>;
/** `end`: where the next page begins; null: there is none. */
type Walked = Readonly<{ found: readonly Found[]; end: Place<number | string, string> | null; total: Total }>;

/** A few sessions, sorted here. */
async function sortedPage(walk: Walk, order: SortKey, ids: readonly SessionId[]): Promise<Walked> {
  const { deps, wanted, turns, isDescending, limit, from } = walk;
  const all: Found[] = [];
  if (order === "person") await walk.indexes.people.settled();
  for (const id of ids) {
    const session = deps.replica.projection.session(id);
    const view = session && wanted(session);
    if (session !== undefined && view !== undefined) all.push({ view, place: locate(walk, order, session) });
    await turns.step();
  }
  const compare = (a: Place<number | string, string>, b: Place<number | string, string>): number =>
    a.key === b.key && order === "person" ? comparePlaces(a, b) : (isDescending ? -1 : 1) * comparePlaces(a, b);
  all.sort((a, b) => compare(a.place, b.place));
  const rest = from === null ? all : all.filter(({ place }) => compare(place, from) > 0);
  const found = rest.slice(0, limit);
  const end = rest.length > limit ? (found.at(-1)?.place ?? null) : null;
  return { found, end, total: { count: all.length, exact: true } };
}

/** In the order of the session index. @param people undefined: everyone */
async function indexPage(walk: Walk, order: SessionOrder, people: ReadonlySet<UserId> | undefined): Promise<Walked> {
  const { deps, indexes, turns, isDescending, limit, from } = walk;
  await indexes.sessions.settled();
  const endsAt = deps.now() + pageMsMax;
  const at = (entry: Place<number, SessionId>): SessionView | undefined => {
    const session = indexes.sessions.sessionAt(order, entry);
    const isOfThem = people === undefined || (session?.userId != null && people.has(session.userId));
    return session !== undefined && isOfThem ? walk.wanted(session) : undefined;
  };
  const found: Found[] = [];
  let place = from as Place<number, SessionId> | null;
  for (;;) {
    const block = indexes.sessions.after(order, place, isDescending, blockMax);
    if (block.length === 0) {
      const total = from === null ? { count: found.length, exact: true } : await estimate(walk, order, at);
      return { found, end: null, total };
    }
    for (const entry of block) {
      const view = at(entry);
      if (view !== undefined && found.length >= limit)
        return { found, end: found.at(-1)?.place ?? entry, total: await estimate(walk, order, at) };
      if (view !== undefined) found.push({ view, place: entry });
      place = entry;
      await turns.step();
    }
    if (deps.now() >= endsAt) return { found, end: place, total: await estimate(walk, order, at) };
  }
}

async function estimate(
  { deps, indexes, turns }: Walk,
  order: SessionOrder,
  at: (entry: Place<number, SessionId>) => SessionView | undefined,
): Promise<Total> {
  const entries = indexes.sessions.sample(order, sampleMax);
  let count = 0;
  for (const entry of entries) {
    if (at(entry) !== undefined) count += 1;
    await turns.step();
  }
  const { sessions } = deps.replica.projection.counts;
  if (count === entries.length && entries.length >= sessions) return { count: sessions, exact: true };
  return { count: Math.round((count / Math.max(1, entries.length)) * sessions), exact: false };
}

/** By person, and each person's newest sign-in first. Sessions of which the log names no person are not among them. */
async function personPage(walk: Walk, people: ReadonlySet<UserId> | undefined): Promise<Walked> {
  const { deps, indexes, turns, isDescending, limit, from } = walk;
  await indexes.people.settled();
  await indexes.sessions.settled();
  const endsAt = deps.now() + pageMsMax;
  const found: Found[] = [];
  const begun = from === null ? null : personIn(from);
  const total = (): Promise<Total> =>
    estimate(walk, "issued", (entry) => {
      const session = indexes.sessions.sessionAt("issued", entry);
      const isOfThem = people === undefined || (session?.userId != null && people.has(session.userId));
      return session !== undefined && isOfThem ? walk.wanted(session) : undefined;
    });
  let place = begun === null ? null : { key: begun.key, id: begun.userId };
  let again = begun === null ? [] : [{ key: begun.key, id: begun.userId }];
  for (;;) {
    const block = [...again, ...indexes.people.after("name", place, isDescending, blockMax)];
    again = [];
    if (block.length === 0) {
      const all = from === null ? { count: found.length, exact: true } : await total();
      return { found, end: null, total: all };
    }
    for (const person of block) {
      place = person;
      if (people !== undefined && !people.has(person.id)) continue;
      for (const each of sessionsOfPerson(walk, person)) {
        if (from !== null && begun?.userId === person.id && comparePlaces(each.place, from) <= 0) continue;
        if (found.length >= limit) return { found, end: found.at(-1)?.place ?? null, total: await total() };
        found.push(each);
        await turns.step();
      }
      if (deps.now() >= endsAt && found.length > 0)
        return { found, end: found.at(-1)?.place ?? null, total: await total() };
      await turns.step();
    }
  }
}

/** Newest sign-in first, whatever the order of the people. */
function sessionsOfPerson({ deps, wanted }: Walk, person: Place<string, UserId>): readonly Found[] {
  const { projection } = deps.replica;
  const found = projection.sessionsOf(person.id).flatMap((id): Found[] => {
    const session = projection.session(id);
    const view = session && wanted(session);
    return session === undefined || view === undefined ? [] : [{ view, place: personPlace(person, session) }];
  });
  return found.sort((a, b) => comparePlaces(a.place, b.place));
}

const locate = ({ indexes }: Walk, order: SortKey, session: Session): Place<number | string, string> =>
  order === "person"
    ? session.userId === null
      ? { key: "\u{10ffff}", id: session.sessionId }
      : personPlace(indexes.people.locate("name", session.userId), session)
    : { key: sessionKey(order, session), id: session.sessionId };

/** Sign-ins count down, so that the newest comes first. The person's own key comes before the line feed. */
const timeMax = 1e16;
function personPlace({ key, id }: Place<string, UserId>, session: Session): Place<string, string> {
  const issued = String(timeMax - sessionKey("issued", session)).padStart(18, "0");
  return { key: `${key}\n${id}`, id: `${issued}\n${session.sessionId}` };
}

function personIn({ key }: Place<number | string, string>): Readonly<{ key: string; userId: UserId }> {
  const text = String(key);
  const cut = text.indexOf("\n");
  return { key: text.slice(0, cut), userId: text.slice(cut + 1) as UserId };
}

function comparePlaces<Key extends number | string>(a: Place<Key, string>, b: Place<Key, string>): number {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.id === b.id ? 0 : a.id < b.id ? -1 : 1;
}

/** The people whose sessions the query wants; undefined: everyone. */
async function peopleOf(
  deps: OperatorApiDeps,
  index: PeopleListIndex,
  { user, group, q = "" }: SessionsQuery,
  turns: WorkTurns,
): Promise<ReadonlySet<UserId> | undefined> {
  const sets: ReadonlySet<UserId>[] = [];
  if (user !== undefined) sets.push(new Set(findUsers(deps.replica, user, "any")));
  if (group !== undefined) {
    const members = new Set<UserId>();
    for (const userId of deps.replica.projection.eachMember(group as GroupId)) {
      if (isMember(deps.replica.projection.membership(userId, group as GroupId), deps.now())) members.add(userId);
      await turns.step();
    }
    sets.push(members);
  }
  if (q !== "") sets.push(await peopleWith(deps, index, q));
  const [first, ...others] = sets;
  return first && new Set([...first].filter((userId) => others.every((set) => set.has(userId))));
}

/** The session that a search names by its whole id. */
function sessionNamed({ replica }: OperatorApiDeps, q = ""): SessionId | undefined {
  const id = tryParse(parseSessionId, q.trim());
  return id !== undefined && replica.projection.session(id) !== undefined ? id : undefined;
}

/** Undefined: too many to be sorted. */
function sessionsOf({ replica }: OperatorApiDeps, people: ReadonlySet<UserId>): readonly SessionId[] | undefined {
  const ids: SessionId[] = [];
  for (const userId of people) {
    for (const id of replica.projection.sessionsOf(userId)) ids.push(id);
    if (ids.length > sortedMax) return undefined;
  }
  return ids;
}

function wantedBy(deps: OperatorApiDeps, query: SessionsQuery): Wanted {
  const { status, idpId, kind } = query;
  const before = timeOf(query.issuedBefore);
  const endsBefore = timeOf(query.endsBefore);
  return (session) => {
    if (kind !== undefined && isTokenSession(session.sessionId) !== (kind === "token")) return undefined;
    if (idpId !== undefined && (session.status !== "active" || session.idpId !== idpId)) return undefined;
    if (before !== null && (session.status !== "active" || session.issuedAt >= before)) return undefined;
    if (endsBefore !== null && (session.expiresAt === null || session.expiresAt >= endsBefore)) return undefined;
    const view = describeSession(deps.replica, session, { now: deps.now(), idle: deps.idle, known: deps.providers });
    return status === "all" || view.status === status ? view : undefined;
  };
}

const timeOf = (text: string | undefined): UnixMs | null => (text === undefined ? null : (Date.parse(text) as UnixMs));

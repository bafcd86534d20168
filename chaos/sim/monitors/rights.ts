/**
 * Rights: which sessions and users may pass at any point of the log, folded independently of the product.
 *
 * - It implements docs/architecture.md §3 and not the product's projection, so that it repeats no mistake made there.
 * - It only adds data: callers can query any older point and any lost branch at any time.
 */
import type { CardeaEvent, UnixMs } from "../../../src/events/index.ts";
import type { Chains, LogPoint } from "./chains.ts";
import type { Invariant } from "./violation.ts";

type Versioned<Value> = Readonly<{ point: LogPoint; value: Value }>;
/** `until`: the end of what operators added, `requested`: of what an approved request gave; null: it has none. */
type Member = Readonly<{
  sources: ReadonlySet<string>;
  excluded: boolean;
  until: number | null;
  requested: number | null;
}>;
/** `until`: the end of a suspension; null: it has none, or the person is not suspended. */
type Status = Readonly<{ is: "active" | "suspended" | "erased"; until: number | null }>;
type Creation = Readonly<{ user: string; expiresAt: UnixMs }>;
type Person = { readonly status: Versioned<Status>[]; readonly cuts: Versioned<number>[] };
type Session = {
  readonly created: Versioned<Creation>[];
  readonly denied: Versioned<DenialCause>[];
  readonly rounds: Versioned<number>[];
};
type DenialCause = Readonly<{ invariant: Invariant; why: string }>;

/** The reason why a session or user may not pass, and the invariant that requires it. */
export type Denial = Readonly<{ invariant: Invariant; why: string; point: LogPoint | null }>;

const noMembership: Member = { sources: new Set(), excluded: false, until: null, requested: null };
const active: Status = { is: "active", until: null };

export class Rights {
  readonly #chains: Chains;
  readonly #sessions = new Map<string, Session>();
  readonly #people = new Map<string, Person>();
  readonly #members = new Map<string, Versioned<Member>[]>();
  /** Every user and every group that ever occurred in a membership event. */
  readonly #groupsOf = new Map<string, Set<string>>();
  readonly #upserted: Versioned<string>[] = [];
  readonly #membersOf = new Map<string, Set<string>>();

  constructor(chains: Chains) {
    this.#chains = chains;
  }

  /**
   * Folds one event. The ground truth calls it once per point, when a server first writes it.
   * @param round the claim `round` in the sealed profile that the event carries; null: unknown
   * @returns the defect of the event; null: none
   */
  fold(point: LogPoint, round: number | null = null): string | null {
    const { recorded } = point;
    if (recorded === null) return null;
    const { event } = recorded;
    if (round !== null && (event.type === "SessionCreated" || event.type === "SessionRefreshed"))
      this.#session(event.sessionId).rounds.push({ point, value: round });
    if (event.type === "Unknown") {
      if (recorded.effect === "tightens") this.#denySubject(recorded.stream, point);
      return null;
    }
    if (event.type === "SessionCreated") {
      const session = this.#session(event.sessionId);
      const again = this.#last(session.created, point) !== undefined;
      session.created.push({ point, value: { user: event.userId, expiresAt: event.expiresAt } });
      return again ? `session ${event.sessionId} is created a second time` : null;
    }
    const early = this.#earlyEnd(event, point);
    this.#foldOther(event, point);
    return early;
  }

  /** A sweep ends nothing before its end. */
  #earlyEnd(event: CardeaEvent, point: LogPoint): string | null {
    if (event.type === "SuspensionExpired") {
      const status = this.#statusOf(event.userId, point);
      const isEarly = status.is === "suspended" && (status.until === null || event.at < status.until);
      return isEarly ? `the suspension of ${event.userId} ends at ${event.at}, before ${status.until}` : null;
    }
    if (event.type !== "MembershipsExpired") return null;
    const early = event.userIds.find((user) => {
      const { sources, until, requested } = this.#memberOf(user, event.groupId, point);
      const ends = [until, requested].filter((end) => end !== null);
      return (sources.has("operator") || sources.has("request")) && !ends.some((end) => end <= event.at);
    });
    return early === undefined ? null : `the membership of ${early} in ${event.groupId} ends early, at ${event.at}`;
  }

  #statusOf(user: string, point: LogPoint): Status {
    return this.#last(this.#people.get(user)?.status ?? [], point)?.value ?? active;
  }
  #memberOf(user: string, group: string, point: LogPoint): Member {
    return this.#last(this.#members.get(keyOf(user, group)) ?? [], point)?.value ?? noMembership;
  }

  sourcesOf(user: string, group: string, point: LogPoint): ReadonlySet<string> {
    return this.#memberOf(user, group, point).sources;
  }

  /** True if the log has a profile of the user at this point. */
  isKnown(user: string, point: LogPoint): boolean {
    return this.#upserted.some((entry) => entry.value === user && this.#chains.contains(point, entry.point));
  }

  /** Every group that the user ever was in. */
  groupsOf(user: string): readonly string[] {
    return [...(this.#groupsOf.get(user) ?? [])];
  }

  /** Everybody who ever was in the group. */
  membersOf(group: string): readonly string[] {
    return [...(this.#membersOf.get(group) ?? [])];
  }

  /** When the user's membership ends by itself at this point of the log; null: it does not. */
  endOf(user: string, group: string, point: LogPoint): number | null {
    const { sources, excluded, until, requested } = this.#memberOf(user, group, point);
    if (excluded) return until;
    const ends = [until, requested].filter((end) => end !== null);
    return ends.length > 0 && ends.length === sources.size ? Math.max(...ends) : null;
  }

  /** Null: the session may pass there. Ignores its expiry. */
  denialOf(session: string, point: LogPoint): Denial | null {
    const known = this.#sessions.get(session);
    const created = known && this.#last(known.created, point);
    const denied = known && this.#last(known.denied, point);
    if (denied !== undefined) return { ...denied.value, point: denied.point };
    if (created === undefined) return { invariant: 21, why: "it was never created there", point: null };
    const person = this.#people.get(created.value.user);
    if (person === undefined) return null;
    for (const cut of person.cuts)
      if (created.point.link.position < cut.value && this.#chains.contains(point, cut.point))
        return { invariant: 22, why: `the sessions of ${created.value.user} were cut`, point: cut.point };
    const deniedStatus = this.#deniedStatus(person, point);
    return deniedStatus === null
      ? null
      : { invariant: 22, why: `its user is ${deniedStatus.value.is}`, point: deniedStatus.point };
  }

  /**
   * Null: the user may use a route of this group there. A membership that ends by itself counts until the log says that
   * it has ended: `endOf` says when nodes refuse it.
   */
  groupDenial(user: string, group: string, point: LogPoint): Denial | null {
    const entry = this.#last(this.#members.get(keyOf(user, group)) ?? [], point);
    if (entry !== undefined && isIn(entry.value)) return null;
    return { invariant: 23, why: `${user} is not in ${group}`, point: entry?.point ?? null };
  }

  /** Null: the user is not in a group whose members are kept out there, or is in it until an end. */
  excludedGroupDenial(user: string, group: string, point: LogPoint): Denial | null {
    const entry = this.#last(this.#members.get(keyOf(user, group)) ?? [], point);
    if (entry === undefined || !isIn(entry.value) || this.endOf(user, group, point) !== null) return null;
    return { invariant: 23, why: `${user} is in ${group}`, point: entry.point };
  }

  /** Null: the session's claim `round` there is below the number, or is unknown. */
  roundDenial(session: string, below: number, point: LogPoint): Denial | null {
    const entry = this.#last(this.#sessions.get(session)?.rounds ?? [], point);
    if (entry === undefined || entry.value < below) return null;
    return { invariant: 23, why: `its round is ${entry.value}`, point: entry.point };
  }

  created(session: string, point: LogPoint): Creation | undefined {
    return this.#last(this.#sessions.get(session)?.created ?? [], point)?.value;
  }

  /** True if any branch, including a lost one, denied the session or its user. */
  deniedAnywhere(session: string): boolean {
    const known = this.#sessions.get(session);
    if (known === undefined || known.denied.length > 0) return true;
    return known.created.some(({ point, value }) => {
      const person = this.#people.get(value.user);
      if (person === undefined) return false;
      if (person.status.some((entry) => entry.value.is !== "active")) return true;
      return person.cuts.some((cut) => point.link.position < cut.value && this.#chains.contains(cut.point, point));
    });
  }

  /** The newest creation of the session on any branch. */
  creationOf(session: string): Creation | undefined {
    return this.#sessions.get(session)?.created.at(-1)?.value;
  }

  /** Sessions of a user created at or before a point. */
  sessionsOf(user: string, point: LogPoint): string[] {
    const found: string[] = [];
    for (const [id, session] of this.#sessions)
      if (this.#last(session.created, point)?.value.user === user) found.push(id);
    return found;
  }

  userDenial(user: string, point: LogPoint): Denial | null {
    const person = this.#people.get(user);
    const deniedStatus = person === undefined ? null : this.#deniedStatus(person, point);
    return deniedStatus === null
      ? null
      : { invariant: 22, why: `${user} is ${deniedStatus.value.is}`, point: deniedStatus.point };
  }

  /** True if an event after `after`, up to `point`, sets the user's status again. */
  isRestoredAfter(user: string, after: LogPoint, point: LogPoint): boolean {
    return (this.#people.get(user)?.status ?? []).some(
      (entry) =>
        entry.value.is === "active" &&
        this.#chains.contains(point, entry.point) &&
        !this.#chains.contains(after, entry.point),
    );
  }

  #deniedStatus(person: Person, point: LogPoint): Versioned<Status> | null {
    for (const entry of person.status)
      if (entry.value.is === "erased" && this.#chains.contains(point, entry.point)) return entry;
    const last = this.#last(person.status, point);
    return last === undefined || last.value.is === "active" ? null : last;
  }

  #foldOther(event: Exclude<CardeaEvent, { type: "SessionCreated" }>, point: LogPoint): void {
    const { position } = point.link;
    switch (event.type) {
      case "UserUpserted":
        this.#upserted.push({ point, value: event.userId });
        return;
      case "SessionRevoked":
        this.#session(event.sessionId).denied.push({ point, value: { invariant: 21, why: "it was revoked" } });
        return;
      case "SessionsExpired":
        for (const id of event.sessionIds)
          this.#session(id).denied.push({ point, value: { invariant: 21, why: "it was swept" } });
        return;
      case "UserSessionsRevoked":
        this.#person(event.userId).cuts.push({ point, value: event.upTo === null ? position : event.upTo + 1 });
        return;
      case "UserSuspended":
      case "UserErased": {
        const person = this.#person(event.userId);
        person.cuts.push({ point, value: position });
        const value = event.type === "UserErased" ? erased : this.#suspension(event.userId, event.until ?? null, point);
        person.status.push({ point, value });
        if (event.type === "UserErased") this.#dropRequests(event.userId, point);
        return;
      }
      case "SuspensionExpired": {
        const { is, until } = this.#statusOf(event.userId, point);
        const isOver = is === "suspended" && until !== null && until <= event.at;
        if (isOver) this.#person(event.userId).status.push({ point, value: active });
        return;
      }
      case "TighteningReasserted":
        this.#denySubject(event.subject, point);
        return;
      case "UserRestored":
        this.#person(event.userId).status.push({ point, value: active });
        return;
      case "MembershipsExpired":
        for (const user of event.userIds) this.#endMembership(user, event.groupId, { point, at: event.at });
        return;
      case "GroupMembersChanged":
        for (const user of event.added)
          this.#change(user, event.groupId, point, { add: event.source, until: event.until ?? null });
        for (const user of event.removed) this.#change(user, event.groupId, point, { remove: event.source });
        return;
      case "UserGroupsReplaced": {
        const wanted = new Set<string>(event.groupIds);
        for (const group of this.#groupsOf.get(event.userId) ?? [])
          if (!wanted.has(group)) this.#change(event.userId, group, point, { remove: event.source });
        for (const group of wanted) this.#change(event.userId, group, point, { add: event.source });
        return;
      }
      case "GroupRemoved":
        for (const user of this.#membersOf.get(event.groupId) ?? [])
          this.#setMembership(user, event.groupId, { point, value: noMembership });
        return;
      default: // no other event grants or denies access
    }
  }

  /** Of two suspensions the one that ends later counts. */
  #suspension(user: string, until: number | null, point: LogPoint): Status {
    const before = this.#statusOf(user, point);
    if (before.is !== "suspended") return { is: "suspended", until };
    return { is: "suspended", until: until === null || before.until === null ? null : Math.max(until, before.until) };
  }

  #endMembership(user: string, group: string, { point, at }: Readonly<{ point: LogPoint; at: number }>): void {
    const { sources, excluded, until, requested } = this.#memberOf(user, group, point);
    const [endsUntil, endsRequested] = [until !== null && until <= at, requested !== null && requested <= at];
    const left = new Set(sources);
    if (endsUntil) left.delete("operator");
    if (endsRequested) left.delete("request");
    const ends = { until: endsUntil ? null : until, requested: endsRequested ? null : requested };
    if (endsUntil || endsRequested)
      this.#setMembership(user, group, { point, value: { sources: left, excluded, ...ends } });
  }

  /** An erased person has no access by requests. */
  #dropRequests(user: string, point: LogPoint): void {
    for (const group of this.groupsOf(user))
      if (this.#memberOf(user, group, point).requested !== null)
        this.#change(user, group, point, { remove: "request" });
  }

  #change(
    user: string,
    group: string,
    point: LogPoint,
    how: Readonly<{ add: string; until?: number | null } | { remove: string }>,
  ): void {
    const before = this.#last(this.#members.get(keyOf(user, group)) ?? [], point)?.value ?? noMembership;
    const sources = new Set(before.sources);
    let { excluded, until, requested } = before;
    if ("add" in how) {
      sources.add(how.add);
      if (how.add === "operator") {
        until = how.until ?? null;
        if (until === null) excluded = false; // an end overrides an exclusion, and does not lift it
      }
      if (how.add === "request") requested = how.until ?? null;
    } else {
      sources.delete(how.remove);
      if (how.remove === "request") requested = null;
      if (how.remove === "operator") {
        sources.delete("request");
        excluded = true;
        until = null;
        requested = null;
      }
    }
    this.#setMembership(user, group, { point, value: { sources, excluded, until, requested } });
  }

  #setMembership(user: string, group: string, entry: Versioned<Member>): void {
    const key = keyOf(user, group);
    listIn(this.#members, key).push(entry);
    setIn(this.#groupsOf, user).add(group);
    setIn(this.#membersOf, group).add(user);
  }

  /** Applies a final fact of an unknown type: it denies the subject of its stream. */
  #denySubject(stream: string, point: LogPoint): void {
    const colon = stream.indexOf(":");
    const [kind, id] = [stream.slice(0, colon), stream.slice(colon + 1)];
    if (kind === "session")
      this.#session(id).denied.push({ point, value: { invariant: 16, why: "an unknown final event said no" } });
    if (kind !== "user") return;
    const person = this.#person(id);
    person.cuts.push({ point, value: point.link.position });
    person.status.push({ point, value: { is: "suspended", until: null } });
  }

  /** The newest value recorded at or before a point. */
  #last<Value>(list: readonly Versioned<Value>[], point: LogPoint): Versioned<Value> | undefined {
    for (let i = list.length - 1; i >= 0; i -= 1) {
      const entry = list[i];
      if (entry !== undefined && this.#chains.contains(point, entry.point)) return entry;
    }
    return undefined;
  }

  #session(id: string): Session {
    const session = this.#sessions.get(id) ?? { created: [], denied: [], rounds: [] };
    this.#sessions.set(id, session);
    return session;
  }

  #person(id: string): Person {
    const person = this.#people.get(id) ?? { status: [], cuts: [] };
    this.#people.set(id, person);
    return person;
  }
}

const erased: Status = { is: "erased", until: null };

function isIn({ sources, excluded, until }: Member): boolean {
  return sources.size > 0 && (!excluded || until !== null);
}

function keyOf(user: string, group: string): string {
  return JSON.stringify([user, group]);
}

function listIn<Item>(map: Map<string, Item[]>, key: string): Item[] {
  const list = map.get(key) ?? [];
  map.set(key, list);
  return list;
}

function setIn(map: Map<string, Set<string>>, key: string): Set<string> {
  const set = map.get(key) ?? new Set<string>();
  map.set(key, set);
  return set;
}

/**
 * Rights: which sessions and users may pass at any place of the log, folded independently of the product.
 *
 * - It implements docs/architecture.md §3 and not the product's projection, so that it repeats no mistake made there.
 * - It only adds data: callers can query any older place and any lost branch at any time.
 */
import type { CardeaEvent, UnixMs } from "../../../src/events/index.ts";
import type { Chains, Place } from "./chains.ts";
import type { Invariant } from "./violation.ts";

type Told<Value> = Readonly<{ place: Place; value: Value }>;
type Member = Readonly<{ sources: ReadonlySet<string>; excluded: boolean }>;
type Creation = Readonly<{ user: string; expiresAt: UnixMs }>;
type Person = { readonly status: Told<"active" | "suspended" | "erased">[]; readonly cuts: Told<number>[] };
type Session = { readonly created: Told<Creation>[]; readonly denied: Told<Denial>[]; readonly rounds: Told<number>[] };
type Denial = Readonly<{ invariant: Invariant; why: string }>;

/** Bar: the reason why a session or user may not pass, and the invariant that requires it. */
export type Bar = Readonly<{ invariant: Invariant; why: string; place: Place | null }>;

const nowhere: Member = { sources: new Set(), excluded: false };

export class Rights {
  readonly #chains: Chains;
  readonly #sessions = new Map<string, Session>();
  readonly #people = new Map<string, Person>();
  readonly #members = new Map<string, Told<Member>[]>();
  /** Every user and every group that ever occurred in a membership event. */
  readonly #groupsOf = new Map<string, Set<string>>();
  readonly #membersOf = new Map<string, Set<string>>();

  constructor(chains: Chains) {
    this.#chains = chains;
  }

  /**
   * Folds one place. The scene calls it once per place, when a server first writes it.
   * @param round the claim `round` in the sealed profile that the event carries; null: unknown
   * @returns the defect of the event; null: none
   */
  fold(place: Place, round: number | null = null): string | null {
    const { recorded } = place;
    if (recorded === null) return null;
    const { event } = recorded;
    if (round !== null && (event.type === "SessionCreated" || event.type === "SessionRefreshed"))
      this.#session(event.sessionId).rounds.push({ place, value: round });
    if (event.type === "Unknown") {
      if (recorded.effect === "tightens") this.#obey(recorded.stream, place);
      return null;
    }
    if (event.type === "SessionCreated") {
      const session = this.#session(event.sessionId);
      const again = this.#last(session.created, place) !== undefined;
      session.created.push({ place, value: { user: event.userId, expiresAt: event.expiresAt } });
      return again ? `session ${event.sessionId} is created a second time` : null;
    }
    this.#foldOther(event, place);
    return null;
  }

  /** Null: the session may pass there. Ignores its expiry. */
  bar(session: string, place: Place): Bar | null {
    const known = this.#sessions.get(session);
    const created = known && this.#last(known.created, place);
    const denied = known && this.#last(known.denied, place);
    if (denied !== undefined) return { ...denied.value, place: denied.place };
    if (created === undefined) return { invariant: 21, why: "it was never created there", place: null };
    const person = this.#people.get(created.value.user);
    if (person === undefined) return null;
    for (const cut of person.cuts)
      if (created.place.link.position < cut.value && this.#chains.contains(place, cut.place))
        return { invariant: 22, why: `the sessions of ${created.value.user} were cut`, place: cut.place };
    const standing = this.#standing(person, place);
    return standing === null ? null : { invariant: 22, why: `its user is ${standing.value}`, place: standing.place };
  }

  /** Null: the user may use a route of this group there. */
  groupBar(user: string, group: string, place: Place): Bar | null {
    const told = this.#last(this.#members.get(keyOf(user, group)) ?? [], place);
    if (told !== undefined && !told.value.excluded && told.value.sources.size > 0) return null;
    return { invariant: 23, why: `${user} is not in ${group}`, place: told?.place ?? null };
  }

  /** Null: the user is not in a group whose members are kept out there. */
  barredBar(user: string, group: string, place: Place): Bar | null {
    const told = this.#last(this.#members.get(keyOf(user, group)) ?? [], place);
    if (told === undefined || told.value.excluded || told.value.sources.size === 0) return null;
    return { invariant: 23, why: `${user} is in ${group}`, place: told.place };
  }

  /** Null: the session's claim `round` there is below the number, or is unknown. */
  roundBar(session: string, below: number, place: Place): Bar | null {
    const told = this.#last(this.#sessions.get(session)?.rounds ?? [], place);
    if (told === undefined || told.value < below) return null;
    return { invariant: 23, why: `its round is ${told.value}`, place: told.place };
  }

  created(session: string, place: Place): Creation | undefined {
    return this.#last(this.#sessions.get(session)?.created ?? [], place)?.value;
  }

  /** True if any branch, including a lost one, denied the session or its user. */
  deniedAnywhere(session: string): boolean {
    const known = this.#sessions.get(session);
    if (known === undefined || known.denied.length > 0) return true;
    return known.created.some(({ place, value }) => {
      const person = this.#people.get(value.user);
      if (person === undefined) return false;
      if (person.status.some((told) => told.value !== "active")) return true;
      return person.cuts.some((cut) => place.link.position < cut.value && this.#chains.contains(cut.place, place));
    });
  }

  /** The newest creation of the session on any branch. */
  creationOf(session: string): Creation | undefined {
    return this.#sessions.get(session)?.created.at(-1)?.value;
  }

  /** Sessions of a user created at or before a place. */
  sessionsOf(user: string, place: Place): string[] {
    const found: string[] = [];
    for (const [id, session] of this.#sessions)
      if (this.#last(session.created, place)?.value.user === user) found.push(id);
    return found;
  }

  userBar(user: string, place: Place): Bar | null {
    const person = this.#people.get(user);
    const standing = person === undefined ? null : this.#standing(person, place);
    return standing === null ? null : { invariant: 22, why: `${user} is ${standing.value}`, place: standing.place };
  }

  /** True if an event after `after`, up to `place`, sets the user's status again. */
  restoredBehind(user: string, after: Place, place: Place): boolean {
    return (this.#people.get(user)?.status ?? []).some(
      (told) =>
        told.value === "active" &&
        this.#chains.contains(place, told.place) &&
        !this.#chains.contains(after, told.place),
    );
  }

  #standing(person: Person, place: Place): Told<string> | null {
    for (const told of person.status)
      if (told.value === "erased" && this.#chains.contains(place, told.place)) return told;
    const last = this.#last(person.status, place);
    return last === undefined || last.value === "active" ? null : last;
  }

  #foldOther(event: Exclude<CardeaEvent, { type: "SessionCreated" }>, place: Place): void {
    const { position } = place.link;
    switch (event.type) {
      case "SessionRevoked":
        this.#session(event.sessionId).denied.push({ place, value: { invariant: 21, why: "it was revoked" } });
        return;
      case "SessionsExpired":
        for (const id of event.sessionIds)
          this.#session(id).denied.push({ place, value: { invariant: 21, why: "it was swept" } });
        return;
      case "UserSessionsRevoked":
        this.#person(event.userId).cuts.push({ place, value: event.upTo === null ? position : event.upTo + 1 });
        return;
      case "UserSuspended":
      case "UserErased": {
        const person = this.#person(event.userId);
        person.cuts.push({ place, value: position });
        person.status.push({ place, value: event.type === "UserErased" ? "erased" : "suspended" });
        return;
      }
      case "TighteningReasserted":
        this.#obey(event.subject, place);
        return;
      case "UserRestored":
        this.#person(event.userId).status.push({ place, value: "active" });
        return;
      case "GroupMembersChanged":
        for (const user of event.added) this.#change(user, event.groupId, place, { add: event.source });
        for (const user of event.removed) this.#change(user, event.groupId, place, { remove: event.source });
        return;
      case "UserGroupsReplaced": {
        const wanted = new Set<string>(event.groupIds);
        for (const group of this.#groupsOf.get(event.userId) ?? [])
          if (!wanted.has(group)) this.#change(event.userId, group, place, { remove: event.source });
        for (const group of wanted) this.#change(event.userId, group, place, { add: event.source });
        return;
      }
      case "GroupRemoved":
        for (const user of this.#membersOf.get(event.groupId) ?? [])
          this.#tell(user, event.groupId, { place, value: nowhere });
        return;
      default: // no other event grants or denies access
    }
  }

  #change(user: string, group: string, place: Place, how: Readonly<{ add: string } | { remove: string }>): void {
    const before = this.#last(this.#members.get(keyOf(user, group)) ?? [], place)?.value ?? nowhere;
    const sources = new Set(before.sources);
    let { excluded } = before;
    if ("add" in how) {
      sources.add(how.add);
      if (how.add === "operator") excluded = false;
    } else {
      sources.delete(how.remove);
      if (how.remove === "operator") excluded = true;
    }
    this.#tell(user, group, { place, value: { sources, excluded } });
  }

  #tell(user: string, group: string, told: Told<Member>): void {
    const key = keyOf(user, group);
    listIn(this.#members, key).push(told);
    setIn(this.#groupsOf, user).add(group);
    setIn(this.#membersOf, group).add(user);
  }

  /** Applies a final fact of an unknown type: it denies the subject of its stream. */
  #obey(stream: string, place: Place): void {
    const colon = stream.indexOf(":");
    const [kind, id] = [stream.slice(0, colon), stream.slice(colon + 1)];
    if (kind === "session")
      this.#session(id).denied.push({ place, value: { invariant: 16, why: "an unknown final event said no" } });
    if (kind !== "user") return;
    const person = this.#person(id);
    person.cuts.push({ place, value: place.link.position });
    person.status.push({ place, value: "suspended" });
  }

  /** The newest value recorded at or before a place. */
  #last<Value>(list: readonly Told<Value>[], place: Place): Told<Value> | undefined {
    for (let i = list.length - 1; i >= 0; i -= 1) {
      const told = list[i];
      if (told !== undefined && this.#chains.contains(place, told.place)) return told;
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

/**
 * Memberships: the members of each group and the groups of each person, in about 12 bytes per membership. Pure.
 *
 * - A person's list has one word per group: the group's number and six bits, one for each of the five sources and one
 *   for the exclusion. A group's list has its people.
 * - Results are built on each call. Only `groupsOf` is cached, for recently requested people; it returns the same set
 *   object until that person's memberships change, or one of them ends by itself.
 * - Ends are in a table of their own, so only time-boxed memberships cost bytes for them.
 */

import { copyString } from "../codec/copy-string.ts";
import type { MembershipSource } from "../entities/group-events.ts";
import type { GroupId, UnixMs, UserId } from "../ids.ts";
import { GenerationalCache } from "../session-index/generational-cache.ts";
import { EndIndex } from "./end-index.ts";
import { ListPool } from "./list-pool.ts";
import { isMember, type Membership, type MembershipClaim } from "./state.ts";

/** In alphabetical order, as in `Membership.sources`. The bits are in snapshots, so they never change. */
const bitOf: Readonly<Record<MembershipSource, number>> = { directory: 1, idp: 2, operator: 4, request: 32, scim: 8 };
const sources = Object.keys(bitOf) as readonly MembershipSource[];
const excludedBit = 16;
const formBits = 6;
const formMask = (1 << formBits) - 1;
/** One object for each of the 64 possible memberships. */
const forms: readonly Membership[] = Array.from({ length: 1 << formBits }, (_, bits) => ({
  sources: sources.filter((source) => (bits & bitOf[source]) !== 0),
  excluded: (bits & excludedBit) !== 0,
}));
/** Bound of the cached sets of groups, and the approximate size of one. */
const effectiveBytesMax = 64 * 1024 * 1024;
const effectiveBytes = ({ groups }: EffectiveGroups): number => 288 + 48 * groups.size;
/** The effective groups of a person from one end to the next: at `from` and later, before `until`. */
type EffectiveGroups = Readonly<{ groups: ReadonlySet<GroupId>; from: number; until: number }>;
const always = { from: Number.NEGATIVE_INFINITY, until: Number.POSITIVE_INFINITY };
/** Shorter lists are scanned just as fast. */
const indexedFrom = 64;
/** Consecutive searches of one person's list before it is indexed: building the index costs several searches. */
const searchesBeforeIndex = 16;

export function bitsOfMembership({ sources: claimed, excluded }: Membership): number {
  return claimed.reduce((bits, source) => bits | bitOf[source], excluded ? excludedBit : 0);
}

export class Memberships {
  readonly #people = new NumberedNames<UserId>();
  readonly #groups = new NumberedNames<GroupId>();
  readonly #groupsOf = new ListPool();
  readonly #peopleIn = new ListPool();
  readonly #effective = new GenerationalCache<UserId, EffectiveGroups>(effectiveBytesMax, effectiveBytes);
  /** Ends of operators' additions and of requested access, by the numbers of the person and the group. */
  readonly #claims = new Map<number, Map<number, MembershipClaim>>();
  /** People by their next operator's addition that ends. The ends of requests are in access-requests.ts. */
  readonly #grantEnds = new EndIndex<number>();
  #grantCount = 0;
  /**
   * The person searched last, and an index of their list after many searches in a row: an event that changes thousands
   * of a person's groups then takes linear, not quadratic time.
   */
  #lastSearch: { person: number; times: number; index: Map<number, number> | null } = {
    person: -1,
    times: 0,
    index: null,
  };

  /** How many people have a membership. */
  get size(): number {
    return this.#people.size;
  }

  get(userId: UserId, groupId: GroupId): Membership | undefined {
    const person = this.#people.find(userId);
    const group = this.#groups.find(groupId);
    if (person === undefined || group === undefined) return undefined;
    const at = this.#find(person, group);
    return at < 0 ? undefined : this.#formOf(person, this.#groupsOf.get(person, at));
  }

  #formOf(person: number, word: number): Membership {
    const form = forms[word & formMask] as Membership;
    const claim = this.#claims.get(person)?.get(word >>> formBits);
    return claim === undefined ? form : ({ ...form, ...claim } as Membership);
  }

  of(userId: UserId): Map<GroupId, Membership> {
    const all = new Map<GroupId, Membership>();
    const person = this.#people.find(userId);
    if (person === undefined) return all;
    for (const word of this.#groupsOf.view(person))
      all.set(this.#groups.nameOf(word >>> formBits), this.#formOf(person, word));
    return all;
  }

  peopleIn(groupId: GroupId): Set<UserId> {
    const group = this.#groups.find(groupId);
    const people = new Set<UserId>();
    if (group !== undefined) for (const person of this.#peopleIn.view(group)) people.add(this.#people.nameOf(person));
    return people;
  }

  /**
   * As `peopleIn`, one after the other, for lists that let other work go first meanwhile. Someone who has left since
   * may be among them.
   */
  *eachIn(groupId: GroupId): Generator<UserId> {
    const group = this.#groups.find(groupId);
    if (group === undefined) return;
    for (const person of this.#peopleIn.view(group).slice()) {
      const userId: UserId | undefined = this.#people.nameOf(person);
      if (userId !== undefined) yield userId;
    }
  }

  groupsOf(userId: UserId, now: UnixMs): ReadonlySet<GroupId> {
    const known = this.#effective.get(userId);
    if (known !== undefined && known.from <= now && now < known.until) return known.groups;
    const groups = new Set<GroupId>();
    const person = this.#people.find(userId);
    const words = person === undefined ? [] : this.#groupsOf.view(person);
    for (const word of words)
      if (isMember(this.#formOf(person ?? 0, word), now)) groups.add(this.#groups.nameOf(word >>> formBits));
    this.#effective.set(userId, { groups, ...this.#intervalOf(person, now) });
    return groups;
  }

  /** The time between two ends of a person's memberships in which `now` lies. */
  #intervalOf(person: number | undefined, now: UnixMs): Readonly<{ from: number; until: number }> {
    const claims = person === undefined ? undefined : this.#claims.get(person);
    if (claims === undefined) return always;
    let { from, until } = always;
    for (const { grant, requested } of claims.values())
      for (const end of [grant?.until ?? null, requested?.until ?? null]) {
        if (end === null) continue;
        if (end <= now) from = Math.max(from, end);
        else until = Math.min(until, end);
      }
    return { from, until };
  }

  /** The next end of a membership of the person; null: none. */
  nextEndOf(userId: UserId, now: UnixMs): UnixMs | null {
    if (this.#claims.size === 0) return null;
    const { until } = this.#intervalOf(this.#people.find(userId), now);
    return until === always.until ? null : (until as UnixMs);
  }

  get timeBoxes(): number {
    return this.#grantCount;
  }

  /** People of one group whose grants have ended, at most `limit`; null: none. */
  expired(now: UnixMs, limit: number): Readonly<{ groupId: GroupId; userIds: readonly UserId[] }> | null {
    let group: number | undefined;
    const userIds: UserId[] = [];
    for (const person of this.#grantEnds.ended(now, limit))
      for (const [each, { grant }] of this.#claims.get(person) ?? []) {
        if (grant === undefined || grant.until > now || (group !== undefined && each !== group)) continue;
        group = each;
        userIds.push(this.#people.nameOf(person));
      }
    return group === undefined ? null : { groupId: this.#groups.nameOf(group), userIds };
  }

  #setClaim(person: number, group: number, claim: MembershipClaim | undefined): void {
    const claims = this.#claims.get(person);
    if (claims === undefined && claim === undefined) return;
    const changed = claims ?? new Map<number, MembershipClaim>();
    if (changed.get(group)?.grant !== undefined) this.#grantCount -= 1;
    if (claim === undefined) changed.delete(group);
    else changed.set(group, claim);
    if (claim?.grant !== undefined) this.#grantCount += 1;
    if (changed.size === 0) this.#claims.delete(person);
    else this.#claims.set(person, changed);
    let earliest = Number.POSITIVE_INFINITY;
    for (const { grant } of changed.values()) earliest = Math.min(earliest, grant?.until ?? earliest);
    this.#grantEnds.set(person, earliest === Number.POSITIVE_INFINITY ? undefined : (earliest as UnixMs));
  }

  /** All people with a membership, in no particular order. Live: reflects changes during the iteration. */
  *people(): Generator<UserId> {
    for (let person = 0; person < this.#people.end; person++)
      if (this.#groupsOf.lengthOf(person) > 0) yield this.#people.nameOf(person);
  }

  put(userId: UserId, groupId: GroupId, membership: Membership | undefined): void {
    this.#effective.delete(userId);
    const person = this.#people.numberOf(userId);
    const group = this.#groups.numberOf(groupId);
    const at = this.#find(person, group);
    this.#setClaim(person, group, claimOf(membership));
    if (membership === undefined) {
      if (at >= 0) this.#remove(person, group, at);
      this.#releaseUnused(person, group);
      return;
    }
    const word = ((group << formBits) | bitsOfMembership(membership)) >>> 0;
    if (at >= 0) this.#groupsOf.set(person, at, word);
    else {
      this.#indexOf(person)?.set(group, this.#groupsOf.lengthOf(person));
      this.#groupsOf.push(person, word);
      this.#peopleIn.push(group, person);
    }
  }

  /**
   * Sets all memberships of a person who had none.
   * @param userId not a slice of a longer string, which would stay in memory
   * @param groupNumbers from `numberOf`
   */
  load(userId: UserId, groupNumbers: Uint32Array, bits: Uint8Array): void {
    const person = this.#people.numberOfOwn(userId);
    this.#lastSearch = { person: -1, times: 0, index: null };
    this.#groupsOf.fill(person, groupNumbers.length);
    for (let at = 0; at < groupNumbers.length; at++) {
      const group = groupNumbers[at] ?? 0;
      this.#groupsOf.set(person, at, ((group << formBits) | (bits[at] ?? 0)) >>> 0);
      this.#peopleIn.push(group, person);
    }
  }

  /** Sets an end of a membership that `load` has set. */
  loadClaim(userId: UserId, groupNumber: number, claim: MembershipClaim): void {
    const person = this.#people.numberOfOwn(userId);
    this.#setClaim(person, groupNumber, { ...this.#claims.get(person)?.get(groupNumber), ...claim });
  }

  /** For `load`. A group that gets no member keeps its name in memory. */
  numberOf(groupId: GroupId): number {
    return this.#groups.numberOf(groupId);
  }

  #find(person: number, group: number): number {
    if (person === this.#lastSearch.person) {
      this.#lastSearch.times += 1;
      const { index } = this.#lastSearch;
      if (index !== null) return index.get(group) ?? -1;
    } else this.#lastSearch = { person, times: 1, index: null };
    const words = this.#groupsOf.view(person);
    if (words.length >= indexedFrom && this.#lastSearch.times >= searchesBeforeIndex) {
      const index = new Map<number, number>();
      for (let at = 0; at < words.length; at++) index.set((words[at] ?? 0) >>> formBits, at);
      this.#lastSearch.index = index;
      return index.get(group) ?? -1;
    }
    for (let at = 0; at < words.length; at++) if ((words[at] ?? 0) >>> formBits === group) return at;
    return -1;
  }

  #indexOf(person: number): Map<number, number> | null {
    return this.#lastSearch.person === person ? this.#lastSearch.index : null;
  }

  #remove(person: number, group: number, at: number): void {
    const index = this.#indexOf(person);
    if (index !== null) {
      const last = this.#groupsOf.lengthOf(person) - 1;
      index.set(this.#groupsOf.get(person, last) >>> formBits, at);
      index.delete(group);
    }
    this.#groupsOf.removeAt(person, at);
    this.#peopleIn.removeAt(group, this.#peopleIn.view(group).indexOf(person));
  }

  /** Frees the numbers of a person without groups and of a group without people. */
  #releaseUnused(person: number, group: number): void {
    if (this.#groupsOf.lengthOf(person) === 0) this.#people.release(person);
    if (this.#peopleIn.lengthOf(group) === 0) this.#groups.release(group);
  }
}

/** Undefined: it has no end. */
function claimOf(membership: Membership | undefined): MembershipClaim | undefined {
  if (membership === undefined) return undefined;
  const { grant, requested } = membership;
  if (grant === undefined && requested === undefined) return undefined;
  return { ...(grant === undefined ? {} : { grant }), ...(requested === undefined ? {} : { requested }) };
}

/** Numbers names from 0; reuses the numbers of released names. */
class NumberedNames<Name extends string> {
  readonly #numbers = new Map<Name, number>();
  readonly #names: (Name | undefined)[] = [];
  readonly #free: number[] = [];

  get end(): number {
    return this.#names.length;
  }
  get size(): number {
    return this.#numbers.size;
  }
  find(name: Name): number | undefined {
    return this.#numbers.get(name);
  }
  nameOf(number: number): Name {
    return this.#names[number] as Name;
  }

  numberOf(name: Name): number {
    return this.#numbers.get(name) ?? this.#add(copyString(name));
  }

  numberOfOwn(name: Name): number {
    return this.#numbers.get(name) ?? this.#add(name);
  }

  #add(own: Name): number {
    const number = this.#free.pop() ?? this.#names.length;
    this.#names[number] = own;
    this.#numbers.set(own, number);
    return number;
  }

  release(number: number): void {
    const name = this.#names[number];
    if (name === undefined) return;
    this.#names[number] = undefined;
    this.#numbers.delete(name);
    this.#free.push(number);
  }
}

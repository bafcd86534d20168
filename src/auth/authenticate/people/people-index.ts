/**
 * People index: which profile of each user was read last, which users a person's profile names, and the earlier users
 * of records that have moved. The indexes of SCIM, of directories and of signals are built on it. Pure.
 *
 * "Names" is what the owner of the index derives from a profile: provisioned people who correlate, or records of
 * signals. Nothing here is a source of truth.
 */
import type { Sealed, UserId } from "../../../events/index.ts";

const none: readonly UserId[] = [];

export class PeopleIndex {
  /** Most changes of a person leave the profile as it is, so it need not be opened again. */
  readonly #profiles = new Map<UserId, Sealed>();
  readonly #named = new Map<UserId, readonly UserId[]>();
  readonly #people = new Map<UserId, Set<UserId>>();
  readonly #aliases = new Map<UserId, Set<UserId>>();

  /** Whether a profile is the one that was read last. */
  hasRead(userId: UserId, profile: Sealed | null | undefined): boolean {
    return profile !== null && profile !== undefined && this.#profiles.get(userId) === profile;
  }
  recordRead(userId: UserId, profile: Sealed): void {
    this.#profiles.set(userId, profile);
  }
  /** The profile is to be read again. */
  forgetRead(userId: UserId): void {
    this.#profiles.delete(userId);
  }
  forgetReads(): void {
    this.#profiles.clear();
  }

  /** Replaces what the person's profile names. */
  setNamed(person: UserId, named: readonly UserId[]): void {
    this.removeNamed(person);
    this.#named.set(person, named.length === 0 ? none : named);
    for (const userId of named) addTo(this.#people, userId, person);
  }
  /** What the person's profile names is not known. */
  removeNamed(person: UserId): void {
    for (const userId of this.#named.get(person) ?? none) deleteFrom(this.#people, userId, person);
    this.#named.delete(person);
  }
  /** Undefined: not known. */
  namedBy(person: UserId): readonly UserId[] | undefined {
    return this.#named.get(person);
  }
  /** The people whose profiles are known, or name a user. */
  knownPeople(): IterableIterator<UserId> {
    return this.#named.keys();
  }
  /** The people whose profiles name a user. */
  peopleNaming(userId: UserId): ReadonlySet<UserId> {
    return this.#people.get(userId) ?? new Set();
  }

  /** The record of a user has moved to another. */
  addAlias(movedTo: UserId, userId: UserId): void {
    addTo(this.#aliases, movedTo, userId);
  }
  removeAlias(movedTo: UserId, userId: UserId): void {
    deleteFrom(this.#aliases, movedTo, userId);
  }
  /** Earlier users of the record of a user. */
  aliasesOf(userId: UserId): readonly UserId[] {
    if (!this.#aliases.has(userId)) return none;
    const found = new Set<UserId>([userId]);
    for (const each of found) for (const alias of this.#aliases.get(each) ?? []) found.add(alias);
    found.delete(userId);
    return [...found];
  }
  /** The people whose profiles name a user, or an earlier user of its record. */
  peopleOf(userId: UserId): readonly UserId[] {
    const people = new Set<UserId>();
    for (const each of [userId, ...this.aliasesOf(userId)])
      for (const person of this.peopleNaming(each)) people.add(person);
    return [...people];
  }
}

export function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([value]));
  else set.add(value);
}

export function deleteFrom<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  set?.delete(value);
  if (set?.size === 0) map.delete(key);
}

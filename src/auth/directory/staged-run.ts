/**
 * Staged run: what the pages of one run have said so far, in about 10 bytes per membership. Pure.
 *
 * The last word about a person, group or membership counts. Everything is bounded; a directory beyond a bound fails the
 * run, which removes nothing.
 */
import type { DirectoryMode } from "../../events/index.ts";
import { DirectoryError } from "./directory-error.ts";
import type { DirectoryMembers, DirectoryPage, DirectoryPerson } from "./source.ts";

export const peopleMax = 500_000;
export const groupsMax = 100_000;
export const membershipsMax = 5_000_000;
/** Memberships after groups inside groups were followed. */
const expandedMax = 20_000_000;
const problemsShown = 5;

export type StagedGroup = {
  readonly id: string;
  /** Null: only its members were mentioned. */
  name: string | null;
  /** Numbers of people from 1: positive where a member was added, negative where one was removed, oldest first. */
  readonly members: number[];
  readonly inner: Set<string>;
  isWhole: boolean;
};

export class StagedRun {
  readonly mode: DirectoryMode;
  readonly #numbers = new Map<string, number>();
  readonly #ids: string[] = [];
  readonly #people = new Map<number, DirectoryPerson>();
  readonly #removedPeople = new Set<number>();
  readonly #groups = new Map<string, StagedGroup>();
  readonly #removedGroups = new Set<string>();
  readonly #problems: string[] = [];
  #problemCount = 0;
  #memberships = 0;
  #isNested = false;
  #expanded = 0;

  constructor(mode: DirectoryMode) {
    this.mode = mode;
  }

  /** @param page as `checkPage` returned it @throws DirectoryError `malformed` beyond a bound */
  add(page: DirectoryPage): void {
    for (const person of page.people) {
      const number = this.#numberOf(person.id);
      this.#people.set(number, person);
      this.#removedPeople.delete(number);
    }
    for (const id of page.removedPeople) {
      const number = this.#numberOf(id);
      this.#people.delete(number);
      this.#removedPeople.add(number);
    }
    for (const { id, name } of page.groups) {
      this.#groupOf(id).name = name;
      this.#removedGroups.delete(id);
    }
    for (const members of page.members) this.#addMembers(members, 1);
    for (const members of page.removedMembers) this.#addMembers(members, -1);
    for (const id of page.wholeGroups) this.#groupOf(id).isWhole = true;
    for (const id of page.removedGroups) {
      this.#groups.delete(id);
      this.#removedGroups.add(id);
    }
    this.#problemCount += page.problems.length;
    for (const { message } of page.problems)
      if (this.#problems.length < problemsShown) this.#problems.push(message.slice(0, 100));
    requireAtMost(this.#ids.length, peopleMax, "people");
    requireAtMost(this.#groups.size + this.#removedGroups.size, groupsMax, "groups");
    requireAtMost(this.#memberships, membershipsMax, "memberships");
  }

  get people(): ReadonlyMap<number, DirectoryPerson> {
    return this.#people;
  }
  get removedPeople(): ReadonlySet<number> {
    return this.#removedPeople;
  }
  get groups(): ReadonlyMap<string, StagedGroup> {
    return this.#groups;
  }
  get removedGroups(): ReadonlySet<string> {
    return this.#removedGroups;
  }
  /** A group is inside another one. */
  get isNested(): boolean {
    return this.#isNested;
  }
  get problems(): Readonly<{ count: number; first: readonly string[] }> {
    return { count: this.#problemCount, first: this.#problems };
  }
  idOf(number: number): string {
    return this.#ids[number - 1] ?? "";
  }

  /** The members of a group and of the groups inside it. @throws DirectoryError `malformed` beyond a bound */
  membersOf(groupId: string): ReadonlySet<number> {
    const members = new Set<number>();
    const visited = new Set([groupId]);
    for (const id of visited) {
      const group = this.#groups.get(id);
      if (group === undefined) continue;
      const own = new Set<number>();
      for (const number of group.members) {
        if (number > 0) own.add(number);
        else own.delete(-number);
      }
      for (const number of own) members.add(number);
      for (const inner of group.inner) visited.add(inner);
    }
    this.#expanded += members.size;
    requireAtMost(this.#expanded, expandedMax, "memberships, with groups inside groups,");
    return members;
  }

  #addMembers({ groupId, people, groups }: DirectoryMembers, sign: 1 | -1): void {
    const group = this.#groupOf(groupId);
    for (const id of people) group.members.push(sign * this.#numberOf(id));
    for (const id of groups) {
      this.#isNested = true;
      if (sign > 0) group.inner.add(id);
      else group.inner.delete(id);
    }
    this.#memberships += people.length + groups.length;
  }

  #groupOf(id: string): StagedGroup {
    const known = this.#groups.get(id);
    if (known !== undefined) return known;
    const group: StagedGroup = { id, name: null, members: [], inner: new Set(), isWhole: this.mode === "full" };
    this.#groups.set(id, group);
    return group;
  }

  #numberOf(id: string): number {
    const known = this.#numbers.get(id);
    if (known !== undefined) return known;
    this.#ids.push(id);
    this.#numbers.set(id, this.#ids.length);
    return this.#ids.length;
  }
}

function requireAtMost(count: number, max: number, what: string): void {
  if (count > max)
    throw new DirectoryError(`the directory has more than ${max} ${what} and is not read`, { kind: "malformed" });
}

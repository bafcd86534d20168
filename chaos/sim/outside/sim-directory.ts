/**
 * Simulated directory: people and groups of an HR directory, as its API shows them page by page.
 *
 * - Each run reads the state at its first page. A delta has the changes since an earlier run.
 * - It is slow, does not answer, asks for fewer requests, answers in part, is suddenly empty, and forgets cursors and
 *   deltas. After `calm` it does none of that, and does not change.
 */
import {
  DirectoryError,
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  emptyPage,
  type ReadRequest,
} from "../../../src/auth/directory/index.ts";
import type { Stream } from "../random.ts";
import type { World } from "../world.ts";
import type { DirectoryState } from "./outside-facts.ts";

const itemsPerPage = 3;
const fails = { page: 0.07, limited: 0.05, partial: 0.06, empty: 0.15, delta: 0.12, cursor: 0.02 };
/** What it changes in one step: a person, or a membership. */
type Change = Readonly<{ type: "person"; id: string }> | Readonly<{ type: "member"; group: string; id: string }>;

type Run = {
  readonly number: number;
  readonly mode: "full" | "delta";
  readonly items: readonly DirectoryPage[];
  readonly delta: string;
};

export class SimDirectory {
  readonly #world: World;
  readonly #random: Stream;
  readonly #groups: readonly string[];
  readonly #people = new Map<string, boolean>();
  readonly #members = new Map<string, Set<string>>();
  readonly #changes: Change[] = [];
  readonly #runs = new Map<string, Run>();
  readonly #newest = new Map<string, number>();
  #count = 0;
  #isCalm = false;

  constructor(world: World, of: Readonly<{ people: readonly string[]; groups: readonly string[] }>) {
    this.#world = world;
    this.#random = world.random("directory");
    this.#groups = of.groups;
    for (const id of of.people) this.#people.set(id, true);
    for (const group of of.groups) this.#members.set(group, new Set(of.people.filter(() => this.#random.chance(0.5))));
  }

  /** Changes one person or membership. @param by from 0 (inclusive) to 1 (exclusive), as are the others */
  change({ by, group, how }: Readonly<{ by: number; group: number; how: number }>): void {
    if (this.#isCalm) return;
    const ids = this.#known();
    const id = ids[Math.floor(by * ids.length)];
    const name = this.#groups[Math.floor(group * this.#groups.length)];
    if (id === undefined || name === undefined) return;
    if (how < 0.6) this.#setMember(name, id, this.#members.get(name)?.has(id) !== true);
    else if (how < 0.85) this.#setPerson(id, this.#people.get(id) !== true);
    else if (this.#people.has(id)) {
      for (const [group, members] of this.#members) if (members.has(id)) this.#setMember(group, id, false);
      this.#people.delete(id);
      this.#changes.push({ type: "person", id });
    }
    this.#report();
  }

  /** No more changes and failures. */
  calm(): void {
    this.#isCalm = true;
    this.#report();
  }

  /** Answers, or throws what the source would. @param process the reader */
  read(process: string, { since, cursor }: Pick<ReadRequest, "since" | "cursor">): DirectoryPage {
    const isBad = (chance: number): boolean => !this.#isCalm && this.#random.chance(chance);
    if (cursor !== null) return this.#page(process, this.#runAt(cursor, isBad(fails.cursor)), cursor, isBad);
    const run = this.#begin(process, since, isBad);
    return this.#page(process, run, `${run.number}:0`, isBad);
  }

  /** The number of the run that this process began last. */
  newestRunOf(process: string): number {
    return this.#newest.get(process) ?? 0;
  }

  #known(): readonly string[] {
    const ids = new Set(this.#people.keys());
    for (const change of this.#changes) if (change.type !== "member") ids.add(change.id);
    return [...ids].sort();
  }

  #setPerson(id: string, active: boolean): void {
    this.#people.set(id, active);
    this.#changes.push({ type: "person", id });
  }

  #setMember(group: string, id: string, isIn: boolean): void {
    if (!this.#people.has(id)) this.#setPerson(id, true);
    if (isIn) this.#members.get(group)?.add(id);
    else this.#members.get(group)?.delete(id);
    this.#changes.push({ type: "member", group, id });
  }

  get state(): DirectoryState {
    const groups = Object.fromEntries([...this.#members].map(([group, ids]) => [group, [...ids]]));
    return { people: Object.fromEntries(this.#people), groups };
  }

  #report(): void {
    const { state } = this;
    this.#world.report({ type: "directory-changed", at: this.#world.now, process: "operator", state });
  }

  #begin(process: string, since: string | null, isBad: (chance: number) => boolean): Run {
    const from = since === null ? null : Number(since.slice(1));
    if (from !== null && (isBad(fails.delta) || !Number.isInteger(from))) {
      throw new DirectoryError("the changes since then are gone", { kind: "deltaExpired" });
    }
    this.#count += 1;
    const isEmpty = from === null && isBad(fails.empty);
    const run: Run = {
      number: this.#count,
      mode: from === null ? "full" : "delta",
      items: isEmpty ? [] : from === null ? this.#whole() : this.#since(from),
      delta: `d${this.#changes.length}`,
    };
    this.#runs.set(`${run.number}`, run);
    this.#newest.set(process, run.number);
    const { state } = this;
    const at = { at: this.#world.now, process };
    this.#world.report({ type: "directory-run", ...at, run: run.number, mode: run.mode, isEmpty, state });
    return run;
  }

  #runAt(cursor: string, isLost: boolean): Run {
    const run = this.#runs.get(cursor.split(":")[0] ?? "");
    if (run === undefined || isLost) throw new DirectoryError("the cursor is gone", { kind: "deltaExpired" });
    return run;
  }

  #page(process: string, run: Run, cursor: string, isBad: (chance: number) => boolean): DirectoryPage {
    const report = (what: "page" | "failed" | "partial" | "last"): void =>
      this.#world.report({ type: "directory-page", at: this.#world.now, process, run: run.number, what });
    if (isBad(fails.page)) {
      report("failed");
      throw new DirectoryError("no answer in time", { kind: "unreachable" });
    }
    if (isBad(fails.limited)) {
      report("failed");
      throw new DirectoryError("fewer requests", { kind: "limited", retryAfterMs: this.#random.between(200, 4_000) });
    }
    const from = Number(cursor.split(":")[1]);
    const items = run.items.slice(from, from + itemsPerPage);
    const isLast = from + itemsPerPage >= run.items.length;
    const end = isLast
      ? { next: null, delta: run.delta }
      : { next: `${run.number}:${from + itemsPerPage}`, delta: null };
    if (items.length > 0 && isBad(fails.partial)) {
      report("partial");
      return { ...emptyPage, problems: [{ about: null, message: "a part could not be read" }], ...end };
    }
    report(isLast ? "last" : "page");
    return { ...joined(items), ...end };
  }

  #whole(): readonly DirectoryPage[] {
    const groups = [...this.#members].map(([group, ids]) => ({
      ...emptyPage,
      groups: [{ id: `g-${group}`, name: group }],
      members: [membersOf(group, [...ids])],
    }));
    return [...[...this.#people].map(([id, active]) => personPage(id, active)), ...groups];
  }

  /** What is different since then, each person and membership once. */
  #since(from: number): readonly DirectoryPage[] {
    const changed = new Map(this.#changes.slice(from).map((change) => [JSON.stringify(change), change]));
    return [...changed.values()].map((change): DirectoryPage => {
      if (change.type === "person") {
        const active = this.#people.get(change.id);
        return active === undefined ? { ...emptyPage, removedPeople: [change.id] } : personPage(change.id, active);
      }
      const { group, id } = change;
      const members = [membersOf(group, [id])];
      const groups = [{ id: `g-${group}`, name: group }];
      const isIn = this.#members.get(group)?.has(id) === true;
      return isIn ? { ...emptyPage, groups, members } : { ...emptyPage, groups, removedMembers: members };
    });
  }
}

function personPage(id: string, active: boolean): DirectoryPage {
  const person: DirectoryPerson = { id, userName: id, email: null, name: id, active };
  return { ...emptyPage, people: [person] };
}

const membersOf = (group: string, people: readonly string[]): DirectoryMembers => ({
  groupId: `g-${group}`,
  people,
  groups: [],
});

function joined(pages: readonly DirectoryPage[]): DirectoryPage {
  const all = <Key extends "people" | "groups" | "members" | "removedPeople" | "removedMembers">(key: Key) =>
    pages.flatMap((page) => [...page[key]] as DirectoryPage[Key][number][]);
  return {
    ...emptyPage,
    ...{ people: all("people"), groups: all("groups"), members: all("members") },
    ...{ removedPeople: all("removedPeople"), removedMembers: all("removedMembers") },
  };
}

/**
 * Contract of directory sources: one suite for every adapter. An adapter's test builds the adapter over a directory
 * that it controls: a real server, or one that answers exactly as the provider documents.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DirectoryError, type DirectoryErrorKind } from "../../src/auth/directory/directory-error.ts";
import { checkPage } from "../../src/auth/directory/page-check.ts";
import type { DirectoryPage, DirectoryPerson, DirectorySource } from "../../src/auth/directory/source.ts";

/** What a directory has. `groups` of a group are groups inside it. */
export type DirectoryContent = Readonly<{
  people: readonly DirectoryPerson[];
  groups: readonly Readonly<{ id: string; name: string; people: readonly string[]; groups: readonly string[] }>[];
}>;

/**
 * What goes wrong with the requests that follow.
 * - `limited`: the next answer asks for a pause of 2 seconds. `unavailable`: it gets no answer, or a 5xx.
 * - `cut`: the connection ends in the middle of the next answer. `refused`: every credential is refused.
 */
export type DirectoryFault = "limited" | "unavailable" | "cut" | "refused";

export type ControlledDirectory = Readonly<{
  /** A new source over the directory, as after a restart of the process. Its pages have few entries. */
  open(): DirectorySource;
  set(content: DirectoryContent): void | Promise<void>;
  /** `after`: how many requests are answered well before. */
  fail(fault: DirectoryFault, after: number): void;
  heal(): void;
  /** Entries get fields that the source does not know. */
  addUnknownFields(): void | Promise<void>;
  /** One group cannot be read while everything else can. Absent: the directory has no such state. */
  hideGroup?(groupId: string): void;
  close(): Promise<void>;
}>;

export type DirectoryOffers = Readonly<{
  /** Faults that the directory can have. A file has no rate limit. */
  faults: readonly DirectoryFault[];
  nestedGroups: boolean;
  /** The source returns a `delta`. */
  delta: boolean;
  /** The directory can list one person twice. */
  duplicates: boolean;
  /** The members are requested for each group, after the groups have been listed. */
  membersApart?: true;
  /** The directory vouches for no e-mail. */
  withoutEmail?: true;
  /** The ids and texts that the directory can have; absent: any. */
  personId?(n: number): string;
  groupId?(n: number): string;
}>;

type Collected = Readonly<{
  people: ReadonlyMap<string, DirectoryPerson>;
  groups: ReadonlyMap<string, string>;
  members: ReadonlyMap<string, ReadonlySet<string>>;
  inner: ReadonlyMap<string, ReadonlySet<string>>;
  removedPeople: readonly string[];
  removedMembers: readonly string[];
  wholeGroups: ReadonlySet<string>;
  problems: readonly string[];
  pages: number;
  delta: string | null;
}>;

const pagesMax = 500;
const signal = (): AbortSignal => AbortSignal.timeout(20_000);

export function directorySourceContract(
  name: string,
  offers: DirectoryOffers,
  build: () => Promise<ControlledDirectory>,
): void {
  const person = (n: number, fields: Partial<DirectoryPerson> = {}): DirectoryPerson => ({
    id: offers.personId?.(n) ?? `person-${n}`,
    userName: `user${n}@example.com`,
    email: offers.withoutEmail === true ? null : `user${n}@example.com`,
    name: `User ${n}`,
    active: true,
    ...fields,
  });
  const groupId = (n: number): string => offers.groupId?.(n) ?? `group-${n}`;
  const group = (n: number, people: readonly string[], groups: readonly string[] = []) => ({
    id: groupId(n),
    name: `team ${n}`,
    people,
    groups,
  });
  const people = Array.from({ length: 7 }, (_, n) => person(n));
  const ids = people.map(({ id }) => id);
  const content: DirectoryContent = { people, groups: [group(1, ids.slice(0, 5)), group(2, ids.slice(4))] };

  const check = (title: string, body: (directory: ControlledDirectory) => Promise<void>): void => {
    test(`${name}: ${title}`, { timeout: 60_000 }, async () => {
      const directory = await build();
      try {
        await body(directory);
      } finally {
        await directory.close();
      }
    });
  };

  check("a full run reads every person, group and membership, in pages", async (directory) => {
    await directory.set(content);
    const read = await readAll(directory.open());
    assertContent(read, content);
    assert.ok(read.pages > 1, "the test needs a source whose pages are smaller than the directory");
    assert.deepEqual(read.problems, []);
    assert.deepEqual(read.removedPeople, []);
    assert.equal(read.delta !== null, offers.delta);
  });

  check("a run that another process continues from the last cursor reads the same", async (directory) => {
    await directory.set(content);
    const first = directory.open();
    const pages: DirectoryPage[] = [];
    let cursor: string | null = null;
    for (let turn = 0; turn < pagesMax; turn++) {
      const source = turn === 0 ? first : directory.open();
      const page: DirectoryPage = await source.read({ since: null, cursor, signal: signal() });
      pages.push(checkPage(page, "full"));
      await source.close();
      cursor = page.next;
      if (cursor === null) break;
    }
    assertContent(collect(pages), content);
  });

  if (offers.membersApart === true)
    check("a group that goes before its members are read makes the run partial", async (directory) => {
      await directory.set(content);
      const source = directory.open();
      const pages: DirectoryPage[] = [];
      let cursor: string | null = null;
      do {
        const page: DirectoryPage = await source.read({ since: null, cursor, signal: signal() });
        pages.push(checkPage(page, "full"));
        if (page.groups.length > 0) await directory.set({ people, groups: [] });
        cursor = page.next;
      } while (cursor !== null && pages.length < pagesMax);
      assert.ok(collect(pages).groups.size > 0);
      assert.ok(collect(pages).problems.length > 0, "without a problem the run would remove the members");
    });

  check("a page that was requested twice changes nothing", async (directory) => {
    await directory.set(content);
    const source = directory.open();
    const pages: DirectoryPage[] = [];
    let cursor: string | null = null;
    do {
      const request = { since: null, cursor, signal: signal() };
      pages.push(await source.read(request), await source.read(request));
      cursor = pages.at(-1)?.next ?? null;
    } while (cursor !== null && pages.length < pagesMax);
    assertContent(collect(pages), content);
    await source.close();
  });

  check("an empty directory is an empty run, not an error", async (directory) => {
    await directory.set({ people: [], groups: [] });
    const read = await readAll(directory.open());
    assert.equal(read.people.size, 0);
    assert.equal(read.groups.size, 0);
  });

  check("fields that the source does not know change nothing", async (directory) => {
    await directory.set(content);
    await directory.addUnknownFields();
    assertContent(await readAll(directory.open()), content);
  });

  check("a deactivated person is read as not active, or is no longer listed", async (directory) => {
    const [first, ...others] = people;
    assert.ok(first !== undefined);
    await directory.set({ ...content, people: [{ ...first, active: false }, ...others] });
    const read = await readAll(directory.open());
    assert.notEqual(read.people.get(first.id)?.active, true);
    assert.equal(read.people.get(ids[1] ?? "")?.active, true);
  });

  check("an aborted run ends", async (directory) => {
    await directory.set(content);
    const source = directory.open();
    const request = source.read({ since: null, cursor: null, signal: AbortSignal.abort() });
    await assert.rejects(request);
    await source.close();
  });

  const kinds: Readonly<Record<DirectoryFault, readonly DirectoryErrorKind[]>> = {
    limited: ["limited"],
    unavailable: ["unreachable"],
    cut: ["unreachable", "malformed"],
    refused: ["unauthorized"],
  };
  for (const fault of offers.faults) {
    check(
      `${fault} in the middle of a run is an error, and the run continues from its last cursor`,
      async (directory) => {
        await directory.set(content);
        const source = directory.open();
        const pages: DirectoryPage[] = [await source.read({ since: null, cursor: null, signal: signal() })];
        await source.close();
        directory.fail(fault, 0);
        const later = directory.open();
        const last = pages[0]?.next ?? null;
        const error = await later.read({ since: null, cursor: last, signal: signal() }).then(
          () => assert.fail("the read must fail"),
          (thrown: unknown) => thrown,
        );
        assert.ok(error instanceof DirectoryError, `not a DirectoryError: ${String(error)}`);
        assert.ok(kinds[fault].includes(error.kind), `${error.kind}: ${error.message}`);
        if (fault === "limited") assert.equal(error.retryAfterMs, 2_000);
        directory.heal();
        let cursor = last;
        while (cursor !== null && pages.length < pagesMax) {
          const page: DirectoryPage = await later.read({ since: null, cursor, signal: signal() });
          pages.push(page);
          cursor = page.next;
        }
        assertContent(collect(pages), content);
        await later.close();
      },
    );
  }

  if (offers.duplicates)
    check("a person who is listed twice is one person", async (directory) => {
      const twice = people.concat(people.slice(0, 2));
      await directory.set({ ...content, people: twice });
      assertContent(await readAll(directory.open()), content);
    });

  if (offers.nestedGroups)
    check("a group inside a group is named as such, or its people are listed as members", async (directory) => {
      const nested = { people, groups: [group(1, ids.slice(0, 2), [groupId(2)]), group(2, ids.slice(2, 4))] };
      await directory.set(nested);
      const read = await readAll(directory.open());
      const direct = read.members.get(groupId(1)) ?? new Set();
      const isNamed = read.inner.get(groupId(1))?.has(groupId(2)) === true;
      assert.ok(isNamed || ids.slice(0, 4).every((id) => direct.has(id)));
      assert.deepEqual([...(read.members.get(groupId(2)) ?? [])].sort(), ids.slice(2, 4).sort());
    });

  check("the next run no longer lists a removed person, or names them as removed", async (directory) => {
    await directory.set(content);
    const { delta } = await readAll(directory.open());
    const gone = ids[0] ?? "";
    const left = {
      people: people.slice(1),
      groups: [group(1, ids.slice(1, 5)), group(2, ids.slice(4))],
    };
    await directory.set(left);
    assertContent(await readAll(directory.open()), left);
    if (delta === null) return;
    const changes = await readAll(directory.open(), delta).catch((error: unknown) => {
      if (error instanceof DirectoryError && error.kind === "deltaExpired") return undefined;
      throw error;
    });
    if (changes === undefined) return;
    const named = changes.people.get(gone)?.active === false || changes.removedPeople.includes(gone);
    assert.ok(named, "the delta must name the removed person");
  });

  if (offers.delta)
    check("a delta without a change is empty, and offers the next one", async (directory) => {
      await directory.set(content);
      const { delta } = await readAll(directory.open());
      assert.ok(delta !== null);
      const changes = await readAll(directory.open(), delta);
      assert.deepEqual(changes.removedPeople, []);
      assert.deepEqual(changes.removedMembers, []);
      assert.ok(changes.delta !== null);
    });

  check("a group that cannot be read makes the run partial", async (directory) => {
    if (directory.hideGroup === undefined) return;
    await directory.set(content);
    directory.hideGroup(groupId(2));
    const read = await readAll(directory.open());
    assert.ok(read.problems.length > 0);
    assert.deepEqual([...(read.members.get(groupId(1)) ?? [])].sort(), ids.slice(0, 5).sort());
  });
}

/** Reads all pages of a run, each checked as the core checks it, and closes the source. */
export async function readAll(source: DirectorySource, since: string | null = null): Promise<Collected> {
  const pages: DirectoryPage[] = [];
  let cursor: string | null = null;
  try {
    do {
      const page: DirectoryPage = await source.read({ since, cursor, signal: signal() });
      pages.push(checkPage(page, since === null ? "full" : "delta"));
      cursor = page.next;
      assert.ok(pages.length <= pagesMax, "the run has too many pages");
    } while (cursor !== null);
  } finally {
    await source.close();
  }
  return collect(pages);
}

function collect(pages: readonly DirectoryPage[]): Collected {
  const members = new Map<string, Set<string>>();
  const inner = new Map<string, Set<string>>();
  const addAll = (to: Map<string, Set<string>>, key: string, values: readonly string[]): void => {
    const set = to.get(key) ?? new Set();
    for (const value of values) set.add(value);
    to.set(key, set);
  };
  for (const page of pages)
    for (const { groupId, people, groups } of page.members) {
      addAll(members, groupId, people);
      addAll(inner, groupId, groups);
    }
  return {
    people: new Map(pages.flatMap((page) => page.people.map((each) => [each.id, each] as const))),
    groups: new Map(pages.flatMap((page) => page.groups.map((each) => [each.id, each.name] as const))),
    members,
    inner,
    removedPeople: pages.flatMap((page) => page.removedPeople),
    removedMembers: pages.flatMap((page) => page.removedMembers.flatMap((each) => each.people)),
    wholeGroups: new Set(pages.flatMap((page) => page.wholeGroups)),
    problems: pages.flatMap((page) => page.problems.map((problem) => problem.message)),
    pages: pages.length,
    delta: pages.at(-1)?.delta ?? null,
  };
}

function assertContent(read: Collected, content: DirectoryContent): void {
  const wanted = new Map(content.people.map((person) => [person.id, person]));
  assert.deepEqual([...read.people.keys()].sort(), [...wanted.keys()].sort(), "people");
  for (const [id, person] of wanted) {
    const found = read.people.get(id);
    assert.equal(found?.active, person.active, `active of ${id}`);
    assert.equal(found?.email?.toLowerCase() ?? null, person.email, `e-mail of ${id}`);
  }
  assert.deepEqual([...read.groups.keys()].sort(), content.groups.map(({ id }) => id).sort(), "groups");
  for (const { id, name, people } of content.groups) {
    assert.equal(read.groups.get(id), name, `name of ${id}`);
    assert.deepEqual([...(read.members.get(id) ?? [])].sort(), [...people].sort(), `members of ${id}`);
  }
}

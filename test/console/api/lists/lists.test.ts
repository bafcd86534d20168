/** Lists of sessions, people and groups: pages that stay right while the log changes, searches, hostile input. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { randomFrom } from "../../../../chaos/random.ts";
import { GroupIndex, listGroups, listMembers } from "../../../../src/console/api/lists/group-list.ts";
import type { BadCursor, ListPage } from "../../../../src/console/api/lists/list-page.ts";
import { OrderedIds } from "../../../../src/console/api/lists/ordered-ids.ts";
import { PeopleListIndex } from "../../../../src/console/api/lists/people-index.ts";
import { listPeople, type PeopleQuery } from "../../../../src/console/api/lists/people-list.ts";
import { SessionListIndex } from "../../../../src/console/api/lists/session-index.ts";
import { listSessions, type SessionsQuery } from "../../../../src/console/api/lists/session-list.ts";
import type { GroupId, SessionId, UserId } from "../../../../src/events/index.ts";
import { ListedWorld, startedAt } from "./listed-world.ts";

const peopleQuery = (parts: Partial<PeopleQuery> = {}): PeopleQuery => ({
  ...{ limit: 100, sort: "name", status: "all" },
  ...parts,
});
const sessionsQuery = (parts: Partial<SessionsQuery> = {}): SessionsQuery => ({
  ...{ limit: 100, sort: "-issued", status: "active" },
  ...parts,
});
function good<Item>(page: ListPage<Item> | BadCursor): ListPage<Item> {
  assert.ok(!("badCursor" in page), "the cursor is refused");
  return page;
}
async function allPages<Item>(
  ask: (after: string | undefined) => Promise<ListPage<Item> | BadCursor>,
  between: () => void = () => undefined,
): Promise<Item[]> {
  const items: Item[] = [];
  let after: string | undefined;
  for (let pages = 0; pages < 1_000; pages++) {
    const page = good(await ask(after));
    items.push(...page.items);
    if (page.next === null) return items;
    after = page.next;
    between();
  }
  throw new Error("the list does not end");
}

test("ordered ids answer as a sorted array does, whatever is inserted and deleted", () => {
  const random = randomFrom(67);
  const ordered = new OrderedIds<number, SessionId>();
  const plain = new Map<string, { key: number; id: SessionId }>();
  for (let step = 0; step < 6_000; step++) {
    const [key, id] = [random.between(0, 299), `s${random.between(0, 39)}` as SessionId];
    if (random.between(0, 2) > 0) {
      ordered.insert(key, id);
      plain.set(`${key} ${id}`, { key, id });
    } else {
      ordered.delete(key, id);
      plain.delete(`${key} ${id}`);
    }
    if (step % 200 > 0) continue;
    const sorted = [...plain.values()].sort((a, b) => a.key - b.key || (a.id < b.id ? -1 : 1));
    assert.equal(ordered.size, sorted.length);
    assert.deepEqual(ordered.after(null, false, 1_000_000), sorted);
    assert.deepEqual(ordered.after(null, true, 1_000_000), sorted.toReversed());
    const place = { key: random.between(0, 299), id: `s${random.between(0, 39)}` as SessionId };
    const isAfter = (one: { key: number; id: string }) =>
      one.key - place.key || (one.id < place.id ? -1 : one.id === place.id ? 0 : 1);
    assert.deepEqual(ordered.after(place, false, 7), sorted.filter((one) => isAfter(one) > 0).slice(0, 7));
    assert.deepEqual(
      ordered.after(place, true, 7),
      sorted
        .toReversed()
        .filter((one) => isAfter(one) < 0)
        .slice(0, 7),
    );
  }
});

test("pages of sessions show each session once that stays, in order, while others begin and end", async () => {
  const world = new ListedWorld();
  const people = Array.from({ length: 50 }, (_, n) => world.person({ subject: `p${n}`, name: `Person ${n}` }));
  const stay: SessionId[] = [];
  for (let n = 0; n < 2_000; n++) stay.push(world.session(people[n % 50] as UserId, startedAt - n * 1_000));
  const { deps } = world;
  const indexes = { people: new PeopleListIndex(deps), sessions: new SessionListIndex(deps) };
  for (const sort of ["-issued", "issued", "-expires", "expires", "person", "-person"]) {
    const passing: SessionId[] = [];
    let round = 0;
    const seen = await allPages(
      (after) => listSessions(deps, indexes, sessionsQuery({ sort, after, limit: 90 })),
      () => {
        round += 1;
        for (const id of passing.splice(0))
          world.apply({ type: "SessionRevoked", sessionId: id, userId: people[0] as UserId, reason: "operator" });
        for (let n = 0; n < 20; n++)
          passing.push(world.session(people[n % 50] as UserId, startedAt - (round * 20 + n) * 3_333));
      },
    );
    const ids = seen.map(({ id }) => id as SessionId);
    assert.equal(new Set(ids).size, ids.length, `${sort}: none twice`);
    assert.deepEqual(
      stay.filter((id) => !ids.includes(id)),
      [],
      `${sort}: none is missing`,
    );
    const keys = seen.map(
      (view) => (sort.endsWith("issued") ? view.issuedAt : sort.endsWith("expires") ? view.expiresAt : view.name) ?? "",
    );
    if (!sort.endsWith("person")) {
      const sorted = keys.toSorted();
      assert.deepEqual(keys, sort.startsWith("-") ? sorted.toReversed() : sorted, sort);
    }
    for (const id of passing)
      world.apply({ type: "SessionRevoked", sessionId: id, userId: people[0] as UserId, reason: "operator" });
  }
  assert.ok(world.listeners >= 2);
});

test("filters of sessions, and totals that say whether they are exact", async () => {
  const world = new ListedWorld();
  const [alice, bob] = [
    world.person({ subject: "alice", name: "Álice Archer" }),
    world.person({ subject: "bob", email: "bob@example.com" }),
  ];
  const soon = world.session(alice, startedAt - 1_000, { lifeMs: 5_000 });
  const long = world.session(alice, startedAt - 2_000, { idpId: "other" });
  const gone = world.session(bob, startedAt - 3_000, { lifeMs: 1_000 });
  const cut = world.session(bob, startedAt - 4_000);
  const token = world.session(bob, startedAt - 500, { id: "3f2a8c1e-0000-8000-8000-000000000001" });
  world.apply({ type: "SessionRevoked", sessionId: cut, userId: bob, reason: "operator" });
  world.members("eng", [alice]);
  const { deps } = world;
  const indexes = { people: new PeopleListIndex(deps), sessions: new SessionListIndex(deps) };
  const ids = async (parts: Partial<SessionsQuery>): Promise<unknown[]> =>
    good(await listSessions(deps, indexes, sessionsQuery(parts))).items.map(({ id }) => id);
  assert.deepEqual(await ids({}), [token, soon, long]);
  assert.deepEqual(await ids({ status: "expired" }), [gone]);
  assert.deepEqual(await ids({ status: "revoked" }), [cut]);
  assert.deepEqual(await ids({ endsBefore: new Date(startedAt + 60_000).toISOString() }), [soon]);
  assert.deepEqual(await ids({ idpId: "other" }), [long]);
  assert.deepEqual(await ids({ kind: "token" }), [token]);
  assert.deepEqual(await ids({ group: "eng" }), [soon, long]);
  assert.deepEqual(await ids({ q: "ALICE" }), [soon, long], "without accents and case");
  assert.deepEqual(await ids({ q: "bob@" }), [token]);
  assert.deepEqual(await ids({ q: long }), [long], "by the whole id");
  assert.deepEqual(await ids({ q: "nobody" }), []);
  const total = async (parts: Partial<SessionsQuery>) =>
    good(await listSessions(deps, indexes, sessionsQuery(parts))).total;
  assert.deepEqual(await total({ q: "alice", limit: 1 }), { count: 2, exact: true });
  world.apply({ type: "UserSessionsRevoked", userId: alice, reason: "operator", upTo: null } as never);
  assert.deepEqual(await ids({ status: "revoked", q: "alice" }), [soon, long], "by one event for all");
});

test("people are found and ordered by name, and an erased person is gone at once", async () => {
  const world = new ListedWorld();
  const nasty = [
    { subject: "s1", name: "<script>alert(1)</script>" },
    { subject: "s2", name: "‮gnp.evil" },
    { subject: "s3", name: "x".repeat(10_240) },
    { subject: "s4", name: "", email: "zoe@example.com" },
    { subject: "s5", name: "Émile" },
    { subject: "s6", name: "emily" },
  ];
  const ids = nasty.map((parts) => world.person(parts));
  const { deps } = world;
  const index = new PeopleListIndex(deps);
  const page = good(await listPeople(deps, index, peopleQuery()));
  assert.deepEqual(
    page.items.map(({ subject }) => subject),
    ["s1", "s5", "s6", "s2", "s3", "s4"],
  );
  assert.deepEqual(page.total, { count: 6, exact: true });
  const found = async (q: string) =>
    good(await listPeople(deps, index, peopleQuery({ q }))).items.map(({ subject }) => subject);
  assert.deepEqual(await found("evil"), ["s2"]);
  assert.deepEqual(await found("SCRIPT"), ["s1"]);
  assert.deepEqual(await found("emil"), ["s5", "s6"]);
  assert.deepEqual(await found(ids[3] as string), ["s4"], "by id");

  const first = good(await listPeople(deps, index, peopleQuery({ limit: 2 })));
  const cursor = first.next ?? "";
  assert.ok(!Buffer.from(cursor, "base64url").toString("latin1").includes("mile"), "a cursor shows no name");
  world.apply({ type: "UserErased", userId: ids[4] as UserId } as never);
  assert.equal(index.matches(ids[4] as UserId, "mile"), false, "before the next request");
  const second = good(await listPeople(deps, index, peopleQuery({ limit: 2, after: cursor })));
  assert.deepEqual(
    second.items.map(({ subject }) => subject),
    ["s6", "s2"],
    "it continues after the place of someone who is gone",
  );
  assert.deepEqual(await found("mile"), []);
  const erased = good(await listPeople(deps, index, peopleQuery({ status: "erased" }))).items;
  assert.deepEqual(
    erased.map(({ id, name }) => [id, name]),
    [[ids[4], ""]],
  );

  for (const after of ["", "x", `${cursor.slice(0, -3)}AAA`, Buffer.alloc(3_000).toString("base64url")])
    assert.deepEqual(await listPeople(deps, index, peopleQuery({ limit: 2, after })), { badCursor: true });
  const other = await listPeople(deps, index, peopleQuery({ limit: 2, after: cursor, status: "active" }));
  assert.deepEqual(other, { badCursor: true }, "a cursor continues only its own list");
});

test("members of a group come by name in pages; exclusions and ends are theirs", async () => {
  const world = new ListedWorld();
  const people = Array.from({ length: 30 }, (_, n) =>
    world.person({ subject: `p${n}`, name: `Person ${String(n).padStart(2, "0")}` }),
  );
  world.members("eng", people);
  world.members("eng", [], [people[7] as UserId]);
  world.members("ops", people.slice(0, 3));
  const { deps } = world;
  const [index, groups] = [new PeopleListIndex(deps), new GroupIndex(deps)];
  const query = { limit: 8, sort: "-name", status: "member" } as const;
  const members = await allPages((after) => listMembers(deps, index, "eng" as GroupId, { ...query, after }));
  assert.deepEqual(
    members.map(({ name }) => name),
    Array.from({ length: 30 }, (_, n) => `Person ${String(29 - n).padStart(2, "0")}`).filter(
      (name) => name !== "Person 07",
    ),
  );
  const excluded = good(await listMembers(deps, index, "eng" as GroupId, { ...query, status: "excluded" }));
  assert.deepEqual(
    excluded.items.map(({ name, excluded: is }) => [name, is]),
    [["Person 07", true]],
  );
  const listed = good(await listGroups(deps, groups, { limit: 10, sort: "name", members: "count" }));
  assert.deepEqual(
    listed.items.map(({ id, memberCount, excludedCount, members: named }) => [
      id,
      memberCount,
      excludedCount,
      named.length,
    ]),
    [
      ["eng", 29, 1, 0],
      ["ops", 3, 0, 0],
    ],
  );
  world.apply({ type: "GroupRemoved", groupId: "ops" as GroupId } as never);
  const rest = good(await listGroups(deps, groups, { limit: 10, sort: "name", members: "all", q: "E" }));
  assert.deepEqual(
    rest.items.map(({ id, members: named }) => [id, named.length]),
    [["eng", 30]],
  );
});

test("an index without requests is dropped, and made again", async () => {
  const world = new ListedWorld();
  world.person({ subject: "alice", name: "Alice" });
  const { deps } = world;
  const index = new PeopleListIndex(deps);
  assert.equal(good(await listPeople(deps, index, peopleQuery())).items.length, 1);
  assert.equal(world.listeners, 1);
  world.now += 11 * 60_000;
  world.person({ subject: "bob", name: "Bob" });
  assert.deepEqual([index.size, world.listeners], [0, 0]);
  assert.equal(good(await listPeople(deps, index, peopleQuery())).items.length, 2);
});

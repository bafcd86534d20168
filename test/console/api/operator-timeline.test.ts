/** Changes as a timeline over a real broker, and decisions per minute. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditRecord } from "../../../src/audit/index.ts";
import { createActivity } from "../../../src/console/api/changes/activity.ts";
import type { ChangesPage, ChangeView, FoldedView } from "../../../src/console/api/changes/change-schemas.ts";
import { readChanges } from "../../../src/console/api/changes/changes-route.ts";
import { type Hash, type Link, Projection, readsLevel } from "../../../src/events/index.ts";
import { type HistoryRequest, readHistory } from "../../../src/replication/log/index.ts";
import { createLogArchive } from "../../../src/replication/snapshot/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { decision } from "../../audit/support.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { office } from "../../broker/snapshots/support.ts";
import { cluster, secret } from "../../broker/support.ts";
import { json, type OperatorWorld, pushRecords, startOperatorWorld } from "./operator-support.ts";

const changes = async (at: OperatorWorld, query = ""): Promise<ChangesPage> => {
  const answer = await at.get(`/changes${query}`);
  assert.equal(answer.status, 200, answer.body);
  return json(answer) as ChangesPage;
};
const rowsOf = ({ changes }: ChangesPage): readonly ChangeView[] =>
  changes.filter((row): row is ChangeView => "type" in row);
const foldedOf = ({ changes }: ChangesPage): readonly FoldedView[] =>
  changes.filter((row): row is FoldedView => "folded" in row);
const textsOf = (page: ChangesPage): readonly string[] => rowsOf(page).map(({ text }) => text);

test("the log reads as sentences, newest first, with what would undo each act and what nothing undoes", async (t) => {
  const at = await startOperatorWorld(t);
  for (const name of ["alice", "bob"]) await signIn(at.world, at.world.visitor(), name);
  const bob = subjectId(at.world, "bob");
  await at.post("/cluster/finalize", { level: readsLevel });
  await at.post("/groups/eng/members", { add: ["bob"], reason: "release <b>week</b>" });
  await at.post(`/users/${bob}/sessions/revoke`);
  await at.post(`/users/${bob}/suspend`, { reason: "left" });
  const page = await changes(at);
  assert.deepEqual(textsOf(page).slice(0, 3), [
    "tester suspended Bob Baker: left",
    "tester revoked all sessions of Bob Baker",
    "tester added Bob Baker to eng: release <b>week</b>",
  ]);
  const [suspended, revoked, added] = rowsOf(page);
  assert.deepEqual(suspended?.undo, {
    operation: `POST /users/${bob}/restore`,
    body: {},
    command: `cardea users restore ${bob}`,
    does: "Restore Bob Baker. They can sign in again; the sessions that the suspension ended stay ended.",
  });
  assert.deepEqual([revoked?.undo, revoked?.final], [null, "A revocation is final. The person can sign in again."]);
  assert.equal(added?.undo?.command, `cardea groups remove eng ${bob}`);
  assert.match(added?.undo?.does ?? "", /whatever other sources say/);
  assert.deepEqual(added?.actor, { kind: "token", id: "t1", name: "tester" });
  assert.deepEqual(added?.subjects, [
    { kind: "user", id: bob, name: "Bob Baker" },
    { kind: "group", id: "eng", name: "eng" },
  ]);
  assert.equal(
    foldedOf(page).reduce((sum, { folded }) => sum + (folded.signIns ?? 0), 0),
    2,
    "sign-ins are counted",
  );
  assert.equal(page.next, null);
  assert.equal(page.head, at.world.replica.applied.position);
  assert.ok(rowsOf(page).some(({ type, text }) => type === "EpochOpened" && /^Epoch \d+ opened by /.test(text)));

  const path = suspended?.undo?.operation.replace("POST ", "") ?? "";
  assert.equal((await at.post(path, suspended?.undo?.body)).status, 200);
  const after = await changes(at);
  assert.equal(textsOf(after)[0], "tester restored Bob Baker");
  assert.deepEqual([rowsOf(after)[1]?.undo, rowsOf(after)[1]?.final], [null, "Something else has changed this since."]);
  await at.post(`/users/${bob}/erase`);
  const erased = await changes(at);
  assert.equal(textsOf(erased)[0], "tester erased a person");
  assert.ok(!JSON.stringify(erased).includes("Bob"), "an erased person has no name");
  assert.match(textsOf(erased)[1] ?? "", /^tester restored Erased person /);
});

test("pages continue below each other and together are the whole timeline, also through many events", async (t) => {
  const at = await startOperatorWorld(t);
  await signIn(at.world, at.world.visitor(), "alice");
  for (let i = 0; i < 150; i++) {
    await at.post("/groups/eng/members", { add: ["alice"] });
    await at.post("/groups/eng/members", { remove: ["alice"] });
  }
  const whole = await changes(at, "?limit=1000");
  assert.equal(whole.next, null);
  const paged: ChangesPage["changes"][number][] = [];
  let before = "";
  for (let calls = 0; calls < 100; calls++) {
    const page = await changes(at, `?limit=7${before}`);
    paged.push(...page.changes);
    if (page.next === null) break;
    before = `&before=${page.next}`;
  }
  const positions = (rows: ChangesPage["changes"]): number[] =>
    rows.flatMap((row) => ("type" in row ? [row.position] : []));
  assert.deepEqual(positions(paged), positions(whole.changes));
  assert.equal(new Set(positions(paged)).size, positions(paged).length);

  const middle = rowsOf(whole)[100];
  const below = await changes(at, `?before=${middle?.position ?? 0}&limit=2`);
  assert.equal(rowsOf(below)[0]?.position, rowsOf(whole)[101]?.position);
  const newer = await changes(at, `?after=${rowsOf(whole)[4]?.position ?? 0}`);
  assert.equal(rowsOf(newer).length, 4);
  const oldest = rowsOf(whole).at(-1);
  const until = await changes(at, `?to=${encodeURIComponent(oldest?.at ?? "")}`);
  assert.deepEqual(rowsOf(until).at(-1)?.position, oldest?.position);
  assert.ok(rowsOf(until).length < 20, "what is later is not read");
  assert.equal(
    rowsOf(await changes(at, `?from=${encodeURIComponent(new Date(Date.now() + 60_000).toISOString())}`)).length,
    0,
  );
});

test("a filter by person, actor, type or group shows these changes alone, and names what it does not know", async (t) => {
  const at = await startOperatorWorld(t);
  for (const name of ["alice", "bob"]) await signIn(at.world, at.world.visitor(), name);
  await at.post("/groups/eng/members", { add: ["bob"] });
  await at.post("/groups/hr/members", { add: ["alice"] });
  const session = json(await at.get("/sessions?user=bob")).sessions[0].id as string;
  await at.post(`/sessions/${session}/revoke`);
  assert.deepEqual(textsOf(await changes(at, "?subject=bob@example.com")), [
    "tester revoked a session of Bob Baker",
    "tester added Bob Baker to eng",
    "Bob Baker signed in",
  ]);
  const read = at.accesses.find(({ command }) => command === "GET /changes");
  assert.deepEqual(read?.targets, [`user:${subjectId(at.world, "bob")}`], "who looked at what is recorded, by id");
  assert.deepEqual(textsOf(await changes(at, "?subject=group:hr")), ["tester added Alice Archer to hr"]);
  assert.deepEqual(textsOf(await changes(at, `?subject=session:${session}&type=SessionRevoked`)), [
    "tester revoked a session of Bob Baker",
  ]);
  assert.deepEqual(textsOf(await changes(at, "?type=groups&fold=true")), [
    "tester added Alice Archer to hr",
    "tester added Bob Baker to eng",
  ]);
  assert.deepEqual(textsOf(await changes(at, "?actor=alice")), []);
  assert.equal(textsOf(await changes(at, "?actor=operator:tester%23t1")).length, 3);
  assert.equal((await at.get("/changes?subject=stranger@example.com")).status, 404);
  assert.equal((await at.get("/changes?type=NoSuchEvent")).status, 400);
  assert.equal((await at.get("/changes?type=constructor")).status, 400);
  assert.equal((await at.get("/changes?before=-1")).status, 400);
  assert.equal((await at.get("/changes?limit=1001")).status, 400);
});

test("a page that does not chain to what this server has read is refused, and a call lets others have their turn", async (t) => {
  let lies = false;
  let turns = 0;
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      history: async (request) => {
        const page = await inner.history(request);
        const at = page.at === null ? null : { ...page.at, hash: "0".repeat(64) as Hash };
        return lies ? { ...page, at } : page;
      },
    }),
    deps: {
      sleep: async (ms) => {
        if (ms === 0) turns += 1;
      },
    },
  });
  await signIn(at.world, at.world.visitor(), "alice");
  for (let i = 0; i < 150; i++) {
    await at.post("/groups/eng/members", { add: ["alice"] });
    await at.post("/groups/eng/members", { remove: ["alice"] });
  }
  turns = 0;
  await changes(at, "?limit=1000");
  assert.ok(turns >= 1, `${turns} turns`);
  lies = true;
  const answer = await at.get("/changes?limit=1000");
  assert.equal(answer.status, 503);
  assert.match(json(answer).error, /history has changed; ask again/);
});

test("a receipt has a state only where every node is known", async (t) => {
  let answers = true;
  let left: Readonly<{ epoch: number; position: number }> | null = null;
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      status: async (options) => {
        if (!answers) throw new Error("away");
        const status = await inner.status(options);
        const [node] = status.nodes;
        const other = left !== null && node !== undefined ? [{ ...node, enforced: left as never }] : [];
        return { ...status, nodes: [...status.nodes, ...other] };
      },
    }),
  });
  await signIn(at.world, at.world.visitor(), "alice");
  await at.post("/groups/eng/members", { add: ["alice"], wait: "all" });
  assert.equal(rowsOf(await changes(at))[0]?.receipt, "complete");
  left = { epoch: 0, position: 1_000 };
  assert.equal(rowsOf(await changes(at))[0]?.receipt, "incomplete", "a node with events that a failover has lost");
  left = { epoch: 1, position: 1 };
  assert.equal(rowsOf(await changes(at))[0]?.receipt, "incomplete");
  left = { epoch: 1, position: 1_000 };
  assert.equal(rowsOf(await changes(at))[0]?.receipt, "complete");
  answers = false;
  assert.equal(rowsOf(await changes(at))[0]?.receipt, null);
});

test("activity counts each record once, and says where records were lost or not held", async (t) => {
  const at = await startOperatorWorld(t, { feed: { entriesMax: 50 } });
  const minute = Math.floor(Date.now() / 60_000) * 60_000;
  let seq = 0;
  const push = (parts: object, atMs = minute): void =>
    pushRecords(at.feed, { kind: "decision", seq: ++seq, ...decision("/"), at: atMs, ...parts } as AuditRecord);
  push({}, minute - 10 * 60_000);
  for (let i = 0; i < 3; i++) push({ result: "deny" });
  push({ result: "signin" });
  push({ result: "unavailable" });
  push({ occasion: "closed" });
  const read = async () => json(await at.get("/activity?minutes=5"));
  const sum = (list: number[]): number => list.reduce((a, b) => a + b, 0);
  const first = await read();
  assert.deepEqual([first.permit, first.deny, first.signIn, first.unavailable].map(sum), [0, 3, 1, 1]);
  assert.deepEqual([first.complete, first.unknown], [true, []]);
  assert.equal(sum((await read()).deny), 3, "nothing is counted twice");
  push({}, minute + 3_600_000);
  push({}, 1);
  for (let i = 0; i < 80; i++) push({});
  const lossy = await read();
  assert.equal(lossy.complete, false);
  assert.match(lossy.unknown.join(), /left the memory/);
  assert.equal((await at.get("/activity?minutes=0")).status, 400);
  const empty = createActivity({
    feed: { start: () => null, end: () => null, covers: () => false, read: () => [] },
    turn: async () => {},
    now: () => minute,
  });
  await empty.update();
  assert.equal(empty.answer(60).complete, false);
});

test("below retention the archive continues, each block proved by the one above, and without it the answer says what is missing", async (t) => {
  const world = await office(t, { archive: { archiveMs: 90 * 86_400_000, bytesMax: 1_000_000_000 } });
  for (let n = 0; n < 5; n++) {
    await world.append(12);
    await world.run();
  }
  const base = await world.begins();
  assert.ok(base > 10);
  const open = createBrokerOpener({ cluster, secrets: [secret] });
  const archive = createLogArchive({ supply: world.shelf.supply, open });
  const deps = {
    replica: { applied: world.writer.head, projection: new Projection(), open: () => undefined },
    databroker: {
      history: (request: HistoryRequest) => readHistory(world.log, request),
      read: (after: Link, { limit }: { limit: number }) => world.log.read(after, limit),
      status: () => Promise.reject(new Error("away")),
    },
    providers: { nameOf: () => null },
    now: Date.now,
    sleep: async () => undefined,
  };
  const none = { types: null, actors: null, subjects: null, fromMs: null, toMs: null, folds: false };
  const read = (parts: object, before?: number): Promise<ChangesPage> =>
    readChanges({ ...deps, ...parts } as never, {
      query: { limit: 7, ...(before === undefined ? {} : { before }) },
      filter: none,
      signal: new AbortController().signal,
    });
  const seen: number[] = [];
  for (let before: number | null | undefined; before !== null; ) {
    const page: ChangesPage = await read({ archive }, before);
    assert.equal(page.missing, null);
    for (const row of page.changes) for (let at = row.position; at >= row.first; at--) seen.push(at);
    before = page.next;
  }
  const { position } = world.writer.head;
  assert.deepEqual(
    seen,
    Array.from({ length: position }, (_, i) => position - i),
  );
  const below = await read({}, base - 2);
  assert.deepEqual(below.changes, []);
  assert.match(below.missing ?? "", /retention has dropped the events up to \d+/);
});

test("the newest page is read once, then only what is new, and is the same as when all of it is read", async (t) => {
  let read = 0;
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      async read(after, request) {
        const outcome = await inner.read(after, request);
        if (outcome.type === "page") read += outcome.page.entries.length;
        return outcome;
      },
    }),
  });
  /** Another limit is read as if nothing were known. */
  const whole = async (limit: number): Promise<ChangesPage> => changes(at, `?limit=${limit}`);
  const steps: (() => Promise<unknown>)[] = [
    () => signIn(at.world, at.world.visitor(), "alice"),
    () => signIn(at.world, at.world.visitor(), "bob"), // joins the counted ones below
    () => at.post("/groups/eng/members", { add: ["bob"], reason: "once" }),
    () => signIn(at.world, at.world.visitor(), "bob"),
    () => at.post(`/users/${subjectId(at.world, "bob")}/sessions/revoke`),
  ];
  let limit = 60;
  for (const step of steps) {
    const before = at.world.replica.applied.position;
    await step();
    read = 0;
    const page = await changes(at, "?limit=50");
    const since = at.world.replica.applied.position - before;
    if (step !== steps[0]) assert.ok(read <= since, `${read} events were read for ${since} new ones`);
    limit += 1;
    await whole(limit);
    // Reading with another limit forgets the page, so it is made known again.
    const { changes: fresh, ...rest } = await changes(at, "?limit=50");
    assert.deepEqual(page, { ...rest, changes: fresh });
  }
  for (let n = 0; n < 4; n++) await at.post("/groups/ops/members", { [n % 2 === 0 ? "add" : "remove"]: ["alice"] });
  await changes(at, "?limit=3");
  await at.post("/groups/ops/members", { add: ["alice"] });
  const short = await changes(at, "?limit=3");
  const rest = await changes(at, `?limit=50&before=${short.next}`);
  assert.deepEqual([...short.changes, ...rest.changes], (await whole(70)).changes, "no change is left out or repeated");
});

/** The live stream of decisions: resumable, bounded, and ended when the operator loses access. */
import assert from "node:assert/strict";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { AuditRecord } from "../../../src/audit/index.ts";
import { findUsersNamed } from "../../../src/console/api/operator-views.ts";
import { decision } from "../../audit/support.ts";
import { signIn } from "../../auth/authenticate/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { json, type OperatorWorld, pushRecords, startOperatorWorld } from "./operator-support.ts";

const record = (seq: number, path = "/"): AuditRecord => ({ kind: "decision", seq, ...decision(path) });

type Watching = Readonly<{
  status(): number | undefined;
  text(): string;
  /** Numbers of the records received. */
  numbers(): number[];
  /** How many records were received. */
  count(): number;
  lastId(): string;
  ended(): boolean;
  pause(): void;
  leave(): void;
}>;

function watch(t: TestContext, at: OperatorWorld, query: string, headers: Record<string, string>): Watching {
  const mark = '"seq":';
  let [text, ended, count, last] = ["", false, 0, ""];
  let response: IncomingMessage | undefined;
  const { port } = at.world;
  const path = new URL(at.url("/decisions")).pathname + query;
  const options = {
    host: "127.0.0.1",
    port,
    path,
    headers: { host: `authenticate.localhost:${port}`, accept: "text/event-stream", ...headers },
  };
  const clientRequest: ClientRequest = request(options, (answer) => {
    response = answer;
    answer.setEncoding("utf8");
    answer.on("data", (chunk: string) => {
      text += chunk;
      last += chunk;
      count += last.split(mark).length - 1;
      last = last.slice(1 - mark.length);
    });
    answer.on("error", () => {});
    answer.on("close", () => {
      ended = true;
    });
  });
  clientRequest.on("error", () => {
    ended = true;
  });
  clientRequest.end();
  t.after(() => clientRequest.destroy());
  const events = (): string[] => text.split("\n\n").slice(0, -1);
  const dataOf = (event: string): string | undefined => /^data: (.*)$/m.exec(event)?.[1];
  return {
    status: () => response?.statusCode,
    text: () => text,
    numbers: () =>
      events()
        .filter((event) => /^id: .*\ndata: /.test(event))
        .map((event) => (JSON.parse(dataOf(event) ?? "{}") as { seq: number }).seq),
    count: () => count,
    lastId: () => /^id: (.*)$/m.exec(events().findLast((event) => event.startsWith("id: ")) ?? "")?.[1] ?? "",
    ended: () => ended,
    pause: () => void response?.pause(),
    leave: () => void clientRequest.destroy(),
  };
}

const bearer = async (at: OperatorWorld, parts = {}): Promise<Record<string, string>> => ({
  authorization: `Bearer ${await at.token(parts)}`,
});

test("a stream starts with the newest decisions, sends each new one, and carries a cursor to resume", async (t) => {
  const at = await startOperatorWorld(t);
  const headers = await bearer(at);
  for (let i = 1; i <= 5; i++) pushRecords(at.feed, record(i));
  const first = watch(t, at, "?last=2", headers);
  await waitFor("the newest records", () => first.numbers().length === 2);
  assert.deepEqual(first.numbers(), [4, 5]);
  pushRecords(at.feed, record(6));
  await waitFor("the next record", () => first.numbers().length === 3);
  const cursor = first.lastId();
  first.leave();
  pushRecords(at.feed, record(7));
  pushRecords(at.feed, record(8));
  const again = watch(t, at, "?last=1", { ...headers, "last-event-id": cursor });
  await waitFor("the decisions since", () => again.numbers().length === 2);
  assert.deepEqual(again.numbers(), [7, 8]);
  const byQuery = watch(t, at, `?after=${cursor}`, headers);
  await waitFor("the same records by query", () => byQuery.numbers().length === 2);
  const next = watch(t, at, "", headers);
  await waitFor("the response", () => next.status() === 200);
  pushRecords(at.feed, record(9));
  await waitFor("only new decisions", () => next.numbers().length === 1);
  assert.deepEqual(next.numbers(), [9]);
  assert.ok(!next.text().includes("event: missed"));
});

test("a cursor that the node does not know is answered with a `missed` event", async (t) => {
  const at = await startOperatorWorld(t);
  for (let i = 1; i <= 3; i++) pushRecords(at.feed, record(i));
  const watching = watch(t, at, "", { ...(await bearer(at)), "last-event-id": "another-process.17.0" });
  await waitFor("the stored decisions", () => watching.numbers().length === 3);
  assert.match(watching.text(), /event: missed\ndata: \{"reason":"cursor_unknown","count":null\}\n\n/);
});

test("a stream begins with a cursor, and one whose filter matches nothing still advances", async (t) => {
  const at = await startOperatorWorld(t, { sleepMsMax: 50, feed: { entriesMax: 20_000, bytesMax: 50_000_000 } });
  const watching = watch(t, at, "?result=deny", await bearer(at));
  await waitFor("a first cursor", () => watching.text().includes("id: test.0.0\nevent: cursor\n"));
  for (let i = 1; i <= 6_000; i++) pushRecords(at.feed, record(i));
  await waitFor("a cursor after what did not match", () =>
    watching.text().includes("id: test.6000.0\nevent: cursor\n"),
  );
  pushRecords(at.feed, { ...record(6_001), kind: "decision", result: "deny" } as AuditRecord);
  await waitFor("what matches", () => watching.numbers().length === 1);
  assert.deepEqual(watching.numbers(), [6_001]);
});

test("an id is looked up, and profiles are opened once for all other names of a filter", async (t) => {
  const at = await startOperatorWorld(t);
  for (const name of ["alice", "bob"]) await signIn(at.world, at.world.visitor(), name);
  const [alice, bob] = [json(await at.get("/users/alice")).users[0].id, json(await at.get("/users/bob")).users[0].id];
  let opened = 0;
  const { replica } = at.world.deps;
  const counted = {
    projection: replica.projection,
    open(...args: Parameters<typeof replica.open>) {
      opened += 1;
      return replica.open(...args);
    },
  } as unknown as typeof replica;
  assert.deepEqual(
    [...findUsersNamed(counted, [alice, bob], "any")],
    [
      [alice, [alice]],
      [bob, [bob]],
    ],
  );
  assert.equal(opened, 0);
  const all = findUsersNamed(counted, ["alice", "bob@example.com", "nobody", ""], "any");
  assert.deepEqual([...all.values()], [[alice], [bob], [], []]);
  assert.ok(opened <= replica.projection.counts.users, `${opened} profiles`);
});

test("a call and a stream whose filter matches nothing let other work have its turn", async (t) => {
  let turns = 0;
  const sleep = async (ms: number, signal: AbortSignal): Promise<void> => {
    if (ms === 0) turns += 1;
    await delay(Math.min(ms, 50), undefined, { signal });
  };
  const feed = { entriesMax: 20_000, bytesMax: 50_000_000 };
  const at = await startOperatorWorld(t, { deps: { sleep }, feed });
  for (let i = 1; i <= 6_000; i++) pushRecords(at.feed, record(i));
  const page = json(await at.get("/decisions?after=test.0.0&result=deny"));
  assert.deepEqual([page.decisions.length, page.next], [0, "test.6000.0"]);
  assert.ok(turns >= 5, `${turns} turns in a call`);
  turns = 0;
  const watching = watch(t, at, "?after=test.0.0&result=deny", await bearer(at));
  await waitFor("the end", () => watching.text().includes("id: test.6000.0\nevent: cursor\n"));
  assert.ok(turns >= 5, `${turns} turns in a stream`);
});

test("filters are applied by the server, and gaps pass those on what a gap does not state", async (t) => {
  const at = await startOperatorWorld(t);
  await signIn(at.world, at.world.visitor(), "alice");
  const userId = json(await at.get("/users/alice")).users[0].id;
  const more = { region: "eu", routeName: "Reports", userId, occasion: "redecision", reasons: ["group-ok"] };
  const gap = { kind: "gap", seq: 4, node: "node-1", boot: "boot-1", at: 1, first: 3, last: 4, why: "x" };
  const act = { kind: "operator", seq: 5, node: "node-1", boot: "boot-1", region: "eu", at: 1, commandId: "c" };
  pushRecords(
    at.feed,
    record(1),
    { ...record(2), ...more } as AuditRecord,
    gap as AuditRecord,
    { ...act, actor: "token:t", command: "suspendUser", targets: [`user:${userId}`], targetsMore: 0 } as never,
  );
  const found = async (query: string): Promise<number[]> =>
    json(await at.get(`/decisions?last=100&${query}`)).decisions.map((one: { record: AuditRecord }) => one.record.seq);
  assert.deepEqual(await found(""), [1, 2, 4, 5]);
  assert.deepEqual(await found("user=alice"), [2, 4, 5]);
  assert.deepEqual(await found("user=alice,alice@example.com"), [2, 4, 5]);
  assert.deepEqual(await found("user=alice@example.com&kind=decision"), [2]);
  assert.deepEqual(await found("route=Reports"), [2, 4]);
  assert.deepEqual(await found("route=app&kind=decision"), [1, 2]);
  assert.deepEqual(await found("region=eu&kind=decision,operator"), [2, 5]);
  assert.deepEqual(await found("node=node-2"), []);
  assert.deepEqual(await found("occasion=redecision,closed&kind=decision"), [2]);
  assert.deepEqual(await found("reason=group-ok&kind=decision"), [2]);
  assert.deepEqual(await found("result=deny"), [4]);
  assert.deepEqual(await found("since=2023-11-14T22:13:20Z"), [1, 2]);
  assert.equal((await at.get("/decisions?user=stranger@example.com")).status, 404);
  assert.equal((await at.get("/decisions?since=yesterday")).status, 400);
  assert.equal((await at.get("/decisions?limit=0")).status, 400);
  assert.equal((await at.get("/decisions?after=rubbish")).status, 400);
  const named = json(await at.get("/decisions?last=100&names=true"));
  assert.deepEqual(named.names, { [userId]: "alice@example.com" });
  assert.equal(json(await at.get("/decisions?last=100")).names, undefined);
});

test("a program pulls pages by cursor, waits for the next record, and is not left without what it missed", async (t) => {
  const at = await startOperatorWorld(t, { feed: { entriesMax: 20 } });
  for (let i = 1; i <= 10; i++) pushRecords(at.feed, record(i));
  const read: number[] = [];
  let next = "test.0.0";
  for (let more = true; more; ) {
    const page = json(await at.get(`/decisions?after=${next}&limit=4`));
    assert.equal(page.missed, null);
    read.push(...page.decisions.map((one: { record: AuditRecord }) => one.record.seq));
    ({ next, more } = page);
  }
  assert.deepEqual(read, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const waiting = at.get(`/decisions?after=${next}&wait=30`);
  await new Promise((resolve) => setTimeout(resolve, 100));
  pushRecords(at.feed, record(11));
  const waited = json(await waiting);
  assert.deepEqual([waited.decisions.length, waited.next], [1, "test.11.0"]);
  assert.equal(json(await at.get("/decisions?after=test.11.0&wait=0.05")).next, "test.11.0");
  for (let i = 12; i <= 60; i++) pushRecords(at.feed, record(i));
  const late = json(await at.get("/decisions?after=test.11.0"));
  assert.deepEqual(late.missed, { reason: "removed", count: 29 });
  assert.deepEqual([late.decisions[0].record.seq, late.next], [41, "test.60.0"]);
  const unknown = await at.get("/decisions?after=elsewhere.3.0");
  assert.equal(unknown.status, 410);
  const { code, missed, next: oldest } = json(unknown);
  assert.deepEqual(
    { code, missed, oldest },
    {
      ...{ code: "cursor_unknown", missed: { reason: "cursor_unknown", count: null }, oldest: "test.40.0" },
    },
  );
  const none = json(await at.get(`/decisions?after=${oldest}&result=deny`));
  assert.deepEqual([none.decisions, none.next], [[], "test.60.0"], "a filtered read still advances");
});

test("a caller whose access ends while it waits gets nothing", async (t) => {
  const at = await startOperatorWorld(t);
  const alice = at.world.visitor();
  await signIn(at.world, alice, "alice");
  const cookie = alice.cookieHeader(new URL(at.world.url("authenticate")));
  const headers = { cookie, "sec-fetch-site": "same-origin", accept: "application/json" };
  const waiting = at.get("/decisions?wait=30", { headers });
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal((await at.post("/users/alice/sessions/revoke")).status, 200);
  pushRecords(at.feed, record(1));
  const answer = await waiting;
  assert.equal(answer.status, 401);
  assert.ok(!answer.body.includes("request-1"));
});

test("a caller without access is refused, and so is one watcher too many, until another leaves", async (t) => {
  const at = await startOperatorWorld(t, { feed: { watchersMax: 1 } });
  const headers = await bearer(at);
  const refused = watch(t, at, "", { authorization: "Bearer rubbish" });
  await waitFor("a refusal", () => refused.status() === 401);
  const first = watch(t, at, "", headers);
  await waitFor("the response", () => first.status() === 200);
  const second = watch(t, at, "", headers);
  await waitFor("one watcher too many to be refused", () => second.status() === 503);
  first.leave();
  await waitFor("a free slot", async () => {
    const third = watch(t, at, "", headers);
    await waitFor("the response", () => third.status() !== undefined);
    third.leave();
    return third.status() === 200;
  });
});

test("a stream ends when its token expires", async (t) => {
  const at = await startOperatorWorld(t);
  const watching = watch(t, at, "", await bearer(at, { ttlS: 3 }));
  await waitFor("the response", () => watching.status() === 200);
  pushRecords(at.feed, record(1));
  await waitFor("a record", () => watching.numbers().length === 1);
  await waitFor("the stream to end", () => watching.ended());
});

test("a stream ends when its session is revoked, and when its user is no longer an administrator", async (t) => {
  const at = await startOperatorWorld(t);
  let seq = 0;
  for (const path of ["/users/alice/sessions/revoke", "/groups/admins/members"]) {
    const alice = at.world.visitor();
    await signIn(at.world, alice, "alice");
    const cookie = alice.cookieHeader(new URL(at.world.url("authenticate")));
    const watching = watch(t, at, "", { cookie, "sec-fetch-site": "same-origin" });
    await waitFor("the response", () => watching.status() === 200);
    await at.post("/groups/others/members", { add: ["alice"] });
    seq += 1;
    pushRecords(at.feed, record(seq));
    await waitFor("a record after a change that keeps the access", () => watching.numbers().length === 1);
    const answer = await at.post(path, path.startsWith("/groups") ? { remove: ["alice"] } : {});
    assert.equal(answer.status, 200);
    await waitFor("the stream to end", () => watching.ended());
  }
});

test("a watcher that stops reading is cut off, and the others continue", async (t) => {
  const at = await startOperatorWorld(t, { sleepMsMax: 500, feed: { entriesMax: 20_000, watchersMax: 2 } });
  const headers = await bearer(at);
  const slow = watch(t, at, "", headers);
  const quick = watch(t, at, "", headers);
  await waitFor("both streams to open", () => slow.status() === 200 && quick.status() === 200);
  slow.pause();
  const long = `/${"x".repeat(8_000)}`;
  let pushed = 0;
  const pushedMax = 20_000;
  const isSlotFree = async (): Promise<boolean> => {
    const third = watch(t, at, "", headers);
    await waitFor("the response", () => third.status() !== undefined);
    third.leave();
    return third.status() === 200;
  };
  // The kernel stores megabytes for a reader that reads nothing, at times later than they were written, and what the
  // feed has dropped by then is not sent. So records come until the slow reader is stuck.
  await waitFor(
    "the slow watcher's slot to be free",
    async () => {
      for (let i = 0; i < 50 && pushed < pushedMax; i++) pushRecords(at.feed, record(++pushed, long));
      await waitFor("the quick watcher to get every record", () => quick.count() === pushed, { everyMs: 1 });
      return pushed % 500 === 0 && (await isSlotFree());
    },
    { withinMs: 20_000, everyMs: 1 },
  );
  assert.deepEqual(
    quick.numbers(),
    Array.from({ length: pushed }, (_, i) => i + 1),
  );
  assert.equal(quick.ended(), false);
});

test("a quiet stream sends comments, so that a dead connection is noticed", async (t) => {
  const at = await startOperatorWorld(t, { sleepMsMax: 50 });
  const watching = watch(t, at, "", await bearer(at));
  await waitFor("keep-alive comments", () => watching.text().split(": alive\n\n").length > 3);
  assert.equal(watching.ended(), false);
});

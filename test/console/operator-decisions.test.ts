/** The live stream of decisions: resumable, bounded, and ended when the operator loses access. */
import assert from "node:assert/strict";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { type TestContext, test } from "node:test";
import type { AuditRecord } from "../../src/audit/index.ts";
import { decision } from "../audit/support.ts";
import { signIn } from "../auth/authenticate/support.ts";
import { waitFor } from "../support/wait-for.ts";
import { type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

const record = (seq: number, path = "/"): AuditRecord => ({ kind: "decision", seq, ...decision(path) });

type Watching = Readonly<{
  status(): number | undefined;
  text(): string;
  /** Numbers of the records received. */
  numbers(): number[];
  lastId(): string;
  ended(): boolean;
  pause(): void;
  leave(): void;
}>;

function watch(t: TestContext, at: OperatorWorld, query: string, headers: Record<string, string>): Watching {
  let [text, ended] = ["", false];
  let response: IncomingMessage | undefined;
  const { port } = at.world;
  const path = new URL(at.url("/decisions")).pathname + query;
  const options = { host: "127.0.0.1", port, path, headers: { host: `authenticate.localhost:${port}`, ...headers } };
  const clientRequest: ClientRequest = request(options, (answer) => {
    response = answer;
    answer.setEncoding("utf8");
    answer.on("data", (chunk: string) => {
      text += chunk;
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
        .filter((event) => event.startsWith("id: "))
        .map((event) => (JSON.parse(dataOf(event) ?? "{}") as { seq: number }).seq),
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
  for (let i = 1; i <= 5; i++) at.feed.push(record(i));
  const first = watch(t, at, "?last=2", headers);
  await waitFor("the newest records", () => first.numbers().length === 2);
  assert.deepEqual(first.numbers(), [4, 5]);
  at.feed.push(record(6));
  await waitFor("the next record", () => first.numbers().length === 3);
  const cursor = first.lastId();
  first.leave();
  at.feed.push(record(7));
  at.feed.push(record(8));
  const again = watch(t, at, "?last=1", { ...headers, "last-event-id": cursor });
  await waitFor("the decisions since", () => again.numbers().length === 2);
  assert.deepEqual(again.numbers(), [7, 8]);
  const byQuery = watch(t, at, `?after=${cursor}`, headers);
  await waitFor("the same records by query", () => byQuery.numbers().length === 2);
  const next = watch(t, at, "", headers);
  await waitFor("the response", () => next.status() === 200);
  at.feed.push(record(9));
  await waitFor("only new decisions", () => next.numbers().length === 1);
  assert.deepEqual(next.numbers(), [9]);
  assert.ok(!next.text().includes("event: missed"));
});

test("a cursor that the node does not know is answered with a `missed` event", async (t) => {
  const at = await startOperatorWorld(t);
  for (let i = 1; i <= 3; i++) at.feed.push(record(i));
  const watching = watch(t, at, "", { ...(await bearer(at)), "last-event-id": "another-process-17" });
  await waitFor("the stored decisions", () => watching.numbers().length === 3);
  assert.match(watching.text(), /event: missed\ndata: \{\}\n\n/);
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
  at.feed.push(record(1));
  await waitFor("a record", () => watching.numbers().length === 1);
  await waitFor("the stream to end", () => watching.ended());
});

test("a stream ends when its session is revoked, and when its user is no longer an administrator", async (t) => {
  const at = await startOperatorWorld(t);
  for (const path of ["/users/alice/sessions/revoke", "/groups/admins/members"]) {
    const alice = at.world.visitor();
    await signIn(at.world, alice, "alice");
    const cookie = alice.cookieHeader(new URL(at.world.url("authenticate")));
    const watching = watch(t, at, "", { cookie, "sec-fetch-site": "same-origin" });
    await waitFor("the response", () => watching.status() === 200);
    await at.post("/groups/others/members", { add: ["alice"] });
    at.feed.push(record(1));
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
  for (let i = 1; i <= 2_000; i++) {
    at.feed.push(record(i, long));
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await waitFor("the quick watcher to get every record", () => quick.numbers().length === 2_000, {
    withinMs: 20_000,
    everyMs: 200,
  });
  await waitFor(
    "the slow watcher's slot to be free",
    async () => {
      const third = watch(t, at, "", headers);
      await waitFor("the response", () => third.status() !== undefined);
      third.leave();
      return third.status() === 200;
    },
    { withinMs: 20_000, everyMs: 100 },
  );
  assert.equal(quick.ended(), false);
});

test("a quiet stream sends comments, so that a dead connection is noticed", async (t) => {
  const at = await startOperatorWorld(t, { sleepMsMax: 50 });
  const watching = watch(t, at, "", await bearer(at));
  await waitFor("keep-alive comments", () => watching.text().split(": alive\n\n").length > 3);
  assert.equal(watching.ended(), false);
});

/**
 * Brokers on a real Postgres: many callers through two brokers while the leader is cut off, hands over, or loses its
 * server.
 *
 * Each command that is reported as done is in the log exactly once, and no command is reported as failed although it is
 * in the log.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type Broker, createLeaderClient, startBroker, startDatabrokerServer } from "../../src/broker/index.ts";
import {
  type BrokerId,
  type Command,
  type CommandResult,
  decodeEvents,
  type GroupId,
  genesis,
  Projection,
  readsLevel,
  type UnixMs,
  type UserId,
} from "../../src/events/index.ts";
import { createLocalFanout } from "../../src/replication/fanout/index.ts";
import { type EventLog, verifyLog } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { asked, cluster, createSession, FakeNode, quiet, random, revoke, secret, user } from "../broker/support.ts";
import { freePort } from "../support/free-port.ts";
import { startPostgres } from "../support/postgres.ts";
import type { PostgresServer } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";
import { type OwnStore, ownStore } from "./postgres-log-support.ts";

let server: PostgresServer;
let store: OwnStore;
const cleanups: (() => Promise<void>)[] = [];
before(async () => {
  server = await startPostgres({ settings: { fsync: "on" } });
});
after(() => server.stop());
beforeEach(async () => {
  store = await ownStore(server);
});
afterEach(async () => {
  for (const end of cleanups.splice(0).reverse()) await end();
  await store.close();
});

async function startMember(name: string): Promise<Readonly<{ broker: Broker; log: EventLog }>> {
  const log = await store.open();
  const port = await freePort();
  const broker = startBroker({
    ...{ log, cluster, secret, brokerId: name as BrokerId, fanout: createLocalFanout({ logger: quiet }) },
    ...{ clock: systemClock, random, logger: quiet, takeoverMs: 1_500, duties: [] },
    lease: { deltaMs: 2_000, drift: 0.01, beatMs: 200, windowMaxMs: 60_000 },
    leaderClient: createLeaderClient({ cluster, secret, clock: systemClock, tlsCa: null, allowPlaintext: false }),
    advertisedUrl: `http://127.0.0.1:${port}`,
    commandMs: 20_000,
  });
  const api = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port } },
  });
  cleanups.push(async () => {
    await api.close();
    await broker.stop();
  });
  return { broker, log };
}

type Outcome = Readonly<{ commandId: string; sessionId: string; result: CommandResult }>;

/** Creates sessions through both brokers. Each call is retried with its id until there is a definite answer. */
async function load(
  brokers: readonly Broker[],
  options: Readonly<{ callers: number; each: number }>,
): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  const callers = Array.from({ length: options.callers }, async (_, caller) => {
    for (let n = 0; n < options.each; n++) {
      const sessionId = `s${caller}-${n}`;
      const request = asked(createSession(sessionId, `u${caller}`));
      for (let attempt = 0; ; attempt++) {
        const broker = brokers[(caller + attempt) % brokers.length];
        const result = await broker?.databroker("authenticate").submit(request);
        if (result === undefined) return;
        if (result.type === "unavailable" && attempt < 200) {
          await new Promise((resolve) => setTimeout(resolve, 100));
          continue;
        }
        outcomes.push({ commandId: request.commandId, sessionId, result });
        break;
      }
    }
  });
  await Promise.all(callers);
  return outcomes;
}

/** Reads the log as another process does, and compares it with the answers to the callers. */
async function checkLog(outcomes: readonly Outcome[]): Promise<Projection> {
  const log = await store.open();
  const last = Math.max(...outcomes.map(({ result }) => (result.type === "done" ? result.link.position : 0)));
  // Other processes see a commit only after the next one, at the latest a beat.
  await waitFor("a beat", async () => (await log.observe()).head.position >= last);
  const projection = new Projection();
  const causes = new Map<string, number[]>();
  for (;;) {
    const page = await log.read(projection.applied, 10_000);
    if (page.type !== "page" || page.page.entries.length === 0) break;
    for (const recorded of decodeEvents(page.page.entries, projection.applied)) {
      projection.apply(recorded);
      if (recorded.cause !== null)
        causes.set(recorded.cause, [...(causes.get(recorded.cause) ?? []), recorded.position]);
    }
  }
  assert.equal((await verifyLog(log)).type, "intact");
  for (const { commandId, sessionId, result } of outcomes) {
    const positions = causes.get(commandId) ?? [];
    const [first = 0] = positions;
    assert.deepEqual(
      positions,
      positions.map((_, index) => first + index),
      "the events of a command are adjacent, and there once",
    );
    if (result.type === "done") {
      assert.equal(positions.at(-1), result.link.position);
      assert.deepEqual(await log.linkAt(result.link.position), result.link);
      assert.equal(projection.session(sessionId as never)?.status, "active");
    }
    if (result.type === "refused") assert.fail(result.message);
  }
  return projection;
}

const untilLeading = (broker: Broker) => waitFor("the broker to lead", () => broker.leading());

test("when the leader loses its store under 64 callers, the other broker takes over, and no command is lost or doubled", async (t) => {
  const a = await startMember("a");
  await untilLeading(a.broker);
  const b = await startMember("b");
  await waitFor("b to follow", () => b.broker.ready().ready);
  const loading = load([a.broker, b.broker], { callers: 64, each: 12 });
  await waitFor("some commands to be in the log", async () => ((await b.log.observe()).head.position ?? 0) > 200);
  await a.log.close(); // as if its host were cut off
  const cutAt = performance.now();
  await untilLeading(b.broker);
  t.diagnostic(`the other leads after ${Math.round(performance.now() - cutAt)} ms`);
  const outcomes = await loading;
  assert.equal(outcomes.length, 64 * 12);
  assert.ok(outcomes.every(({ result }) => result.type === "done"));
  assert.equal((await checkLog(outcomes)).counts.sessions, 64 * 12);
});

test("after server crashes in the middle of commits, unclear outcomes are looked up in the log, never guessed", async () => {
  const a = await startMember("a");
  await untilLeading(a.broker);
  const loading = load([a.broker], { callers: 32, each: 40 });
  for (let crash = 0; crash < 2; crash++) {
    const batches = (): number => a.broker.metrics()["batches"] ?? 0;
    const batchesBefore = batches();
    await waitFor("more batches to be in the log", () => batches() > batchesBefore + 1);
    await server.kill();
    await server.start();
    await untilLeading(a.broker);
  }
  const outcomes = await loading;
  const done = outcomes.filter(({ result }) => result.type === "done");
  assert.ok(done.length > 1_000, `${done.length} of ${outcomes.length}`);
  await checkLog(outcomes);
});

test("a leader hands over under load, and the new leader answers receipts for nodes of the old one", async () => {
  const a = await startMember("a");
  await untilLeading(a.broker);
  const b = await startMember("b");
  await waitFor("b to follow", () => b.broker.ready().ready);
  const node = new FakeNode("proxy-1");
  node.windowMs = 60_000; // it must not be fenced before it confirms
  await node.lease(b.broker.databroker("proxy"));
  const loading = load([b.broker], { callers: 8, each: 20 });
  const stopping = a.broker.stop();
  const outcomes = await loading;
  await stopping;
  await untilLeading(b.broker);
  assert.ok(outcomes.every(({ result }) => result.type === "done"));
  const revoked = await b.broker.databroker("operator").submit(asked(revoke("s0-0")));
  if (revoked.type !== "done") return assert.fail();
  const target = { type: "command", commandId: revoked.commandId } as const;
  const early = await b.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 0 });
  assert.deepEqual([early.complete, early.nodes[0]?.node], [false, "proxy-1"]);
  const waiting = b.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 10_000 });
  await node.confirm(b.broker.databroker("proxy"), revoked.link);
  assert.equal((await waiting).nodes[0]?.status, "applied");
  assert.equal((await b.log.epochs()).length, 3, "one epoch of a, its resignation, one epoch of b");
  assert.equal((await b.log.read(genesis, 1)).type, "page");
});

test("a mass change that one leader held is released by the next, once, though both brokers are asked", async () => {
  const a = await startMember("a");
  await untilLeading(a.broker);
  const b = await startMember("b");
  await waitFor("b to follow", () => b.broker.ready().ready);
  const submit = (broker: Broker, command: Command, as: "authenticate" | "operator" = "operator") =>
    broker.databroker(as).submit(asked(command, { actor: as === "operator" ? "operator:alice" : "system" }));
  const finalize = { type: "finalizeUpgrade", level: readsLevel } as const;
  await waitFor("the level", async () => (await submit(a.broker, finalize)).type === "done");
  const people = Array.from({ length: 40 }, (_, n) => `u${n}`);
  for (const name of people)
    assert.equal((await submit(a.broker, createSession(`s-${name}`, name), "authenticate")).type, "done");
  const members = { type: "changeGroupMembers", groupId: "eng" as GroupId, source: "operator" } as const;
  const userIds = people.map(user);
  assert.equal((await submit(a.broker, { ...members, added: userIds, removed: [] })).type, "done");
  const removal = asked({ ...members, added: [], removed: userIds }, { actor: "operator:alice" });
  const refused = await b.broker.databroker("operator").submit(removal);
  assert.equal(refused.type === "refused" && refused.code, "held", JSON.stringify(refused));
  await a.log.close(); // as if its host were cut off
  await untilLeading(b.broker);
  const again = await b.broker.databroker("operator").submit(removal);
  assert.deepEqual(again, refused, "the next leader says the same of the same command");
  const command = {
    type: "releaseHeldChange",
    heldId: removal.commandId,
    version: 1,
    reason: "ok",
    allowUntil: null,
  } as const;
  const released = await Promise.all([submit(b.broker, command), submit(b.broker, command)]);
  assert.deepEqual(released.map((result) => (result.type === "refused" ? result.code : result.type)).sort(), [
    "done",
    "not-found",
  ]);
  const projection = await checkLog([]);
  assert.equal(projection.groupsOf(userIds[0] as UserId, Date.now() as UnixMs).size, 0);
  assert.equal(projection.recomputedDigest(), projection.digest());
});

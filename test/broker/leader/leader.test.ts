/**
 * A leader on a log that fails in every way: group commit, repeated commands, unknown outcomes, and the data beside the
 * log.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Broker, BrokerOptions } from "../../../src/broker/index.ts";
import {
  type CommandResult,
  decodeEvents,
  type GroupId,
  genesis,
  type Link,
  readsLevel,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { createLocalFanout, openBatch } from "../../../src/replication/fanout/index.ts";
import {
  type AppendBatch,
  type AppendOutcome,
  createMemoryLog,
  type EventLog,
  LogUnavailableError,
} from "../../../src/replication/log/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  aCommandId,
  asked,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  folded,
  quiet,
  revoke,
  secret,
  session,
  sharedLog,
  user,
  wrapLog,
} from "../support.ts";

async function withBroker(
  log: EventLog,
  run: (broker: Broker) => Promise<void>,
  parts: Partial<BrokerOptions> = {},
): Promise<void> {
  const broker = brokerOn(log, parts);
  try {
    await run(broker);
  } finally {
    await broker.stop();
  }
}
const isDone = (result: CommandResult) => result.type === "done";
const linkIn = (result: CommandResult): Link =>
  result.type === "done" ? result.link : assert.fail(JSON.stringify(result));

/** Replaces the outcome of some appends. */
function faulty(
  log: EventLog,
  fault: (batch: AppendBatch, nth: number) => Promise<AppendOutcome> | undefined,
): EventLog {
  let nth = 0;
  return wrapLog(log, {
    append: async (batch) => {
      nth += 1;
      return (await fault(batch, nth)) ?? log.append(batch);
    },
  });
}

/** Every event of the log, checked to be one chain. */
async function eventsOf(log: EventLog) {
  const outcome = await log.read(genesis, 10_000);
  return outcome.type === "page" ? decodeEvents(outcome.page.entries, genesis) : assert.fail();
}
/** The number of runs of events per command in the log: never two. */
async function timesWritten(log: EventLog): Promise<ReadonlyMap<string, number>> {
  const runs = new Map<string, number>();
  let last: string | null = null;
  for (const { cause } of await eventsOf(log)) {
    if (cause !== null && cause !== last) runs.set(cause, (runs.get(cause) ?? 0) + 1);
    last = cause;
  }
  return runs;
}

describe("group commit", () => {
  test("64 concurrent callers share commits, each gets the link of its own events, and nothing is lost or repeated", async () => {
    const log = createMemoryLog();
    let appends = 0;
    const counting = faulty(log, () => {
      appends += 1;
      return undefined;
    });
    await withBroker(counting, async (broker) => {
      const port = broker.databroker("authenticate");
      const callers = Array.from({ length: 64 }, async (_, caller) => {
        const results: CommandResult[] = [];
        for (let n = 0; n < 10; n++) {
          results.push(await port.submit(asked(createSession(`s${caller}-${n}`, `u${caller % 20}`))));
        }
        return results;
      });
      const results = (await Promise.all(callers)).flat();
      assert.ok(results.every(isDone));
      assert.equal(new Set(results.map((result) => linkIn(result).position)).size, 640);
      assert.ok(appends < 300, `${appends} appends for 640 commands`);
      const projection = await folded(log);
      assert.equal(projection.counts.sessions, 640);
      assert.ok([...(await timesWritten(log)).values()].every((times) => times === 1));
    });
  });

  test("the answer follows the commit and the publication of the signed, linked batch", async () => {
    const log = createMemoryLog();
    const fanout = createLocalFanout({ logger: quiet });
    const open = createBrokerOpener({ cluster, secrets: [secret] });
    const lasts: Link[] = [];
    fanout.subscribe((envelope) => {
      const opened = openBatch(envelope, open);
      if ("refused" in opened) assert.fail(opened.detail);
      assert.deepEqual(opened.batch.previous, lasts.at(-1) ?? genesis);
      lasts.push(opened.batch.last);
    });
    await withBroker(
      log,
      async (broker) => {
        const result = await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
        assert.deepEqual(lasts.at(-1), linkIn(result));
        assert.deepEqual(await log.linkAt(linkIn(result).position), linkIn(result));
      },
      { fanout },
    );
  });

  test("commands and beats both proceed where every commit takes longer than a beat may wait", async () => {
    const log = createMemoryLog();
    const slow = <T>(write: () => Promise<T>): Promise<T> =>
      new Promise((resolve) => setTimeout(() => resolve(write()), 30));
    let beats = 0;
    const shared = sharedLog(
      wrapLog(log, {
        append: (batch) => slow(() => log.append(batch)),
        beat: (request) => {
          beats += 1;
          return slow(() => log.beat(request));
        },
      }),
    );
    const lease = { deltaMs: 5_000, drift: 0.01, beatMs: 20, windowMaxMs: 15_000 };
    await withBroker(
      shared,
      async (broker) => {
        const port = broker.databroker("authenticate");
        const node = new FakeNode("node-1");
        await node.lease(broker.databroker("proxy"));
        for (let n = 0; n < 4; n += 1) assert.ok(isDone(await port.submit(asked(createSession(`s${n}`, "alice")))));
        assert.ok(beats > 0);
      },
      { lease },
    );
  });

  test("a revocation overtakes commands that wait for a slow commit, but not its session's creation", async () => {
    const log = createMemoryLog();
    const { promise: gate, resolve: release } = Promise.withResolvers<void>();
    const order: string[] = [];
    const slow = faulty(log, (batch, nth) => {
      if (nth === 2) return gate.then(() => log.append(batch));
      return undefined;
    });
    await withBroker(slow, async (broker) => {
      const [authenticate, operator] = [broker.databroker("authenticate"), broker.databroker("operator")];
      await authenticate.submit(asked(createSession("old", "alice")));
      const first = authenticate.submit(asked(createSession("filler", "bob")));
      await new Promise((resolve) => setTimeout(resolve, 30));
      const waiting = [
        authenticate.submit(asked(createSession("late", "carol"))).then(() => order.push("late")),
        operator.submit(asked(revoke("late"))).then((result) => order.push(`revoke late: ${result.type}`)),
        operator.submit(asked(revoke("old"))).then(() => order.push("revoke old")),
      ];
      release();
      await Promise.all([first, ...waiting]);
      const places = await eventsOf(log);
      const place = (type: string, id: string) =>
        places.findIndex(({ event, stream }) => event.type === type && stream === `session:${id}`);
      assert.ok(place("SessionRevoked", "old") < place("SessionCreated", "late"));
      assert.ok(place("SessionCreated", "late") < place("SessionRevoked", "late"));
      assert.ok(order.includes("revoke late: done"));
    });
  });

  test("two commands that would observe each other's change are never decided on the same head", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      const limit = { maxSessionsPerUser: 3 };
      await Promise.all(
        Array.from({ length: 12 }, (_, n) => port.submit(asked(createSession(`s${n}`, "alice", limit)))),
      );
      const projection = await folded(log);
      const live = projection
        .sessionsOf("alice" as UserId)
        .filter((id) => projection.sessionStatus(id).status === "active");
      assert.equal(live.length, 3);
    });
  });
});

describe("command ids", () => {
  test("concurrent submissions of one id are executed once, and both callers get the same answer", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      const request = asked(createSession("s1", "alice"));
      const results = await Promise.all([port.submit(request), port.submit(request), port.submit(request)]);
      for (const result of results) assert.deepEqual(result, results[0]);
      assert.deepEqual(await port.submit(request), results[0]);
      assert.equal((await timesWritten(log)).get(request.commandId), 1);
    });
  });

  test("a retry that reaches a later leader gets the first answer, whatever the command would give now", async () => {
    const log = createMemoryLog();
    const create = asked(createSession("s1", "alice"));
    const refused = asked(createSession("s1", "bob"));
    const revocation = asked(revoke("s1"));
    let first: CommandResult[] = [];
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      first = [await port.submit(create), await port.submit(revocation)];
      assert.equal((await port.submit(refused)).type, "refused");
    });
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      assert.deepEqual([await port.submit(create), await port.submit(revocation)], first);
      assert.equal((await port.submit(refused)).type, "refused");
    });
  });
});

describe("outcomes", () => {
  const indeterminate = async (): Promise<AppendOutcome> => ({
    type: "indeterminate",
    cause: "the wait was cancelled",
  });

  test("an indeterminate commit that did commit is answered as done, once the epoch is open again", async () => {
    const log = createMemoryLog();
    const fault = faulty(log, (batch, nth) => (nth === 2 ? log.append(batch).then(indeterminate) : undefined));
    await withBroker(fault, async (broker) => {
      const port = broker.databroker("authenticate");
      await port.submit(asked(createSession("s0", "alice")));
      const requests = ["s1", "s2"].map((id) => asked(createSession(id, id)));
      const results = await Promise.all(requests.map((request) => port.submit(request)));
      assert.ok(results.every(isDone), JSON.stringify(results));
      const written = await timesWritten(log);
      for (const { commandId } of requests) assert.equal(written.get(commandId), 1);
      assert.equal((await log.epochs()).length, 2);
      for (const result of results) assert.deepEqual(await log.linkAt(linkIn(result).position), linkIn(result));
    });
  });

  test("an indeterminate commit that did not commit is executed in the next epoch", async () => {
    const log = createMemoryLog();
    const fault = faulty(log, (_, nth) => (nth === 1 ? indeterminate() : undefined));
    await withBroker(fault, async (broker) => {
      const result = await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      assert.equal(linkIn(result).epoch, 2);
      assert.equal((await folded(log)).counts.sessions, 1);
    });
  });

  test("an append that throws, or never answers, is indeterminate too", async () => {
    for (const failure of [() => Promise.reject(new Error("socket hang up")), () => new Promise<never>(() => {})]) {
      const log = createMemoryLog();
      const fault = faulty(log, (batch, nth) => (nth === 1 ? log.append(batch).then(failure) : undefined));
      await withBroker(
        fault,
        async (broker) => {
          const request = asked(createSession("s1", "alice"));
          assert.ok(isDone(await broker.databroker("authenticate").submit(request)));
          assert.equal((await timesWritten(log)).get(request.commandId), 1);
        },
        { writeTimeoutMs: 100 },
      );
    }
  });

  test("a command whose batches never get an outcome is reported as neither success nor failure", async () => {
    const log = createMemoryLog();
    await withBroker(faulty(log, indeterminate), async (broker) => {
      const result = await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      assert.equal(result.type, "unavailable");
      assert.equal((await folded(log)).counts.sessions, 0);
    });
  });

  test("an unavailable store is reported at once, and no success is claimed", async () => {
    const log = createMemoryLog();
    let down = true;
    const fault = faulty(log, async () => (down ? { type: "unavailable", cause: "down" } : (undefined as never)));
    await withBroker(fault, async (broker) => {
      const port = broker.databroker("authenticate");
      const request = asked(createSession("s1", "alice"));
      const result = await port.submit(request);
      assert.equal(result.type, "unavailable");
      down = false;
      assert.ok(isDone(await port.submit(request)));
    });
  });

  test("without its store a broker is not ready, refuses commands soon, and continues when the store is back", async (t) => {
    const store = sharedLog();
    let down = false;
    const gone = <T>(question: () => Promise<T>): Promise<T> =>
      down ? Promise.reject(new LogUnavailableError("down")) : question();
    const write = <T>(question: () => Promise<T>) =>
      down ? Promise.resolve({ type: "indeterminate", cause: "down" } as const) : question();
    const log = wrapLog(store, {
      observe: () => gone(() => store.observe()),
      read: (after, limit) => gone(() => store.read(after, limit)),
      openEpoch: (request) => write(() => store.openEpoch(request)),
      append: (batch) => write(() => store.append(batch)),
      beat: (request) => write(() => store.beat(request)),
    });
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      await port.submit(asked(createSession("s0", "alice")));
      assert.deepEqual(broker.ready(), { ready: true, reasons: [] });
      down = true;
      await waitFor("the broker to be unready", () => !broker.ready().ready);
      const request = asked(createSession("s1", "alice"));
      const began = performance.now();
      assert.equal((await port.submit(request)).type, "unavailable");
      t.diagnostic(`turned away after ${Math.round(performance.now() - began)} ms`);
      down = false;
      await waitFor("the broker to be ready", () => broker.ready().ready);
      assert.ok(isDone(await port.submit(request)));
    });
  });

  test("a batch fenced half way is never reported as success, and is executed when the broker leads again", async () => {
    const log = createMemoryLog();
    let fence = true;
    const fault = faulty(log, async (batch) => {
      if (!fence) return undefined as never;
      fence = false;
      return { type: "fenced", epoch: batch.epoch };
    });
    await withBroker(fault, async (broker) => {
      const request = asked(createSession("s1", "alice"));
      assert.ok(isDone(await broker.databroker("authenticate").submit(request)));
      assert.equal((await timesWritten(log)).get(request.commandId), 1);
      assert.equal(broker.metrics()["stepDowns"], 1);
    });
  });

  test("a leader that fails after a batch's commit leaves no caller waiting: the next epoch answers", async () => {
    const log = createMemoryLog();
    const quietFanout = createLocalFanout({ logger: quiet });
    let failing = false;
    const fanout = {
      ...quietFanout,
      publish(envelope: Uint8Array) {
        if (failing) {
          failing = false;
          throw new Error("a fan-out that fails");
        }
        quietFanout.publish(envelope);
      },
    };
    await withBroker(
      log,
      async (broker) => {
        await waitFor("the broker to lead", () => broker.leading());
        failing = true;
        const request = asked(createSession("s1", "alice"));
        assert.ok(isDone(await broker.databroker("authenticate").submit(request)));
        assert.equal((await timesWritten(log)).get(request.commandId), 1);
      },
      { fanout },
    );
  });

  test("when an append finds another head, the epoch is reopened and the broker's state catches up", async () => {
    const log = createMemoryLog();
    const fault = faulty(log, async (batch, nth) =>
      nth === 1 ? { type: "head-moved", head: batch.last } : (undefined as never),
    );
    await withBroker(fault, async (broker) => {
      assert.ok(isDone(await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")))));
    });
  });

  test("a duplicate that only the log knows is answered, and the rest of its batch is written", async () => {
    const log = createMemoryLog();
    const known = asked(createSession("s1", "alice"));
    await withBroker(log, async (broker) => {
      assert.ok(isDone(await broker.databroker("authenticate").submit(known)));
    });
    // The broker's state is made to forget: another session under the id of an executed command.
    const again = { ...asked(createSession("s9", "zoe")), commandId: known.commandId };
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      const results = await Promise.all([
        port.submit(asked(createSession("s2", "bob"))),
        port.submit(again),
        port.submit(asked(createSession("s3", "carol"))),
      ]);
      assert.ok(results.every(isDone));
      const projection = await folded(log);
      assert.equal(projection.session(session("s9")), undefined);
      assert.equal(projection.counts.sessions, 3);
    });
  });

  test("when a stream has another version than expected, the broker learns it and writes the batch again", async () => {
    const log = createMemoryLog();
    let lies = 1;
    const fault = wrapLog(log, {
      streamVersions: async (streams) => {
        const versions = new Map(await log.streamVersions(streams));
        if (lies-- > 0) for (const stream of streams) versions.set(stream, 7);
        return versions;
      },
    });
    await withBroker(fault, async (broker) => {
      assert.ok(isDone(await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")))));
      assert.equal(broker.metrics()["versionConflicts"], 1);
    });
  });

  test("a session id that has left the projection is still refused, because its stream exists", async () => {
    const log = createMemoryLog();
    await withBroker(
      log,
      async (broker) => {
        const port = broker.databroker("authenticate");
        const soon = Date.now() + 2_000; // time for a busy machine to create it
        assert.ok(isDone(await port.submit(asked(createSession("s1", "alice", { expiresAt: soon as never })))));
        await waitFor("the session to expire", () => Date.now() > soon);
        await waitFor("the sweep", async () => (await folded(log)).session(session("s1")) === undefined);
        const result = await port.submit(asked(createSession("s1", "alice")));
        assert.equal(result.type === "refused" && result.code, "conflict");
      },
      { expirySweepMs: 100 },
    );
  });

  test("a full queue refuses commands", async () => {
    const log = createMemoryLog();
    const { promise: gate, resolve: release } = Promise.withResolvers<void>();
    await withBroker(
      faulty(log, (batch) => gate.then(() => log.append(batch))),
      async (broker) => {
        const port = broker.databroker("authenticate");
        const many = Array.from({ length: 60 }, (_, n) => port.submit(asked(createSession(`s${n}`, `u${n}`))));
        const refused = await Promise.race(many.slice(-1));
        assert.equal(refused?.type, "unavailable");
        release();
        const results = await Promise.all(many);
        assert.ok(results.filter(isDone).length >= 50);
      },
      { commandsMax: 50 },
    );
  });

  test("under random faults every acknowledged command is in the log exactly once, and no refused one is", async () => {
    let seed = 12_345;
    const next = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed / 2 ** 31;
    };
    const log = createMemoryLog();
    const fault = faulty(log, async (batch) => {
      const dice = next();
      if (dice < 0.1) return indeterminate();
      if (dice < 0.2) return log.append(batch).then(indeterminate);
      if (dice < 0.25) return { type: "unavailable", cause: "down" };
      if (dice < 0.3) return { type: "fenced", epoch: batch.epoch };
      if (dice < 0.35) throw new Error("connection lost");
      return undefined as never;
    });
    await withBroker(
      fault,
      async (broker) => {
        const [authenticate, operator] = [broker.databroker("authenticate"), broker.databroker("operator")];
        const outcomes: (readonly [string, CommandResult])[] = [];
        const callers = Array.from({ length: 16 }, async (_, caller) => {
          for (let n = 0; n < 6; n++) {
            const id = `s${caller}-${n}`;
            const create = asked(createSession(id, `u${caller}`));
            let result = await authenticate.submit(create);
            for (let tries = 0; result.type === "unavailable" && tries < 50; tries++)
              result = await authenticate.submit(create);
            outcomes.push([create.commandId, result]);
            const cut = asked(revoke(id));
            outcomes.push([cut.commandId, await operator.submit(cut)]);
          }
        });
        await Promise.all(callers);
        const written = await timesWritten(log);
        for (const [commandId, result] of outcomes) {
          if (result.type === "done" && result.changed) assert.equal(written.get(commandId), 1);
          if (result.type === "refused") assert.equal(written.get(commandId), undefined, result.message);
        }
        const created = outcomes.filter(([, result]) => result.type === "done");
        assert.ok(created.length > 150, `${created.length} of ${outcomes.length}`);
      },
      { commandMs: 20_000 },
    );
  });
});

describe("a broker's stored data", () => {
  test("tokens are sealed in the vault, readable by authenticate and proxy, and deleted with the session", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      await port.submit(asked(createSession("s1", "alice")));
      assert.equal((await port.tokens(session("s1")))?.accessToken, "access-s1");
      const entry = await log.vault(session("s1"));
      assert.equal(Buffer.from(entry?.sealed ?? "").includes("access-s1"), false);
      assert.equal((await broker.databroker("proxy").tokens(session("s1")))?.accessToken, "access-s1");
      for (const role of ["authorize", "operator", "broker"] as const)
        await assert.rejects(broker.databroker(role).tokens(session("s1")), { code: "ERR_BROKER_FORBIDDEN" });
      await port.submit(asked(revoke("s1")));
      assert.equal(await port.tokens(session("s1")), undefined);
    });
  });

  test("a page carries the keys of the people in it, except erased ones", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      for (const name of ["alice", "bob"]) await port.submit(asked(createSession(`s-${name}`, name)));
      await broker.databroker("operator").submit(asked({ type: "eraseUser", userId: user("bob") }));
      const outcome = await port.read(genesis, { limit: 100, waitMs: 0 });
      assert.ok(outcome.type === "page");
      assert.deepEqual(
        outcome.page.keys.map(({ userId }) => userId),
        ["alice"],
      );
    });
  });

  test("a reader at the head waits for new events", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      const port = broker.databroker("authenticate");
      const head = linkIn(await port.submit(asked(createSession("s1", "alice"))));
      const waiting = port.read(head, { limit: 10, waitMs: 5_000 });
      const next = linkIn(await port.submit(asked(revoke("s1"))));
      const outcome = await waiting;
      assert.deepEqual(outcome.type === "page" && outcome.page.last, next);
      const empty = await port.read(next, { limit: 10, waitMs: 20 });
      assert.equal(empty.type === "page" && empty.page.entries.length, 0);
    });
  });

  test("the sweep ends expired sessions; a duty runs while this broker leads, one run at a time, and is stopped", async () => {
    const log = createMemoryLog();
    let [running, most, runs, told] = [0, 0, 0, false];
    const duty: NonNullable<BrokerOptions["duties"]>[number] = {
      name: "test",
      everyMs: 5,
      async run({ signal }) {
        running += 1;
        runs += 1;
        most = Math.max(most, running);
        const stopped = new Promise<void>((resolve) => {
          signal.addEventListener("abort", () => {
            told = true;
            resolve();
          });
        });
        await (runs > 3 ? stopped : new Promise((resolve) => setTimeout(resolve, 20)));
        running -= 1;
      },
    };
    await withBroker(
      log,
      async (broker) => {
        const expiresAt = (Date.now() + 100) as never;
        await broker.databroker("authenticate").submit(asked(createSession("s1", "alice", { expiresAt })));
        await waitFor("the sweep", async () => (await folded(log)).counts.sessions === 0);
        await waitFor("several runs of the duty", () => runs > 3);
      },
      { duties: [duty], expirySweepMs: 30 },
    );
    assert.deepEqual([most, told, running], [1, true, 0]);
  });

  test("the sweep records the ends of memberships and suspensions soon after they have come, and not before", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      const operator = broker.databroker("operator");
      await operator.submit(asked({ type: "finalizeUpgrade", level: readsLevel }));
      await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      await broker.databroker("authenticate").submit(asked(createSession("s2", "bob")));
      const until = (Date.now() + 400) as UnixMs;
      const added = { added: [user("alice")], removed: [], until, reason: "on call" };
      const group = { groupId: "eng" as GroupId, source: "operator" } as const;
      assert.ok(isDone(await operator.submit(asked({ type: "changeGroupMembers", ...group, ...added }))));
      const suspend = { type: "suspendUser", userId: user("bob"), reason: "lost laptop", until } as const;
      assert.ok(isDone(await operator.submit(asked(suspend))));
      await waitFor("both ends", async () => {
        const state = await folded(log);
        const isOver = state.timeBoxes === 0;
        assert.ok(!isOver || Date.now() >= until, "not before the end");
        return isOver;
      });
      const state = await folded(log);
      assert.equal(state.membership(user("alice"), "eng" as GroupId), undefined);
      assert.equal(state.user(user("bob"))?.status, "active");
      assert.equal(state.sessionStatus(session("s2")).status, "revoked");
    });
  });

  test("a previous secret still opens what was wrapped and sealed under it", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
    });
    const rotated = { secret: new Uint8Array(32).fill(9), previousSecret: secret };
    await withBroker(
      log,
      async (broker) => {
        const port = broker.databroker("authenticate");
        assert.equal((await port.tokens(session("s1")))?.accessToken, "access-s1");
        const result = await port.submit(asked(createSession("s2", "alice")));
        assert.ok(isDone(result));
        const types = (await eventsOf(log)).filter(({ cause }) => cause === result.commandId).map(({ type }) => type);
        assert.deepEqual(types, ["SessionCreated"]);
      },
      rotated,
    );
  });

  test("a person whose key does not open is left unchanged: nothing is sealed under an unstored key", async () => {
    const log = createMemoryLog();
    await withBroker(log, async (broker) => {
      await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
    });
    await withBroker(
      log,
      async (broker) => {
        const port = broker.databroker("authenticate");
        const [alice, bob] = await Promise.all([
          port.submit(asked(createSession("s2", "alice"))),
          port.submit(asked(createSession("s3", "bob"))),
        ]);
        assert.deepEqual([alice.type, bob.type], ["unavailable", "done"]);
      },
      { secret: new Uint8Array(32).fill(9) },
    );
  });
});

test("each role may submit its own commands and no others", async () => {
  await withBroker(createMemoryLog(), async (broker) => {
    const create = createSession("s1", "alice");
    const configuration = { type: "activateConfiguration", nodeId: "n" as never, configHash: "aa" as never } as const;
    const change = (source: "operator" | "idp") =>
      ({ type: "changeGroupMembers", groupId: "g" as never, source, added: [user("alice")], removed: [] }) as const;
    const table = [
      ["authenticate", create, "done"],
      ["proxy", create, "refused"],
      ["operator", create, "refused"],
      ["broker", create, "refused"],
      ["proxy", configuration, "done"],
      ["authorize", configuration, "done"],
      ["proxy", revoke("s1"), "refused"],
      ["authorize", revoke("s1"), "refused"],
      ["authenticate", change("idp"), "done"],
      ["authenticate", change("operator"), "refused"],
      ["operator", change("operator"), "done"],
      ["authenticate", { type: "suspendUser", userId: user("alice"), reason: "" }, "refused"],
      ["operator", { type: "expireSessions", sessionIds: [] }, "refused"],
      ["broker", { type: "expireSessions", sessionIds: [] }, "refused"],
      ["operator", configuration, "refused"],
      ["broker", configuration, "refused"],
      ["operator", revoke("s1"), "done"],
    ] as const;
    for (const [role, command, expected] of table) {
      const result = await broker.databroker(role).submit(asked(command));
      assert.equal(result.type, expected, `${role}: ${command.type}`);
      if (result.type === "refused") assert.equal(result.code, "forbidden");
    }
    const actor = "operator:mallory";
    const posing = await broker
      .databroker("authenticate")
      .submit({ ...asked(revoke("s1")), actor, commandId: aCommandId() });
    assert.equal(posing.type === "refused" && posing.code, "forbidden");
  });
});

/**
 * Batches made ahead: commands that arrive while a commit is in flight are executed behind it. Nothing of them is
 * answered, sent or kept unless the previous batch was written.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Broker, BrokerOptions } from "../../../src/broker/index.ts";
import { type CommandRequest, type CommandResult, decodeEvents, genesis } from "../../../src/events/index.ts";
import { createLocalFanout, openBatch } from "../../../src/replication/fanout/index.ts";
import {
  type AppendBatch,
  type AppendOutcome,
  createMemoryLog,
  type EventLog,
} from "../../../src/replication/log/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  asked,
  brokerOn,
  cluster,
  createSession,
  folded,
  quiet,
  revoke,
  secret,
  sharedLog,
  user,
  wrapLog,
} from "../support.ts";

/** A log that can hold one append until it is released, with the given outcome. */
function holding(log: EventLog) {
  const appended: AppendBatch[] = [];
  const laidOut: AppendBatch[] = [];
  let underWay = 0;
  let most = 0;
  let held: Readonly<{ promise: Promise<AppendOutcome | undefined> }> | undefined;
  const wrapped = wrapLog(log, {
    layOut: (batch) => {
      laidOut.push(batch);
    },
    append: async (batch) => {
      appended.push(batch);
      underWay += 1;
      most = Math.max(most, underWay);
      try {
        const hold = held;
        held = undefined;
        return (await hold?.promise) ?? (await log.append(batch));
      } finally {
        underWay -= 1;
      }
    },
  });
  return {
    log: wrapped,
    appended,
    laidOut,
    mostUnderWay: () => most,
    /** Holds the next append. @returns a function that releases it; with an outcome, it is not written */
    hold(): (outcome?: AppendOutcome) => void {
      const { promise, resolve } = Promise.withResolvers<AppendOutcome | undefined>();
      held = { promise };
      return (outcome) => resolve(outcome);
    },
  };
}

type World = ReturnType<typeof holding> &
  Readonly<{
    broker: Broker;
    store: EventLog;
    submit: (request: CommandRequest) => Promise<CommandResult>;
    /** Submits commands, and waits until they are executed behind the batch in flight. */
    behind: (...requests: readonly CommandRequest[]) => Promise<Promise<CommandResult>[]>;
    /** Holds an append that contains this command. */
    inFlight: (
      request: CommandRequest,
    ) => Promise<Readonly<{ answer: Promise<CommandResult>; letGo: (outcome?: AppendOutcome) => void }>>;
  }>;

async function withHeld(
  run: (world: World) => Promise<void>,
  store: EventLog = createMemoryLog(),
  parts: Partial<BrokerOptions> = {},
): Promise<void> {
  const held = holding(store);
  const fanout = createLocalFanout({ logger: quiet });
  const broker = brokerOn(held.log, { fanout, ...parts });
  const submit = (request: CommandRequest) => {
    const role = ["suspendUser", "eraseUser"].includes(request.command.type) ? "operator" : "authenticate";
    return broker.databroker(role).submit(request);
  };
  const taken = () => waitFor("the command to be executed", () => broker.metrics()["commandsWaiting"] === 0);
  try {
    await run({
      ...{ ...held, broker, store, submit },
      async behind(...requests) {
        const answers = requests.map(submit);
        await waitFor("the commands to arrive", () => (broker.metrics()["commandsOpen"] ?? 0) > requests.length);
        await taken();
        return answers;
      },
      async inFlight(request) {
        const before = held.appended.length;
        const letGo = held.hold();
        const answer = submit(request);
        await waitFor("the append to be in flight", () => held.appended.length > before);
        return { answer, letGo };
      },
    });
  } finally {
    await broker.stop();
  }
}

const isDone = (result: CommandResult) => result.type === "done";
/** Every event of the log, checked to be one chain without a repeated command. */
async function wholeLog(store: EventLog) {
  const outcome = await store.read(genesis, 10_000);
  const events = outcome.type === "page" ? decodeEvents(outcome.page.entries, genesis) : assert.fail();
  const causes = events.flatMap(({ cause }) => cause ?? []);
  assert.equal(new Set(causes.filter((cause, n) => causes[n - 1] !== cause)).size, new Set(causes).size);
  return events;
}

describe("a batch made ahead", () => {
  test("commands that arrive while a commit is in flight go with the next one; one is prepared at a time", () =>
    withHeld(async ({ inFlight, behind, appended, mostUnderWay, store }) => {
      const first = await inFlight(asked(createSession("s0", "alice")));
      const answers = await behind(...["s1", "s2", "s3"].map((id) => asked(createSession(id, `user-${id}`))));
      assert.equal(appended.length, 1);
      first.letGo();
      assert.ok(isDone(await first.answer));
      assert.ok((await Promise.all(answers)).every(isDone));
      assert.deepEqual([appended.length, mostUnderWay()], [2, 1]);
      assert.deepEqual(appended[1]?.previous, appended[0]?.last);
      assert.equal((await folded(store)).counts.sessions, 4);
      await wholeLog(store);
    }));

  test("a batch made ahead and the batch in flight are published and answered only after their own commits", async () => {
    const fanout = createLocalFanout({ logger: quiet });
    const open = createBrokerOpener({ cluster, secrets: [secret] });
    const published: number[] = [];
    fanout.subscribe((envelope) => {
      const opened = openBatch(envelope, open);
      published.push("refused" in opened ? assert.fail(opened.detail) : opened.batch.last.position);
    });
    const store = createMemoryLog();
    const held = holding(store);
    const broker = brokerOn(held.log, { fanout });
    try {
      const port = broker.databroker("authenticate");
      const answered: string[] = [];
      const [letFirst, submit] = [
        held.hold(),
        (id: string) => port.submit(asked(createSession(id, id))).then(() => void answered.push(id)),
      ];
      const first = submit("s0");
      await waitFor("the first to be in flight", () => held.appended.length === 1);
      const start = published.length;
      const second = submit("s1");
      await waitFor("the second to be executed", () => broker.metrics()["commandsWaiting"] === 0);
      assert.deepEqual([published.length, answered], [start, []]);
      const letSecond = held.hold();
      letFirst();
      await first;
      await waitFor("the second to be in flight", () => held.appended.length === 2);
      assert.deepEqual([published.slice(start), answered], [[held.appended[0]?.last.position], ["s0"]]);
      letSecond();
      await second;
      assert.deepEqual(
        published.slice(start),
        held.appended.map(({ last }) => last.position),
      );
    } finally {
      await broker.stop();
    }
  });

  for (const [what, outcome] of [
    ["was not written", { type: "unavailable", cause: "down" }],
    ["has an unknown outcome", { type: "indeterminate", cause: "the wait was cancelled" }],
    ["found newer stream versions", { type: "version-conflict", streams: [] }],
    ["found another head", { type: "head-moved", head: genesis }],
  ] as const) {
    test(`a batch behind one that ${what} is discarded and made again; the discarded batch is never sent`, () =>
      withHeld(async ({ inFlight, behind, appended, store, broker }) => {
        const first = await inFlight(asked(createSession("s0", "alice")));
        const answers = await behind(asked(createSession("s1", "bob")), asked(createSession("s2", "carol")));
        first.letGo(outcome);
        const results = await Promise.all([first.answer, ...answers]);
        assert.ok(results.slice(1).every(isDone), JSON.stringify(results));
        assert.equal(results[0]?.type, outcome.type === "unavailable" ? "unavailable" : "done");
        const [lost, ...written] = appended;
        for (const { previous } of written) assert.notDeepEqual(previous, lost?.last);
        const read = await folded(store);
        assert.equal(read.counts.sessions, outcome.type === "unavailable" ? 2 : 3);
        const { leader } = await broker.databroker("operator").status();
        assert.equal(leader?.digest, read.digest(), "the leader has folded what is in the log, and nothing else");
        await wholeLog(store);
      }));
  }

  test("a fenced batch leaves nothing behind: its callers are sent to the new leader", () => {
    const store = sharedLog();
    return withHeld(
      async ({ inFlight, behind, appended, broker }) => {
        const first = await inFlight(asked(createSession("s0", "alice")));
        const answers = await behind(asked(createSession("s1", "bob")));
        const other = brokerOn(store, { brokerId: "broker-2" as never });
        try {
          await waitFor("the other to lead", () => other.leading());
          first.letGo();
          await Promise.allSettled([first.answer, ...answers]);
          assert.equal(appended.filter(({ previous }) => previous === appended[0]?.last).length, 0);
          await wholeLog(store);
          await waitFor("the first to follow", () => !broker.leading() || !other.leading());
        } finally {
          await other.stop();
        }
      },
      store,
      { commandMs: 300 },
    );
  });

  test("a command that could observe the batch in flight waits until it is committed; other commands do not", () =>
    withHeld(async ({ submit, inFlight, behind, appended, store }) => {
      assert.ok(isDone(await submit(asked(createSession("s0", "alice")))));
      const suspended = await inFlight(asked({ type: "suspendUser", userId: user("alice"), reason: "left" }));
      const [alice, bob] = await behind(asked(createSession("s1", "alice")), asked(createSession("s2", "bob")));
      suspended.letGo();
      const results = await Promise.all([suspended.answer, alice, bob]);
      const [, refused] = results;
      assert.ok(refused?.type === "refused" && refused.code === "suspended", JSON.stringify(refused));
      assert.equal(results[2]?.type, "done");
      assert.equal(appended.length, 3);
      assert.equal((await folded(store)).session("s1" as never), undefined);
    }));

  test("commands that the batch in flight held up are appended next, although a beat is due", async () => {
    const writes: string[] = [];
    const slowly = <T>(what: string, write: () => Promise<T>): Promise<T> => {
      writes.push(what);
      return new Promise((resolve) => setTimeout(() => resolve(write()), 60));
    };
    const memory = createMemoryLog();
    const store = sharedLog(
      wrapLog(memory, {
        append: (batch) => slowly("append", () => memory.append(batch)),
        beat: (request) => slowly("beat", () => memory.beat(request)),
      }),
    );
    const lease = { deltaMs: 5_000, drift: 0.01, beatMs: 20, windowMaxMs: 15_000 };
    await withHeld(
      async ({ inFlight, behind }) => {
        const first = await inFlight(asked(createSession("s0", "alice")));
        const from = writes.length;
        const answers = await behind(asked(createSession("s1", "alice")), asked(revoke("unknown")));
        first.letGo();
        const results = await Promise.all([first.answer, ...answers]);
        assert.deepEqual(
          results.map(({ type }) => type),
          ["done", "done", "refused"],
        );
        const [append, ...after] = writes.slice(from);
        assert.equal(append, "append");
        assert.equal(after[0], "append");
      },
      store,
      { lease },
    );
  });

  test("a revocation of a session whose creation is in flight revokes it", () =>
    withHeld(async ({ inFlight, behind, store }) => {
      const first = await inFlight(asked(createSession("s0", "alice")));
      const [revoked] = await behind(asked(revoke("s0")));
      first.letGo();
      assert.ok(isDone(await first.answer));
      assert.ok(revoked !== undefined && isDone(await revoked));
      assert.equal((await folded(store)).sessionStatus("s0" as never).status, "revoked");
    }));

  test("a refusal made ahead is answered once a later write has confirmed that the broker still leads", () =>
    withHeld(async ({ inFlight, behind }) => {
      const first = await inFlight(asked(createSession("s0", "alice")));
      const [refused] = await behind(asked(revoke("unknown")));
      let answered = false;
      void refused?.then(() => {
        answered = true;
      });
      assert.equal(answered, false);
      first.letGo();
      assert.ok(isDone(await first.answer));
      assert.equal((await refused)?.type, "refused");
    }, sharedLog()));

  test("a large batch is encoded before its turn, and exactly that one is appended", () =>
    withHeld(async ({ inFlight, behind, appended, laidOut, store }) => {
      const first = await inFlight(asked(createSession("s0", "alice")));
      const requests = Array.from({ length: 300 }, (_, n) => asked(createSession(`n${n}`, `user-${n}`)));
      const answers = await behind(...requests);
      await waitFor("the batch to be encoded", () => laidOut.length > 0);
      first.letGo();
      assert.ok((await Promise.all(answers)).every(isDone));
      assert.equal(appended[1], laidOut[0]);
      assert.equal((await folded(store)).counts.sessions, 301);
    }));

  test("a large batch that was encoded behind a failed one is made again", () =>
    withHeld(async ({ inFlight, behind, appended, laidOut, store }) => {
      const first = await inFlight(asked(createSession("s0", "alice")));
      const requests = Array.from({ length: 300 }, (_, n) => asked(createSession(`n${n}`, `user-${n}`)));
      const answers = await behind(...requests);
      await waitFor("the batch to be encoded", () => laidOut.length > 0);
      first.letGo({ type: "unavailable", cause: "down" });
      assert.equal((await first.answer).type, "unavailable");
      assert.ok((await Promise.all(answers)).every(isDone));
      const [thrownAway] = laidOut;
      assert.ok(thrownAway !== undefined && !appended.includes(thrownAway));
      assert.equal((await folded(store)).counts.sessions, 300);
    }));

  test("a stopping broker writes the batch that it has made ahead", async () => {
    const store = createMemoryLog();
    const held = holding(store);
    const broker = brokerOn(held.log);
    const port = broker.databroker("authenticate");
    const letGo = held.hold();
    const first = port.submit(asked(createSession("s0", "alice")));
    await waitFor("the first to be in flight", () => held.appended.length === 1);
    const second = port.submit(asked(createSession("s1", "bob")));
    await waitFor("the second to be executed", () => broker.metrics()["commandsWaiting"] === 0);
    const stopped = broker.stop();
    letGo();
    assert.deepEqual((await Promise.all([first, second])).map(isDone), [true, true]);
    await stopped;
    assert.equal((await folded(store)).counts.sessions, 2);
  });
});

/**
 * The Postgres model beyond the contract: acknowledged commits survive a promotion by the procedure, and only by it.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { SimFact, SimFactOf } from "../../../chaos/sim/facts.ts";
import { watch } from "../../../chaos/sim/monitors/index.ts";
import { PostgresModel } from "../../../chaos/sim/postgres-model.ts";
import type { PostgresServer } from "../../../chaos/sim/postgres-server.ts";
import type { SimProcess } from "../../../chaos/sim/process.ts";
import { SimLog } from "../../../chaos/sim/sim-log.ts";
import { World, worldStart } from "../../../chaos/sim/world.ts";
import { type Epoch, type Link, sameLink } from "../../../src/events/index.ts";
import { LogUnavailableError, type Observation, type OpenEpochOutcome } from "../../../src/replication/log/log.ts";
import { aSession, LogWriter, openEpochRequest } from "../../support/log-writer.ts";

const identity = { role: "broker", node: null, lessee: null, build: "1", unknownTypes: [] } as const;

class Bench {
  readonly facts: SimFact[] = [];
  readonly world: World;
  readonly model: PostgresModel;
  readonly brokers: SimProcess[];

  constructor(options: Readonly<{ seed?: number; synchronous?: number; operator?: "tends" | "absent" }> = {}) {
    this.world = new World({ seed: options.seed ?? 1, facts: (fact) => this.facts.push(fact) });
    this.model = new PostgresModel({
      world: this.world,
      servers: ["pg-1", "pg-2", "pg-3"].map((name) => ({ name, region: "east" })),
      synchronous: options.synchronous ?? 1,
      operator: options.operator ?? "absent",
      partitionSize: 50,
    });
    this.brokers = ["broker-1", "broker-2"].map((name) =>
      this.world.addProcess({ name, region: "east", identity, start: () => {} }),
    );
    this.model.start();
    for (const broker of this.brokers) broker.start();
    this.world.run(1_500);
  }

  get servers(): readonly [PostgresServer, PostgresServer, PostgresServer] {
    const [a, b, c] = this.model.servers;
    if (a === undefined || b === undefined || c === undefined) throw new Error("three servers");
    return [a, b, c];
  }

  log(broker = 0, writeTimeoutMs = 4_000): SimLog {
    return new SimLog(this.brokers[broker] as SimProcess, this.model, { writeTimeoutMs, connectTimeoutMs: 300 });
  }

  /** Advances simulated time until the answer arrives. */
  wait<T>(ask: (answer: (value: T) => void) => void): T {
    let answer: { value: T } | undefined;
    ask((value) => {
      answer = { value };
    });
    this.world.runUntil(() => answer !== undefined, this.world.now + 60_000);
    if (answer === undefined) throw new Error("no answer");
    return answer.value;
  }

  open(log: SimLog): Writer {
    const seen = this.wait<Observation | LogUnavailableError>((answer) => log.observe(answer));
    if (seen instanceof LogUnavailableError) throw seen;
    const request = openEpochRequest(seen.epoch);
    const outcome = this.wait<OpenEpochOutcome>((answer) => log.openEpoch(request, answer));
    if (outcome.type !== "opened") throw new Error(outcome.type);
    return new Writer(this, log, LogWriter.of(undefined as never, request.incarnation, outcome));
  }

  of<Type extends SimFact["type"]>(type: Type): SimFactOf<Type>[] {
    return this.facts.filter((fact): fact is SimFactOf<Type> => fact.type === type);
  }
}

class Writer {
  readonly bench: Bench;
  readonly log: SimLog;
  readonly it: LogWriter;
  constructor(bench: Bench, log: SimLog, it: LogWriter) {
    this.bench = bench;
    this.log = log;
    this.it = it;
  }
  append(): string {
    const batch = this.it.batch([{ events: [aSession()] }]);
    const { type } = this.bench.wait<{ type: string }>((answer) => this.log.append(batch, answer));
    if (type === "appended") this.it.follow(batch);
    return type;
  }
  beat(): string {
    const { epoch, incarnation, head } = this.it;
    const request = { epoch, incarnation, head, lessees: [], left: [] };
    return this.bench.wait<{ type: string }>((answer) => this.log.beat(request, answer)).type;
  }
}

describe("a promotion by the procedure", () => {
  test("loses no acknowledged commit, and the old primary acknowledges nothing after it", () => {
    const bench = new Bench();
    const writer = bench.open(bench.log());
    for (let i = 0; i < 20; i += 1) assert.equal(writer.append(), "appended");
    const [old, second] = bench.servers;
    const { head } = writer.it;
    const outcome = bench.wait((answer) => bench.model.failOver("procedure", answer));
    assert.equal((outcome as { type: string }).type, "promoted");
    const chosen = bench.model.primary;
    assert.ok(chosen !== old && (chosen === second || chosen.name === "pg-3"));
    assert.ok(sameLink(chosen.visible.head, head));
    // The old primary does not know of the promotion: it accepts the write and hangs.
    assert.equal(writer.append(), "indeterminate");
    assert.ok(old.isPrimary);
    const promoted = bench.of("promoted").at(-1);
    assert.deepEqual([promoted?.how, promoted?.process], ["procedure", chosen.name]);
    // Another broker reaches the old primary first, waits there for the row in vain, and continues with the new one.
    const log = bench.log(1);
    assert.throws(() => bench.open(log), /unavailable/);
    const next = bench.open(log);
    assert.equal(next.append(), "appended");
    const after = bench.of("committed-cleanly").filter((fact) => fact.at > (promoted?.at ?? 0));
    assert.ok(after.every((fact) => fact.process === chosen.name));
  });

  test("is refused while too few standbys are reachable, and needs one of two if commits wait for both", () => {
    for (const [synchronous, wanted] of [
      [1, "impossible"],
      [2, "promoted"],
    ] as const) {
      const bench = new Bench({ synchronous });
      const writer = bench.open(bench.log());
      writer.append();
      bench.servers[2].process.kill();
      const outcome = bench.wait<{ type: string }>((answer) => bench.model.failOver("procedure", answer));
      assert.equal(outcome.type, wanted);
    }
  });

  test("chooses the standby with the longest log", () => {
    const bench = new Bench();
    const writer = bench.open(bench.log());
    const [primary, lazy] = bench.servers;
    const heal = bench.world.network.part([primary.process], [lazy.process]);
    for (let i = 0; i < 5; i += 1) assert.equal(writer.append(), "appended");
    bench.wait((answer) => bench.model.failOver("procedure", answer));
    assert.equal(bench.model.primary.name, "pg-3");
    heal();
    bench.world.run(bench.world.now + 8_000);
    assert.equal(lazy.wal.length, bench.model.primary.wal.length, "the other follows the new primary");
  });
});

describe("a promotion without the procedure", () => {
  test("in asynchronous mode loses the suffix that no standby had, and is reported as unsafe", () => {
    const bench = new Bench({ synchronous: 0 });
    const writer = bench.open(bench.log());
    writer.append();
    bench.world.run(bench.world.now + 100);
    const [primary, second, third] = bench.servers;
    bench.world.network.part([primary.process], [second.process, third.process]);
    const kept = writer.it.head;
    for (let i = 0; i < 5; i += 1) assert.equal(writer.append(), "appended");
    primary.process.kill();
    bench.wait((answer) => bench.model.failOver("unsafe", answer));
    assert.ok(sameLink(bench.model.primary.visible.head, kept));
    assert.equal(bench.of("promoted").at(-1)?.how, "unsafe");
    assert.equal(bench.model.counts.recordsLost, 5);
  });

  test("leaves an old primary that may keep acknowledging with a standby that was not repointed", () => {
    const bench = new Bench();
    const writer = bench.open(bench.log());
    writer.append();
    bench.wait((answer) => bench.model.failOver("unsafe", answer));
    assert.equal(writer.append(), "appended", "and the new primary has none of it: the reason for the procedure");
    assert.notEqual(bench.model.primary.visible.head.position, writer.it.head.position);
  });
});

test("an attentive operator rebuilds servers that cannot follow, and finally the old primary", () => {
  const bench = new Bench({ operator: "tends" });
  const writer = bench.open(bench.log());
  for (let i = 0; i < 5; i += 1) writer.append();
  bench.wait((answer) => bench.model.failOver("unsafe", answer));
  bench.world.run(bench.world.now + 30_000);
  const { primary } = bench.model;
  for (const standby of bench.model.standbys()) {
    assert.equal(standby.role, "standby");
    assert.equal(standby.wal.length, primary.wal.length);
    assert.ok(primary.senders.has(standby));
  }
});

test("a backup replaces every server's log, and epoch numbers repeat", () => {
  const bench = new Bench();
  const log = bench.log();
  const first = bench.open(log);
  first.append();
  bench.world.run(bench.world.now + 5_000);
  const head = bench.model.primary.visible.head;
  const second = bench.open(log);
  second.append();
  bench.wait<undefined>((answer) => bench.model.restoreBackup(2_000, () => answer(undefined)));
  bench.world.run(bench.world.now + 2_000);
  assert.ok(sameLink(bench.model.primary.visible.head, head));
  const again = bench.open(log);
  assert.equal(again.it.epoch, second.it.epoch);
  assert.notEqual(again.it.incarnation, second.it.incarnation);
  assert.equal(second.beat(), "fenced");
  assert.deepEqual(
    bench
      .of("promoted")
      .slice(-2)
      .map(({ how }) => how),
    ["restored", "restarted"],
  );
});

test("a restore is reported at once, even if another server is promoted before the restored primary starts", () => {
  const bench = new Bench();
  const writer = bench.open(bench.log());
  bench.world.run(bench.world.now + 5_000);
  const kept = writer.it.head;
  assert.equal(writer.append(), "appended");
  bench.wait<undefined>((answer) => bench.model.restoreBackup(2_000, () => answer(undefined)));
  const before = bench.model.primary;
  before.process.kill();
  bench.world.run(bench.world.now + 500);
  assert.equal(
    (bench.wait((answer) => bench.model.failOver("procedure", answer)) as { type: string }).type,
    "promoted",
  );
  const promotions = bench.of("promoted").slice(-2);
  assert.deepEqual(
    promotions.map(({ how, process, head }) => [how, process, head.position]),
    [
      ["restored", before.name, kept.position],
      ["procedure", bench.model.primary.name, kept.position],
    ],
  );
  const monitors = watch({ wallStart: worldStart, deltaMs: 5_000, drift: 0.01, windowMaxMs: 15_000 });
  for (const fact of bench.facts) monitors.report(fact);
  assert.equal(monitors.monitorResult().counts.get(2), undefined);
});

test("partitions below the horizon are dropped whole, and never the current one", () => {
  const bench = new Bench();
  const log = bench.log();
  const writer = bench.open(log);
  for (let i = 0; i < 120; i += 1) writer.append();
  writer.beat();
  writer.beat();
  const { epoch, incarnation } = writer.it;
  const retain = (first: number) =>
    bench.wait<unknown>((answer) => log.retain({ epoch, incarnation, first: first as never }, answer)) as {
      base: Link;
      more: boolean;
    };
  assert.equal(retain(40).base.position, 0);
  const { base, more } = retain(1_000);
  assert.deepEqual([base.position, more], [49, true]);
  assert.deepEqual([retain(1_000).base.position, retain(1_000).base.position], [99, 99]);
  const read = bench.wait<unknown>((answer) => log.read({ ...base, position: 30 as never }, 10, answer));
  assert.deepEqual(read, { type: "truncated", first: 100 });
  assert.deepEqual(
    bench.of("truncated").map((fact) => fact.first),
    [50, 100],
  );
});

test("an idle transaction releases the head row after a second", () => {
  const bench = new Bench();
  const log = bench.log();
  const writer = bench.open(log);
  const [sleepy] = bench.brokers;
  // It sleeps as soon as it holds the lock, while it opens an epoch.
  const stuck = bench.log(0);
  stuck.openEpoch(openEpochRequest(writer.it.epoch), () => {});
  assert.ok(bench.world.runUntil(() => bench.model.primary.lock.isHeld, bench.world.now + 1_000));
  sleepy?.pause();
  const other = bench.log(1);
  const from = bench.world.now;
  const { epoch, incarnation, head } = writer.it;
  const outcome = bench.wait<{ type: string }>((answer) =>
    other.beat({ epoch, incarnation, head, lessees: [], left: [] }, answer),
  );
  assert.equal(outcome.type, "beaten");
  assert.ok(bench.world.now - from > 900 && bench.world.now - from < 1_500);
});

test("a write whose answer is lost is written; a write whose statement is lost is not", () => {
  for (const [what, written] of [
    ["answer", 1],
    ["statement", 0],
  ] as const) {
    const bench = new Bench();
    const writer = bench.open(bench.log());
    writer.append();
    const before = bench.model.primary.visible.head.position;
    bench.model.primary.loseNext(what);
    assert.equal(writer.append(), "indeterminate");
    assert.equal(bench.model.primary.visible.head.position, before + written);
  }
});

/** Two brokers that take turns to lead and write, with every kind of accident except unsafe promotions. */
function accidents(seed: number): Bench {
  const bench = new Bench({ seed, operator: "tends", synchronous: seed % 3 === 0 ? 2 : 1 });
  const { world, model } = bench;
  const random = world.random("workload");
  for (const broker of [0, 1]) {
    const log = bench.log(broker, 1_500);
    const process = bench.brokers[broker] as SimProcess;
    const again = (ms: number, run: () => void): unknown => process.after(random.within(ms / 2, ms), run);
    const lead = (): void =>
      log.observe((seen) => {
        if (seen instanceof LogUnavailableError) return again(500, lead);
        const request = openEpochRequest(seen.epoch as Epoch);
        return log.openEpoch(request, (outcome) => {
          if (outcome.type !== "opened") return again(1_000, lead);
          return write(LogWriter.of(undefined as never, request.incarnation, outcome));
        });
      });
    const write = (writer: LogWriter): void => {
      const batch = writer.batch([{ events: [aSession()] }]);
      log.append(batch, ({ type }) => {
        if (type !== "appended") return again(3_000, lead);
        writer.follow(batch);
        return again(60, () => write(writer));
      });
    };
    again(2_000, lead);
  }
  const faults = world.random("faults");
  const fault = (): void => {
    world.after(faults.within(300, 3_000), fault);
    const server = faults.pick(model.servers);
    const other = faults.pick(model.servers);
    const ms = faults.within(100, 5_000);
    const accident = faults.between(0, 8);
    if (accident === 0) {
      server.process.kill();
      world.after(ms, () => server.process.start());
    } else if (accident === 1) {
      server.process.pause();
      world.after(ms, () => server.process.resume());
    } else if (accident === 2) world.after(ms, world.network.part([server.process], [other.process]));
    else if (accident === 3) world.after(ms, world.network.cut(server.process, other.process));
    else if (accident <= 5) model.failOver("procedure", () => {});
    else if (accident === 6) model.cancelWait();
    else if (accident === 7) server.loseNext(faults.pick(["answer", "statement"]));
    else if (world.network.connections.size > 0) faults.pick([...world.network.connections]).reset();
  };
  world.after(3_000, fault);
  world.run(60_000);
  return bench;
}

const textOf = ({ at, process, type }: SimFact): string => `${at} ${process} ${type}`;

test("the procedure never loses an acknowledged commit, whatever happens to the servers, and a seed repeats its run", () => {
  let promotions = 0;
  for (let seed = 1; seed <= 12; seed += 1) {
    const bench = accidents(seed);
    const { facts, model } = bench;
    const acknowledged = facts.filter((fact) => fact.type === "committed-cleanly");
    assert.ok(acknowledged.length > 50, `seed ${seed}: ${acknowledged.length} commits`);
    const kept = model.primary.wal.map((record) => record.txn);
    const known = new Set(kept);
    for (const { txn, at } of acknowledged) assert.ok(known.has(txn), `seed ${seed}: ${txn} of ${at} is lost`);
    assert.deepEqual(
      kept,
      [...kept].sort((a, b) => a - b),
    );
    promotions += facts.filter((fact) => fact.type === "promoted" && fact.how === "procedure").length;
    assert.ok(facts.every((fact) => fact.type !== "promoted" || fact.how !== "unsafe"));
    // Ids and bytes of these events are random; types, times and processes of facts are not.
    if (seed === 1) assert.deepEqual(facts.map(textOf), accidents(1).facts.map(textOf));
  }
  assert.ok(promotions > 12);
});

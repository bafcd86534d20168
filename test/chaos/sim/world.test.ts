/** The simulated world: one run per seed, and realistic clocks, pauses, kills, cuts and connections. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { SimFact } from "../../../chaos/sim/facts.ts";
import { Heap } from "../../../chaos/sim/heap.ts";
import type { Identity, SimProcess } from "../../../chaos/sim/process.ts";
import { streamOf } from "../../../chaos/sim/random.ts";
import { World, worldStart } from "../../../chaos/sim/world.ts";
import type { MonotonicMs } from "../../../src/events/index.ts";

const identity: Identity = { role: "node", node: null, lessee: "proxy", build: "1", unknownTypes: [] };

function add(world: World, name: string, start: (process: SimProcess) => void = () => {}, region = "east"): SimProcess {
  const process = world.addProcess({ name, region, identity, start });
  process.start();
  return process;
}

/** Two processes that send each other messages at random for a second. */
function chatter(seed: number): World {
  const world = new World({ seed, traceLinesMax: 100 });
  const random = world.random("workload");
  const names = ["a", "b"];
  for (const name of names) {
    add(world, name, (process) => {
      const again = (): void => {
        const other = world.process(name === "a" ? "b" : "a");
        world.network.send(process, other, () => world.note(other.name, "heard"));
        process.after(random.exponential(5), again);
      };
      process.after(1, again);
    });
  }
  world.run(1_000);
  return world;
}

describe("one seed, one run", () => {
  test("two runs of a seed have the same trace, and other seeds have others", () => {
    assert.equal(chatter(1).trace.hash, chatter(1).trace.hash);
    assert.notEqual(chatter(1).trace.hash, chatter(2).trace.hash);
    assert.deepEqual(chatter(1).trace.lines, chatter(1).trace.lines);
  });

  test("one more draw from one stream changes nothing in another", () => {
    const first = streamOf(7, "net");
    const again = streamOf(7, "net");
    streamOf(7, "pg").next();
    assert.deepEqual([first.next(), first.uuid()], [again.next(), again.uuid()]);
    assert.notEqual(streamOf(7, "net").next(), streamOf(7, "pg").next());
  });

  test("numbers from a stream are evenly distributed", () => {
    const stream = streamOf(3, "any");
    const counts = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 10_000; i += 1) counts[stream.between(0, 9)] = (counts[stream.between(0, 9)] ?? 0) + 1;
    assert.ok(counts.every((count) => count > 700 && count < 1_300));
  });
});

test("the heap returns entries by due time, then by insertion, and skips cancelled ones", () => {
  const heap = new Heap();
  const stream = streamOf(5, "heap");
  const got: [number, number][] = [];
  for (let i = 0; i < 2_000; i += 1) {
    const at = stream.between(0, 50);
    const due = heap.push(at, () => got.push([at, i]));
    if (i % 7 === 0) due.run = undefined;
  }
  for (let due = heap.pop(50); due !== undefined; due = heap.pop(50)) due.run?.();
  const sorted = [...got].sort(([a, i], [b, j]) => a - b || i - j);
  assert.deepEqual(got, sorted);
  assert.equal(got.length, 2_000 - 286);
});

describe("clocks", () => {
  test("a fast clock fires its timers early in real time, a slow clock fires them late", () => {
    const world = new World({ seed: 1 });
    const process = add(world, "node-1");
    process.setRate(1.01);
    let fired = 0;
    process.after(1_010, () => {
      fired = world.now;
    });
    world.run(2_000);
    assert.ok(Math.abs(fired - 1_000) < 1e-6, String(fired));
  });

  test("a timer follows its clock when the clock's rate changes before it fires", () => {
    const world = new World({ seed: 1 });
    const process = add(world, "node-1");
    let fired = 0;
    process.after(1_000, () => {
      fired = world.now;
    });
    world.run(500);
    process.setRate(0.5);
    world.run(3_000);
    assert.ok(Math.abs(fired - 1_500) < 1e-6, String(fired));
  });

  test("a suspended machine's monotonic clock stops; its wall clock continues or stops", () => {
    const world = new World({ seed: 1, wallSkewMsMax: 0 });
    for (const frozen of ["monotonic", "both"] as const) {
      const process = add(world, frozen);
      const before = process.moment();
      process.suspend(frozen);
      const from = world.now;
      world.run(from + 3_000);
      process.wake();
      assert.equal(process.moment().monotonic, before.monotonic);
      const passed = process.moment().wall - before.wall;
      assert.ok(frozen === "monotonic" ? Math.abs(passed - 3_000) <= 1 : passed <= 1, `${frozen}: ${passed}`);
    }
  });

  test("a machine with two overlapping sleeps sleeps until the last one ends, and a time server corrects its wall clock once", () => {
    const world = new World({ seed: 1, wallSkewMsMax: 0 });
    const process = add(world, "broker-1");
    const before = process.moment();
    const late = () => Math.round(worldStart + world.now - process.moment().wall);
    process.suspend("both");
    world.run(2_000);
    process.suspend("both");
    world.run(3_000);
    process.wake();
    process.setByServer();
    world.run(5_000);
    assert.deepEqual([process.status, process.moment().monotonic], ["paused", before.monotonic]);
    process.wake();
    assert.deepEqual([process.status, process.moment().monotonic, late()], ["running", before.monotonic, 5_000]);
    process.setByServer();
    process.setByServer();
    assert.equal(late(), 0);
    process.suspend("both");
    world.run(6_000);
    process.restart();
    assert.equal(late(), 1_000);
    process.setByServer();
    assert.equal(late(), 0);
  });

  test("the wall clock can be set without changing the monotonic one, and starts on the same day everywhere", () => {
    const world = new World({ seed: 1, wallSkewMsMax: 0 });
    const process = add(world, "node-1");
    const before = process.moment();
    assert.ok(Math.abs(before.wall - worldStart) <= 1);
    process.stepWall(-5_000);
    assert.equal(process.moment().monotonic, before.monotonic);
    assert.equal(process.moment().wall - before.wall, -5_000);
  });
});

describe("processes", () => {
  test("a callback that one boot scheduled never runs in the next", () => {
    const world = new World({ seed: 1 });
    const ran: number[] = [];
    const process = add(world, "node-1", (it) => {
      const boot = it.boot;
      it.after(100, () => ran.push(boot));
    });
    world.run(50);
    process.restart();
    world.run(1_000);
    assert.deepEqual(ran, [2]);
  });

  test("calls to a paused process wait in order, and calls to a dead one are dropped", () => {
    const world = new World({ seed: 1 });
    const process = add(world, "node-1");
    const got: string[] = [];
    process.pause();
    process.pause();
    process.run(() => got.push("first"));
    process.after(10, () => got.push("timer"));
    world.run(100);
    process.run(() => got.push("second"));
    process.resume();
    world.run(200);
    assert.equal(got.length, 0);
    process.resume();
    world.run(300);
    assert.deepEqual(got, ["first", "timer", "second"]);
    process.pause();
    process.run(() => got.push("never"));
    process.kill();
    process.run(() => got.push("never"));
    process.start();
    world.run(400);
    assert.equal(got.length, 3);
  });

  test("an alarm fires once, at the time that was set last", () => {
    const world = new World({ seed: 1 });
    const process = add(world, "node-1");
    const rang: number[] = [];
    const alarm = process.alarm(() => rang.push(world.now));
    const from = process.clock.monotonic();
    alarm.set((from + 50) as MonotonicMs);
    alarm.set((from + 20) as MonotonicMs);
    alarm.set((from + 80) as MonotonicMs);
    world.run(500);
    assert.equal(rang.length, 1);
    assert.ok(Math.abs((rang[0] ?? 0) - 80) < 1e-6);
  });

  test("starts, kills, pauses and clocks are reported as facts", () => {
    const facts: SimFact[] = [];
    const world = new World({ seed: 1, facts: (fact) => facts.push(fact) });
    const process = add(world, "node-1");
    process.pause();
    world.run(70);
    process.resume();
    process.stepWall(20);
    process.kill();
    assert.deepEqual(
      facts.map((fact) => fact.type),
      ["started", "clock-set", "paused", "resumed", "clock-set", "killed"],
    );
    assert.equal(facts.find((fact) => fact.type === "resumed")?.pausedMs, 70);
  });
});

describe("network", () => {
  test("a message is fast within a region, slow between regions, and does not pass a cut", () => {
    const world = new World({ seed: 1 });
    const [a, b, far] = [add(world, "a"), add(world, "b"), add(world, "far", undefined, "west")];
    const arrived: Record<string, number> = {};
    const send = (to: SimProcess, as: string) => {
      const from = world.now;
      world.network.send(a, to, () => {
        arrived[as] = world.now - from;
      });
      world.run(from + 100);
    };
    send(b, "near");
    send(far, "far");
    const heal = world.network.cut(a, b);
    send(b, "cut");
    heal();
    heal();
    send(b, "healed");
    assert.ok((arrived["near"] ?? 0) <= 2.1 && (arrived["far"] ?? 0) >= 39);
    assert.deepEqual(Object.keys(arrived), ["near", "far", "healed"]);
  });

  test("two faults on one pair do not heal each other", () => {
    const world = new World({ seed: 1 });
    const [a, b] = [add(world, "a"), add(world, "b")];
    const first = world.network.cut(a, b);
    const second = world.network.part([a], [b]);
    first();
    assert.ok(world.network.isCut(a, b) && world.network.isCut(b, a));
    second();
    assert.ok(!world.network.isCut(a, b) && !world.network.isCut(b, a));
  });

  test("a request ends once: answered, refused by a dead process, or lost to a cut or a kill", () => {
    const world = new World({ seed: 1 });
    const [a, b] = [add(world, "a"), add(world, "b")];
    const ask = (handle: (reply: (value: number) => void) => void) => {
      const ends: string[] = [];
      world.network.request<number>(a, b, { timeoutMs: 500, handle, done: (outcome) => ends.push(outcome.type) });
      return ends;
    };
    const answered = ask((reply) => {
      reply(1);
      reply(2);
    });
    const killed = ask(() => b.after(10, () => {}));
    world.run(100);
    b.kill();
    const refused = ask((reply) => reply(1));
    world.run(200);
    assert.deepEqual([answered, killed, refused], [["answered"], ["lost"], ["refused"]]);
    b.start();
    world.network.cut(b, a);
    const lost = ask((reply) => reply(1));
    world.run(1_000);
    assert.deepEqual(lost, ["lost"]);
  });

  test("a connection keeps order, holds messages during a cut, and notifies the other side of a close or a death", () => {
    const world = new World({ seed: 1 });
    const [a, b] = [add(world, "a"), add(world, "b")];
    const got: string[] = [];
    world.network.connect(a, b, {
      timeoutMs: 100,
      failed: (reason) => got.push(reason),
      opened: (connection) => {
        connection.onClosed("client", () => got.push("client told"));
        for (let i = 0; i < 50; i += 1) connection.send("client", () => got.push(String(i)));
        connection.send("client", () => {
          const heal = world.network.part([a], [b]);
          world.after(1_000, heal);
          connection.send("server", () => got.push("late"));
          b.after(10, () => b.kill());
        });
      },
    });
    world.run(500);
    assert.deepEqual(
      got,
      Array.from({ length: 50 }, (_, i) => String(i)),
    );
    world.run(10_000);
    assert.deepEqual(got.slice(50), ["late", "client told"]);
    assert.equal(world.network.connections.size, 0);
  });

  test("a reset connection ends for both sides, and messages in flight are lost", () => {
    const world = new World({ seed: 1 });
    const [a, b] = [add(world, "a"), add(world, "b")];
    const got: string[] = [];
    world.network.connect(a, b, {
      timeoutMs: 100,
      failed: (reason) => got.push(reason),
      opened: (connection) => {
        connection.onClosed("client", () => got.push("client"));
        connection.onClosed("server", () => got.push("server"));
        connection.send("client", () => got.push("message"));
        connection.reset();
      },
    });
    world.run(1_000);
    assert.deepEqual(got.sort(), ["client", "server"]);
  });
});

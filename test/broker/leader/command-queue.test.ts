/** The leader's command queue: order, precedence of tightening commands, and bounds. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessSet } from "../../../src/broker/commands/access.ts";
import type { QueuedCommand } from "../../../src/broker/core/internal-messages.ts";
import { CommandQueue } from "../../../src/broker/leader/command-queue.ts";
import type { Stream } from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { asked, revoke } from "../support.ts";

const bounds = { commandsMax: 100, bytesMax: 10_000 };
let orders = 0;
const normal = (...streams: string[]): QueuedCommand => queued("normal", streams);
const urgent = (...streams: string[]): QueuedCommand => queued("urgent", streams);
function queued(lane: "normal" | "urgent", streams: readonly string[]): QueuedCommand {
  orders += 1;
  const writes = streams.map((stream) => `session:${stream}` as Stream);
  return {
    order: orders,
    request: asked(revoke("x")),
    access: { reads: [], writes },
    urgent: lane === "urgent",
    bytes: 10,
    onlyIn: null,
  };
}
function queueOf(...all: readonly QueuedCommand[]): CommandQueue {
  const queue = new CommandQueue(bounds);
  for (const each of all) queue.offer(each);
  return queue;
}

describe("command queue", () => {
  test("a tightening command overtakes the others", () => {
    const [a, b, revocation] = [normal("a"), normal("b"), urgent("c")];
    assert.deepEqual(queueOf(a, b, revocation).take(10), [revocation, a, b]);
  });
  test("a tightening command never overtakes one on the same stream", () => {
    const [a, b, revocation] = [normal("a"), normal("b"), urgent("b")];
    assert.deepEqual(queueOf(a, b, revocation).take(10), [a, b, revocation]);
  });
  test("a tightening command never overtakes one whose reads it would change", () => {
    const reader: QueuedCommand = { ...normal("a"), access: { reads: ["session:g"], writes: ["session:a"] } };
    const revocation = urgent("g");
    assert.deepEqual(queueOf(reader, revocation).take(10), [reader, revocation]);
  });
  test("returned commands go to the front again, before a tightening command that arrived meanwhile", () => {
    const [a, b, onA, onC] = [normal("a"), normal("b"), urgent("a"), urgent("c")];
    const queue = queueOf(a);
    const taken = queue.take(10);
    for (const each of [b, onA, onC]) queue.offer(each);
    queue.requeue(taken);
    assert.deepEqual(queue.take(10), [onC, a, onA, b]);
  });
  test("a flood of tightening commands leaves room for the others", () => {
    const queue = queueOf(normal("n"), ...Array.from({ length: 50 }, (_, n) => urgent(`u${n}`)));
    const taken = queue.take(8);
    assert.equal(taken.length, 7);
    assert.equal(taken.filter((each) => !each.urgent).length, 1);
  });
  test("the queue is bounded by number and by bytes", () => {
    assert.equal(new CommandQueue({ commandsMax: 1, bytesMax: 100 }).offer(normal("a")), true);
    const full = new CommandQueue({ commandsMax: 1, bytesMax: 100 });
    full.offer(normal("a"));
    assert.equal(full.offer(normal("b")), false);
    const heavy = new CommandQueue({ commandsMax: 10, bytesMax: 15 });
    assert.deepEqual([heavy.offer(normal("a")), heavy.offer(normal("b"))], [true, false]);
    heavy.take(1);
    assert.equal(heavy.offer(normal("c")), true);
  });

  test("commands on one stream leave in their order of arrival, whatever is taken and returned", () => {
    const op = fc.oneof(
      fc.record({ op: fc.constant("offer" as const), stream: fc.constantFrom("a", "b", "c"), urgent: fc.boolean() }),
      fc.record({ op: fc.constant("batch" as const), max: fc.integer({ min: 1, max: 4 }), back: fc.nat(7) }),
    );
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
        const queue = new CommandQueue(bounds);
        const done: QueuedCommand[] = [];
        for (const each of ops) {
          if (each.op === "offer") {
            queue.offer(each.urgent ? urgent(each.stream) : normal(each.stream));
            continue;
          }
          // As in the leader: a command that conflicts with the batch, or with a held command, is held.
          const used = new AccessSet();
          const held = new AccessSet();
          const back: QueuedCommand[] = [];
          for (const [index, candidate] of queue.take(each.max).entries()) {
            const hold = used.conflicts(candidate.access) || held.conflicts(candidate.access) || index === each.back;
            if (hold) {
              back.push(candidate);
              held.add(candidate.access);
            } else {
              done.push(candidate);
              used.add(candidate.access);
            }
          }
          queue.requeue(back);
        }
        for (const stream of ["session:a", "session:b", "session:c"] as const) {
          const orders = done.filter(({ access }) => access.writes.includes(stream)).map(({ order }) => order);
          assert.deepEqual(
            orders,
            [...orders].sort((a, b) => a - b),
          );
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

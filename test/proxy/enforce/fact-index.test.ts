/** Fact index: finds the readers of a fact, whatever readers were added and removed before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FactKey } from "../../../src/auth/index.ts";
import { FactIndex, type Readings } from "../../../src/proxy/enforce/fact-index.ts";
import { fc } from "../../support/property.ts";

const facts: readonly FactKey[] = ["user:a", "user:b", "session:c", "record:d"];

test("after any additions and removals, exactly the readers of one of the facts are found", () => {
  const step = fc.oneof(
    fc.record({ type: fc.constant("add" as const), reads: fc.subarray([...facts]) }),
    fc.record({ type: fc.constant("remove" as const), which: fc.nat() }),
    fc.record({ type: fc.constant("tidy" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.subarray([...facts]), (steps, wanted) => {
      const index = new FactIndex<number>();
      const present = new Map<number, Readonly<{ reads: readonly FactKey[]; readings: Readings<number> }>>();
      for (const [reader, each] of steps.entries()) {
        if (each.type === "add") present.set(reader, { reads: each.reads, readings: index.add(reader, each.reads) });
        else if (each.type === "tidy") index.tidy();
        else {
          const removed = [...present.keys()][each.which % Math.max(1, present.size)];
          if (removed === undefined) continue;
          index.remove(present.get(removed)?.readings ?? []);
          present.delete(removed);
        }
      }
      const expected = [...present].filter(([, { reads }]) => reads.some((fact) => wanted.includes(fact)));
      const actual = [...index.readersOf(new Set(wanted))].sort((a, b) => a - b);
      assert.deepEqual(
        actual,
        expected.map(([reader]) => reader),
      );
    }),
  );
});

/** Fact index: whoever reads a fact is found by it, however many came and left before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { FactKey } from "../../../src/auth/index.ts";
import { FactIndex, type Readings } from "../../../src/proxy/enforce/fact-index.ts";
import { fc } from "../../support/property.ts";

const facts: readonly FactKey[] = ["user:a", "user:b", "session:c", "record:d"];

test("over any course of comings and goings, exactly those are found that read one of the facts", () => {
  const step = fc.oneof(
    fc.record({ type: fc.constant("add" as const), reads: fc.subarray([...facts]) }),
    fc.record({ type: fc.constant("remove" as const), which: fc.nat() }),
    fc.record({ type: fc.constant("tidy" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.subarray([...facts]), (steps, asked) => {
      const index = new FactIndex<number>();
      const there = new Map<number, Readonly<{ reads: readonly FactKey[]; readings: Readings<number> }>>();
      for (const [reader, each] of steps.entries()) {
        if (each.type === "add") there.set(reader, { reads: each.reads, readings: index.add(reader, each.reads) });
        else if (each.type === "tidy") index.tidy();
        else {
          const leaving = [...there.keys()][each.which % Math.max(1, there.size)];
          if (leaving === undefined) continue;
          index.remove(there.get(leaving)?.readings ?? []);
          there.delete(leaving);
        }
      }
      const expected = [...there].filter(([, { reads }]) => reads.some((fact) => asked.includes(fact)));
      const found = [...index.readersOf(new Set(asked))].sort((a, b) => a - b);
      assert.deepEqual(
        found,
        expected.map(([reader]) => reader),
      );
    }),
  );
});

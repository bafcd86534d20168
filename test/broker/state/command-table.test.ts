/** The command table: a map by command id, also where the hashes of ids are equal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandTable, hashCommandId, RecentCommands } from "../../../src/broker/state/command-table.ts";
import type { CommandId } from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";

type Value = Readonly<{ id: CommandId; n: number }>;
const idOf = ({ id }: Value): CommandId => id;

/** Few ids, of which many share a hash: only the last twelve characters are hashed. */
const id = fc
  .tuple(fc.constantFrom("a", "b", "c"), fc.constantFrom("000000000001", "000000000002"))
  .map(([start, end]) => `${start}0000000-0000-4000-8000-${end}` as CommandId);
const step = fc.record({ id, n: fc.nat(), how: fc.constantFrom("set", "set", "delete", "clear") });

test("it holds what a map by id holds, whichever ids have one hash", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const table = new CommandTable(idOf);
      const model = new Map<CommandId, Value>();
      for (const { how, ...value } of steps) {
        if (how === "set") {
          table.set(value);
          model.set(value.id, value);
        } else if (how === "delete") {
          table.delete(value.id);
          model.delete(value.id);
        } else if (value.n % 4 === 0) {
          table.clear();
          model.clear();
        }
        assert.equal(table.size, model.size);
        for (const one of steps) assert.equal(table.get(one.id), model.get(one.id));
        assert.deepEqual(new Set(table.values()), new Set(model.values()));
      }
    }),
    { numRuns: 300 },
  );
});

test("ids that were chosen to have one hash are found as fast as others", () => {
  const ids = Array.from({ length: 20_000 }, (_, n) => `${String(n).padStart(8, "0")}-same-hash-of-all` as CommandId);
  assert.equal(new Set(ids.map(hashCommandId)).size, 1);
  const table = new CommandTable(idOf);
  for (const [n, one] of ids.entries()) table.set({ id: one, n });
  assert.equal(table.size, ids.length);
  assert.ok(ids.every((one, n) => table.get(one)?.n === n));
});

test("the newest values are kept, at most twice as many as were asked for", () => {
  const recent = new RecentCommands(10, idOf);
  const ids = Array.from({ length: 35 }, (_, n) => `id-${n}` as CommandId);
  for (const [n, one] of ids.entries()) {
    recent.set({ id: one, n });
    assert.ok(ids.slice(Math.max(0, n - 9), n + 1).every((kept) => recent.get(kept) !== undefined));
    assert.ok(ids.filter((kept) => recent.get(kept) !== undefined).length <= 20);
  }
  recent.clear();
  assert.ok(ids.every((one) => recent.get(one) === undefined));
});

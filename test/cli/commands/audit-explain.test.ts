/** `cardea audit explain`: searches the audit records for a decision. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { findDecisions, textOf } from "../../../src/cli/commands/audit-explain.ts";
import type { RecordReading } from "../../../src/cli/operator/audit-records.ts";

function sourceOf(...read: readonly RecordReading[]): Parameters<typeof findDecisions>[1] {
  return {
    name: "test",
    async *read() {
      yield* read;
    },
  };
}

const record = { kind: "decision", boot: "boot-1", seq: 7, node: "n", at: 1, requestId: "request-1" };

test("audit explain finds a decision by its record id and by its request id", async () => {
  const source = sourceOf(
    { at: "1", value: record },
    { at: "2", value: { ...record, seq: 8, requestId: "request-2" } },
  );
  for (const id of ["boot-1:7", "request-1"]) {
    const { found, refused } = await findDecisions(id, source);
    assert.deepEqual(
      found.map(({ seq }) => seq),
      [7],
    );
    assert.equal(refused, "");
  }
});

test("audit explain counts refused messages of the audit stream, so a wrong secret is not mistaken for a missing decision", async () => {
  const unsigned = { at: "1", problem: "is refused: unsigned", refused: "unsigned" } as const;
  const { found, refused } = await findDecisions(
    "request-1",
    sourceOf(unsigned, unsigned, { ...unsigned, refused: "foreign" }),
  );
  assert.deepEqual(found, []);
  assert.equal(refused, "2 unsigned, 1 foreign");
});

test("audit explain says of the end of a stream why it closed, and that its result is an earlier decision's", () => {
  const closed = { cause: "user-suspended", durationMs: 5, bytes: 1, bytesReceived: 2 };
  const applied = { epoch: 1, position: 3, hash: "0".repeat(64) };
  const end = {
    ...record,
    occasion: "closed",
    closed,
    result: "permit",
    status: 101,
    method: "GET",
    host: "h",
    path: "/",
  };
  const parts = { userId: null, routeId: "r", applied, configHash: "c".repeat(64), reasons: [] };
  const answer = { record: { ...end, ...parts }, facts: [], broken: [], open: [], others: [] };
  const text = textOf(answer as unknown as Parameters<typeof textOf>[0]);
  assert.match(text, /request request-1, the end of its stream; the result is that of its last decision, route r/);
  assert.match(text, /^closed: user-suspended$/m);
});

/** Lines of decision records: the fast formatter writes what JSON.stringify would, whatever a caller sends. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLineFormatter } from "../../src/audit/decision-line.ts";
import { parseLine } from "../../src/audit/index.ts";
import { leafTextByRuns, leafTextOf, lengthByRuns } from "../../src/audit/seal/record-leaf.ts";
import type { DecisionRecord } from "../../src/auth/index.ts";
import { fc } from "../support/property.ts";
import { decision } from "./support.ts";

const text = fc.string({ unit: "binary", maxLength: 30 }).map((made) => made.toWellFormed());
const side = fc.record({ met: fc.boolean(), reasons: fc.array(text, { maxLength: 2 }) });
const record: fc.Arbitrary<DecisionRecord> = fc
  .record(
    {
      ...{ path: text, method: text, host: text, ip: text, requestId: text, routeName: text, userAgent: text },
      ...{ query: text, rule: text, allow: side, deny: side, headers: fc.dictionary(text, text, { maxKeys: 3 }) },
      traceId: fc.constantFrom("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000001"),
      latencyMs: fc.nat(),
    },
    { requiredKeys: ["path"] },
  )
  .map(({ path, ...more }) => decision(path, more as Partial<DecisionRecord>));

test("a line parses to its record, also after others were cached", () => {
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 8 }), (records) => {
      const format = createLineFormatter();
      for (const [i, one] of [...records, ...records].entries()) {
        const { text: line, isAscii } = format(i + 1, one);
        assert.deepEqual(parseLine(line), JSON.parse(JSON.stringify({ kind: "decision", seq: i + 1, ...one })));
        assert.equal(line.indexOf("\n"), line.length - 1, "one line");
        if (isAscii) assert.equal(Buffer.byteLength(line), line.length);
      }
    }),
  );
});

test("the runs of a line give the leaf that a search for its members gives", () => {
  const plainText = fc.string({ unit: "grapheme-ascii", maxLength: 30 });
  const words = fc.record({ path: plainText, requestId: plainText, userAgent: plainText, rule: plainText });
  const trace = { sides: [] } as unknown as NonNullable<DecisionRecord["trace"]>;
  fc.assert(
    fc.property(fc.array(record, { maxLength: 4 }), fc.array(words, { minLength: 1, maxLength: 4 }), (any, plain) => {
      const format = createLineFormatter();
      const seen = [...any, ...plain.flatMap(({ path, ...more }) => [decision(path, more), decision(path, { trace })])];
      for (const [i, one] of [...seen, ...seen].entries()) {
        const { text: line, isAscii, runs } = format(i + 1, one);
        assert.equal(runs !== undefined, isAscii);
        if (runs === undefined) continue;
        const before = Buffer.from("before");
        const bytes = Buffer.concat([before, Buffer.from(line), Buffer.from("after")]);
        assert.equal(lengthByRuns(runs, 0), line.length);
        assert.equal(leafTextByRuns(bytes, { from: before.length, runs, line: 0 }), leafTextOf(Buffer.from(line)));
      }
    }),
  );
});

test("a line whose offsets exceed 16 bits has no runs", () => {
  const format = createLineFormatter();
  assert.equal(format(1, decision("/".repeat(70_000))).runs, undefined);
  assert.notEqual(format(2, decision("/")).runs, undefined);
});

test("two requests of one session differ where their records do", () => {
  const format = createLineFormatter();
  const same = { sessionId: "session-1" as never, userId: "user-1" as never };
  const seen = [
    { ...same, userAgent: "curl/8" },
    { ...same, userAgent: "curl/9" },
    { ...same, rule: "policy.allow.or" },
    { ...same, routeName: "App" },
    { ...same, allow: { met: true, reasons: ["user-ok"] } },
    same,
  ].map((more) => decision("/", more));
  for (const [i, one] of [...seen, ...seen].entries())
    assert.deepEqual(parseLine(format(i, one).text), { kind: "decision", seq: i, ...one });
});

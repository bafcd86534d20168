/** The record buffer: lines as bytes, each exactly the JSON of its record, while a reader may request them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { toLine } from "../../src/audit/audit-record.ts";
import { createLineFormatter } from "../../src/audit/decision-line.ts";
import { RecordBuffer } from "../../src/audit/record-buffer.ts";
import type { DecisionRecord } from "../../src/auth/index.ts";
import { genesis } from "../../src/events/index.ts";
import { fc } from "../support/property.ts";
import { waitFor } from "../support/wait-for.ts";
import { decision } from "./support.ts";

test("the line of a record equals its JSON, whatever its texts contain", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" }), fc.webUrl());
  const rest = { sessionId: fc.option(text), userId: fc.option(text), routeId: fc.option(text) };
  const record = fc.record({
    ...{
      path: text,
      host: text,
      method: text,
      ip: text,
      requestId: text,
      node: text,
      boot: text,
      region: text,
      ...rest,
    },
    overdueMs: fc.option(fc.double({ noNaN: true })),
    latencyMs: fc.option(fc.double({ noNaN: true, noDefaultInfinity: true }), { nil: undefined }),
    cutMs: fc.option(fc.nat(), { nil: undefined }),
    status: fc.integer({ min: 100, max: 599 }),
    reasons: fc.array(text),
    trace: fc.option(fc.constant({ rule: "deny 1", rules: [] }), { nil: undefined }),
    shadow: fc.option(fc.constant({ result: "deny", status: 403, reasons: ["no"] }), { nil: undefined }),
    applied: fc.constantFrom(genesis, { ...genesis, hash: "other" }),
    occasion: fc.constantFrom("request", "redecision"),
  });
  fc.assert(
    fc.property(fc.array(record, { maxLength: 4 }), (records) => {
      const lineOf = createLineFormatter();
      for (const [i, drawn] of records.entries()) {
        const { trace, shadow, reasons, applied, ...given } = drawn;
        const beside = { ...(trace === undefined ? {} : { trace }), ...(shadow === undefined ? {} : { shadow }) };
        // In the order of a real record: a trace and a shadow decision, if present, follow the reasons.
        const { applied: _a, configHash, overdueMs: _o, reasons: _r, ...first } = decision();
        const { overdueMs, latencyMs, cutMs, ...more } = given;
        const timings = {
          ...(latencyMs === undefined ? {} : { latencyMs }),
          ...(cutMs === undefined ? {} : { cutMs }),
        };
        const whole = {
          ...first,
          ...more,
          reasons,
          ...beside,
          applied,
          configHash,
          overdueMs,
          ...timings,
        };
        const decisionRecord = whole as unknown as DecisionRecord;
        const { text, isAscii } = lineOf(i, decisionRecord);
        assert.equal(text, toLine({ kind: "decision", seq: i, ...decisionRecord }));
        if (isAscii) assert.equal(Buffer.byteLength(text), text.length);
      }
    }),
    { numRuns: 40 },
  );
});

test("cached parts of one record never appear in another, however similar", () => {
  const [some, others] = [["groups-ok"], ["groups-ok"]];
  const here = { ...genesis, hash: "here" };
  const record = fc.record({
    ...{
      path: fc.constantFrom("", "/xa", "/ya", "/é"),
      host: fc.constantFrom("a", "b"),
      method: fc.constantFrom("GET", "PUT"),
    },
    ...{
      ip: fc.constantFrom("::1", "::2"),
      sessionId: fc.constantFrom(null, "s-ab", "t-ab"),
      userId: fc.constantFrom(null, "u", "ü"),
    },
    ...{
      routeId: fc.constantFrom(null, "r"),
      result: fc.constantFrom("permit", "deny"),
      status: fc.constantFrom(200, 403),
    },
    ...{
      reasons: fc.constantFrom(some, others, []),
      applied: fc.constantFrom(genesis, here),
      configHash: fc.constantFrom("c", "d"),
    },
    ...{
      at: fc.constantFrom(1, 2),
      occasion: fc.constantFrom("request", "redecision"),
      node: fc.constantFrom("n", "ñ"),
    },
    ...{
      boot: fc.constantFrom("x", "y"),
      region: fc.constantFrom("", "eu"),
      overdueMs: fc.constantFrom(null, -1, -0.5, 7),
    },
    ...{ requestId: fc.constantFrom("q", 'q"', "q\u007f", "q\ud800") },
    trace: fc.constantFrom(undefined, undefined, undefined, { rule: "deny 1", rules: [] }),
  });
  fc.assert(
    fc.property(fc.array(record, { minLength: 2, maxLength: 30 }), fc.nat({ max: 18 }), (drawn, other) => {
      const lineOf = createLineFormatter();
      const buffer = new RecordBuffer();
      let expected = "";
      for (const [i, own] of drawn.entries()) {
        // All but one field equal those of the first record, so most are cached.
        const mixed = Object.entries(drawn[0] ?? own).map(([name, value], n) => [
          name,
          n === other ? Reflect.get(own, name) : value,
        ]);
        const { trace, ...given }: Record<string, unknown> = Object.fromEntries(mixed);
        const whole = { ...decision(), ...given };
        const decisionRecord = inOrder(trace === undefined ? whole : { ...whole, trace });
        buffer.append(lineOf(i, decisionRecord));
        expected += toLine({ kind: "decision", seq: i, ...decisionRecord });
      }
      assert.equal(buffer.read(1)?.bytes.toString() ?? "", expected);
    }),
    { numRuns: 500 },
  );
});

test("the record of an ordinary request is known to be ASCII", () => {
  const lineOf = createLineFormatter();
  assert.equal(lineOf(1, decision()).isAscii, true);
  assert.equal(lineOf(2, { ...decision(), path: "/café" }).isAscii, false);
  assert.equal(lineOf(3, decision()).isAscii, true);
});

test("formatting a record does not retain it", async () => {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  const lineOf = createLineFormatter();
  const format = (path: string): WeakRef<DecisionRecord> => {
    const record = { ...decision(), path };
    lineOf(1, record);
    return new WeakRef(record);
  };
  const records = [format(`/${"a".repeat(10_000)}`), format("/a")];
  await waitFor("the records to be collected", () => {
    gc();
    return records.every((record) => record.deref() === undefined);
  });
  assert.match(lineOf(2, { ...decision(), path: "/b" }).text, /"path":"\/b"/);
});

/** Orders the fields as src/proxy/request/request-context.ts does: a trace, if present, follows the reasons. */
function inOrder(record: object): DecisionRecord {
  const { applied, configHash, overdueMs, trace, ...first } = record as DecisionRecord;
  return { ...first, ...(trace === undefined ? {} : { trace }), applied, configHash, overdueMs };
}

test("lines that were read never change, and numbers are found from any start", () => {
  const buffer = new RecordBuffer();
  const lines = Array.from(
    { length: 3_000 },
    (_, i) => `${JSON.stringify({ seq: i + 1, text: "é".repeat(i % 300) })}\n`,
  );
  const early: Readonly<{ bytes: Buffer; text: string }>[] = [];
  for (const line of lines) {
    buffer.append({ text: line, isAscii: false });
    const batch = buffer.read(buffer.last - (buffer.last % 7));
    if (batch !== undefined) early.push({ bytes: batch.bytes, text: batch.bytes.toString() });
  }
  for (const { bytes, text } of early) assert.equal(bytes.toString(), text);
  for (let from = 1; from <= lines.length; ) {
    const { first, last, bytes } = buffer.read(from) ?? assert.fail();
    assert.equal(first, from);
    assert.equal(bytes.toString(), lines.slice(first - 1, last).join(""));
    from = last + 1;
  }
  assert.equal(buffer.read(3_001), undefined);
});

test("a line longer than a page gets its own page, and dropped lines are gone", () => {
  const buffer = new RecordBuffer();
  const long = `${"x".repeat(2_000_000)}\n`;
  for (const text of ["a\n", long, "b\n"]) buffer.append({ text, isAscii: true });
  assert.equal(buffer.read(2)?.bytes.toString().slice(0, long.length), long);
  buffer.forget(2);
  assert.equal(buffer.read(1), undefined);
  assert.equal(buffer.read(2)?.first, 2);
  buffer.forget(Infinity);
  assert.equal(buffer.read(3), undefined);
});

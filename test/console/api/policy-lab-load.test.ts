/** A replay of many recorded decisions: its memory stays as it is, and other requests are answered meanwhile. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RecordHistory } from "../../../src/audit/index.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { type LabWorld, resultOf, startLabWorld } from "./lab-support.ts";

/** `RECORDS=100000` for the figures of docs/console.md. */
const records = Number(process.env["RECORDS"] ?? "8000");

test("many decisions are replayed in flat memory, while other requests are answered", async (t) => {
  let template: ReturnType<LabWorld["decided"]> | undefined;
  const heap: number[] = [];
  // Records that are made as they are read, some of them out of order.
  const history: RecordHistory = {
    async cursorAt() {
      return { sequence: "stored", number: 0, index: 0 };
    },
    async end() {
      return { sequence: "stored", number: records, index: 0 };
    },
    async read(after, { records: count }) {
      if (after.number % 10_000 === 0) {
        globalThis.gc?.();
        heap.push(process.memoryUsage().heapUsed / 1024 / 1024);
      }
      const last = Math.min(records, after.number + count);
      const entries = Array.from({ length: last - after.number }, (_, i) => {
        const number = after.number + i + 1;
        const cursor = { sequence: "stored", number, index: 0 };
        const record = { ...template, seq: number, path: `/${number % 7 === 0 ? "x" : "page"}/${number}` } as never;
        return { cursor, record, bytes: 1_000 };
      });
      const end = { sequence: "stored", number: last, index: 0 };
      return { entries, begin: after, after: end, missed: null, isAtEnd: last === records };
    },
  };
  const lab = await startLabWorld(t, { history });
  const { at, person, decided, replay } = lab;
  const alice = await person("alice");
  template = decided("eng", alice, "permit", { at: (Date.now() - 60_000) as UnixMs });
  const policy = "allow:\n  and:\n    - groups: {has: eng}\ndeny:\n  or:\n    - http_path: {starts_with: /x/}\n";
  let isOver = false;
  const replayed = replay({ text: policy, route: "eng", limit: 1_000_000 }).finally(() => {
    isOver = true;
  });
  const waits: number[] = [];
  while (!isOver) {
    const began = performance.now();
    assert.equal((await at.get("/users?limit=1")).status, 200);
    waits.push(performance.now() - began);
  }
  const result = resultOf(await replayed);
  assert.deepEqual([result.replayed, result.notReplayed, result.cut], [records, [], null]);
  assert.deepEqual(
    result.differences.map(({ change, count }) => [change, count]),
    [["loses", Math.floor(records / 7)]],
  );
  assert.ok(waits.length > 10, "other requests were answered meanwhile");
  const sorted = waits.toSorted((a, b) => a - b);
  t.diagnostic(
    `${records} decisions; other requests: median ${sorted[sorted.length >> 1]?.toFixed(1)} ms, 99 % ${sorted[Math.floor(sorted.length * 0.99)]?.toFixed(1)} ms; heap ${heap.map((mb) => mb.toFixed(0)).join(" ")} MB`,
  );
});

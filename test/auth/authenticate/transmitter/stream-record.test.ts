/** Stream record: its form, its bounds, and how two writers are joined. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addControl,
  controlsMax,
  formatRecord,
  jtiOf,
  newStream,
  parseRecord,
  type SignalStream,
  withProgress,
} from "../../../../src/auth/authenticate/transmitter/stream-record.ts";
import type { Epoch, Hash, Link, Position, UnixMs } from "../../../../src/events/index.ts";

const linkAt = (position: number): Link => ({
  epoch: 1 as Epoch,
  position: position as Position,
  hash: position.toString(16).padStart(64, "0") as Hash,
});
const stream = newStream({
  streamId: "0123456789abcdef",
  createdAt: 1_000 as UnixMs,
  delivery: { method: "urn:ietf:rfc:8936", endpoint_url: null },
  requested: null,
  description: null,
  at: linkAt(10),
});
const moved = (position: number, more: Partial<SignalStream> = {}): SignalStream => ({
  ...stream,
  cursor: { after: linkAt(position), index: 0 },
  ...more,
});
const salt = "s".repeat(43);

test("a record is read as it was written, and another text is refused", () => {
  const record = { salt, stream: moved(12, { done: ["a"], cursor: { after: linkAt(12), index: 3 } }) };
  assert.deepEqual(parseRecord(formatRecord(record)), record);
  assert.deepEqual(parseRecord(formatRecord({ salt, stream: null })), { salt, stream: null });
  for (const text of [
    "",
    "{}",
    '{"salt":"short","stream":null}',
    formatRecord(record).replace('"index":3', '"index":-1'),
  ])
    assert.throws(() => parseRecord(text));
});

test("progress never moves back when two versions are joined", () => {
  const [newer, own] = [moved(20, { done: ["x"] }), moved(30, { done: ["y"] })];
  assert.equal(withProgress(newer, own).cursor.after.position, 30);
  assert.deepEqual(withProgress(newer, own).done, ["y"]);
  assert.equal(withProgress(own, newer).cursor.after.position, 30);
  assert.deepEqual(withProgress(own, newer).done, ["y"]);
  assert.deepEqual([...withProgress(moved(20, { done: ["x"] }), moved(20, { done: ["y"] })).done].sort(), ["x", "y"]);
});

test("a stream that was created again takes nothing from the one before", () => {
  const again = { ...moved(5), streamId: "another" };
  assert.equal(withProgress(again, moved(30)), again);
});

test("a control event that was delivered does not come back, and a new one is kept", () => {
  const known = addControl(stream, { at: 1 as UnixMs, name: "verification", payload: { state: "a" } });
  const delivered = { ...known, controls: [] };
  const newer = addControl(known, { at: 2 as UnixMs, name: "verification", payload: { state: "b" } });
  assert.deepEqual(
    withProgress(newer, delivered).controls.map(({ payload }) => payload.state),
    ["b"],
  );
});

test("control events are bounded, and what the transmitter must say survives verifications", () => {
  let full = addControl(stream, { at: 1 as UnixMs, name: "stream-updated", payload: { status: "paused" } });
  for (let n = 0; n < 100; n++) full = addControl(full, { at: 1 as UnixMs, name: "verification", payload: {} });
  assert.equal(full.controls.length, controlsMax);
  assert.equal(full.controls[0]?.name, "stream-updated");
  assert.equal(full.controlSeq, 101);
});

test("the identity of a token follows from the stream and the event alone", () => {
  assert.equal(jtiOf("s", "hash", 0), jtiOf("s", "hash", 0));
  const all = [jtiOf("s", "hash", 0), jtiOf("s", "hash", 1), jtiOf("t", "hash", 0), jtiOf("s", "other", 0)];
  assert.equal(new Set(all).size, all.length);
});

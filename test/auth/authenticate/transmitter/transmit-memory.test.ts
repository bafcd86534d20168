/** Transmit memory: which part of the log streams need. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  holdMsMax,
  neededAfter,
  newTransmitMemory,
  type StreamReport,
} from "../../../../src/auth/authenticate/transmitter/transmit-memory.ts";
import type { Position, UnixMs } from "../../../../src/events/index.ts";

const at = (ms: number): UnixMs => ms as UnixMs;
const report: StreamReport = {
  status: "enabled",
  method: "push",
  pending: 0,
  oldestAt: null,
  behind: 0,
  gapAt: at(0),
  failing: false,
  neededAfter: 40 as Position,
  heldSince: null,
};

test("while records are read, the whole log is needed; one that cannot be read keeps it for seven days", () => {
  const memory = newTransmitMemory();
  assert.equal(neededAfter(memory, at(holdMsMax * 9)), 0, "nothing has been read yet");
  memory.state.loadingSince = at(1_000);
  memory.reports.set("readable", report);
  assert.equal(neededAfter(memory, at(1_000 + holdMsMax)), 0);
  assert.equal(neededAfter(memory, at(1_001 + holdMsMax)), 40);
  memory.state.loaded = true;
  assert.equal(neededAfter(memory, at(2_000)), 40);
});

/** A stream whose events retention has dropped: it continues, and says so to the receiver and to operators. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RestoredPeople } from "../../../../src/auth/authenticate/transmitter/restored-people.ts";
import { StreamDuty, type TransmitContext } from "../../../../src/auth/authenticate/transmitter/stream-duty.ts";
import { formatRecord, newStream, parseRecord } from "../../../../src/auth/authenticate/transmitter/stream-record.ts";
import {
  holdMsMax,
  neededAfter,
  newTransmitMemory,
} from "../../../../src/auth/authenticate/transmitter/transmit-memory.ts";
import {
  type Epoch,
  type Hash,
  type Link,
  type Position,
  Projection,
  type UnixMs,
} from "../../../../src/events/index.ts";

const linkAt = (position: number): Link => ({
  epoch: 1 as Epoch,
  position: position as Position,
  hash: position.toString(16).padStart(64, "0") as Hash,
});
const now = 1_800_000_000_000 as UnixMs;
const receiver = {
  name: "payroll",
  audience: "https://payroll.example.com",
  tokenHash: null,
  client: null,
  events: ["session-revoked"],
  subjectFormat: "email",
  sessionSubject: "complex",
  subjects: "all",
  groups: null,
  claims: [],
  pushUrls: [],
  minVerificationMs: 60_000,
  inactivityMs: null,
} as const;

test("a gap is declared once it is recorded, and the stream continues after it", async () => {
  const stream = newStream({
    ...{ streamId: "stream-1", createdAt: now, requested: null, description: null, at: linkAt(10) },
    delivery: { method: "urn:ietf:rfc:8936", endpoint_url: null },
  });
  let kept = { version: 1, record: formatRecord({ salt: "s".repeat(43), stream }), outdated: false };
  const memory = newTransmitMemory();
  const errors: string[] = [];
  const projection = new Projection();
  Object.defineProperty(projection, "applied", { get: () => linkAt(900) });
  const context: TransmitContext = {
    leads: () => true,
    signal: new AbortController().signal,
    projection,
    clock: { monotonic: () => 1e9, wall: () => now },
    profiles: async () => new Map(),
    logBase: async () => linkAt(500),
    storedSignalStream: async () => kept,
    read: async (after) =>
      after.position < 500
        ? { type: "truncated", first: 501 as Position }
        : { type: "page", page: { previous: after, entries: [], last: after, head: linkAt(900), keys: [] } },
    async submit({ command, commandId }) {
      assert.ok(command.type === "writeSignalStream" && command.expected === kept.version);
      kept = { version: kept.version + 1, record: command.record, outdated: false };
      return { type: "done", commandId, link: linkAt(901), changed: true };
    },
  };
  const log = { info() {}, warn() {}, error: (_: object, message: string) => void errors.push(message) };
  const duty = new StreamDuty(
    {
      ...{ issuer: "https://authenticate.example.com", memory, log, uuid: () => "" },
      signer: { jwks: { keys: [] }, sign: () => assert.fail("nothing is pushed") },
      post: () => assert.fail("nothing is pushed"),
      restored: new RestoredPeople({
        ...{ projection, recordsOf: () => [], open: async () => new Map(), now: () => now, salt: "s" },
      }),
    },
    receiver,
    context,
  );
  await duty.turn();
  await duty.turn();
  const { stream: after } = parseRecord(kept.record);
  assert.equal(after?.gaps, 1, "once");
  assert.equal(after?.gapAt, now);
  assert.equal(after?.status, "enabled", "later revocations still arrive");
  assert.equal(after?.cursor.after.position, 500);
  assert.deepEqual(
    after?.controls.map(({ name, payload }) => [name, payload.status]),
    [["stream-updated", "enabled"]],
  );
  assert.equal(errors.length, 1);
  assert.equal(memory.reports.get("payroll")?.gapAt, now);
});

test("retention waits for a stream within a bound, and before the streams are known", () => {
  const memory = newTransmitMemory();
  assert.equal(neededAfter(memory, now), 0, "nothing is dropped before the records are read");
  memory.state.loaded = true;
  assert.equal(neededAfter(memory, now), null);
  memory.reports.set("payroll", {
    status: "enabled",
    method: "push",
    pending: 1,
    behind: 1,
    gapAt: 0 as UnixMs,
    failing: true,
    oldestAt: now,
    neededAfter: 7 as Position,
    heldSince: now,
  });
  assert.equal(neededAfter(memory, now), 7);
  assert.equal(neededAfter(memory, (now + holdMsMax + 1) as UnixMs), null);
});

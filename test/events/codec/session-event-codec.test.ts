/** The fast reader of session events: it agrees with the general codec, or leaves the event to it. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { SessionEventReader } from "../../../src/events/codec/session-event-codec.ts";
import {
  type CardeaEvent,
  decode,
  decodeEvent,
  encode,
  encodeEvent,
  genesis,
  type Hash,
  streamOf,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";

const hash = "f".repeat(64) as Hash;
const from = 32;
const source = Buffer.alloc(4_096);
const reader = new SessionEventReader(source);

function read(bytes: Uint8Array) {
  source.set(bytes, from);
  return reader.read(from, bytes, hash);
}

/** The result of the general codec, field by field. */
function byCodec(bytes: Uint8Array) {
  const fields = decode(bytes) as unknown[];
  const [epoch, position, eventId, stream, version, type, schemaVersion, effect, recordedAt, actor, cause, body] =
    fields;
  const event = { type, ...(body as object) };
  assert.equal(fields.length, 12);
  return {
    ...{ epoch, position, hash, eventId, stream, version, type, schemaVersion },
    ...{ effect, recordedAt, actor, cause, event },
  };
}

function assertSame(bytes: Uint8Array): boolean {
  const plain = read(bytes);
  if (plain === undefined) return false;
  const expected = byCodec(bytes);
  assert.deepEqual(plain, expected);
  assert.deepEqual(Object.keys(plain.event), Object.keys(expected.event)); // digests cover the order of fields
  return true;
}

const id = fc.oneof(
  { weight: 9, arbitrary: fc.uuid() },
  { weight: 9, arbitrary: fc.stringMatching(/^[A-Za-z0-9._~@/+=:-]{1,200}$/) },
  { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 300, unit: "grapheme" }) },
);
const whole = fc.oneof(
  fc.constantFrom(0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000),
  fc.integer({ min: 0, max: 2_000_000_000_000 }),
);
const profile = fc
  .oneof(fc.nat({ max: 600 }), fc.constantFrom(0, 0xff, 0x100))
  .map((length) => new Uint8Array(randomBytes(length)));
const sessionEvents = fc.oneof(
  fc.record({
    ...{ type: fc.constant("SessionCreated"), sessionId: id, userId: id, idpId: id },
    ...{ issuedAt: whole, expiresAt: whole, profile },
  }),
  fc.record({
    ...{ type: fc.constant("SessionCreated"), sessionId: id, userId: id, idpId: id },
    ...{ issuedAt: whole, expiresAt: whole, profile, providerSession: fc.uuid() },
  }),
  fc.record({
    ...{ type: fc.constant("SessionRefreshed"), sessionId: id, userId: id, profile, refreshedAt: whole },
  }),
  fc.record({
    ...{
      type: fc.constant("SessionRevoked"),
      sessionId: id,
      userId: id,
      reason: fc.constantFrom("operator", "sign-out"),
    },
  }),
);
const otherEvents = fc.oneof(
  fc.record({ type: fc.constant("UserUpserted"), userId: id, profile }),
  fc.record({ type: fc.constant("SessionsExpired"), sessionIds: fc.array(id, { maxLength: 3 }) }),
);
const logParts = fc.record({
  ...{ epoch: whole, position: whole, eventId: fc.uuid(), version: whole, recordedAt: whole },
  ...{ actor: fc.oneof(fc.constantFrom("system", "service:authenticate"), id), cause: fc.option(fc.uuid()) },
});
const bytesOf = (event: unknown, parts: object): Uint8Array => {
  const stream = streamOf(event as CardeaEvent);
  return Uint8Array.from(encodeEvent({ ...parts, stream, event } as never));
};
/** As a cluster below level 5 writes it. */
const olderBytesOf = (event: unknown, parts: object): Uint8Array =>
  Uint8Array.from(encodeEvent({ ...parts, stream: streamOf(event as CardeaEvent), event } as never, 4));

test("the fast reader gives what the codec reads from the same bytes, order of fields included", () => {
  let plain = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 9, arbitrary: sessionEvents }, otherEvents), logParts, (event, parts) => {
      if (assertSame(bytesOf(event, parts))) plain += 1;
    }),
    { seed: 5, numRuns: 3_000 },
  );
  assert.ok(plain > 1_000, `only ${plain} of 3,000`);
});

const created = {
  ...{ type: "SessionCreated", sessionId: "5f0c1a2e-0000-4000-8000-00000000000a", userId: "alice", idpId: "google" },
  ...{
    issuedAt: 1_700_000_000_000,
    expiresAt: 1_700_003_600_000,
    profile: Uint8Array.from({ length: 40 }, (_, n) => n),
  },
};
const parts = {
  ...{ epoch: 3, position: 1, eventId: "00000000-0000-4000-8000-000000000001", version: 1 },
  ...{ recordedAt: 1_700_000_000_000, actor: "service:authenticate", cause: "00000000-0000-4000-8000-00000000000b" },
};
const usual = [
  bytesOf(created, parts),
  bytesOf({ ...created, providerSession: "5f0c1a2e-0000-8000-8000-00000000000c" }, parts),
  olderBytesOf(created, parts),
  bytesOf({ type: "SessionRevoked", sessionId: "s", userId: "alice", reason: "operator" }, { ...parts, cause: null }),
  bytesOf(
    { type: "SessionRefreshed", sessionId: "s", userId: "alice", profile: created.profile, refreshedAt: 7 },
    parts,
  ),
];

test("the fast reader reads the events of a session as brokers write them", () => {
  for (const bytes of usual) assert.ok(assertSame(bytes));
});

test("with any byte changed, the fast reader agrees with the codec or leaves the event to it", () => {
  let left = 0;
  for (const bytes of usual)
    for (let at = 0; at < bytes.length; at++)
      for (const flip of [1, 0x10, 0x80, 0xff]) {
        const forged = Uint8Array.from(bytes);
        forged[at] = (forged[at] ?? 0) ^ flip;
        if (!assertSame(forged)) left += 1;
      }
  assert.ok(left > 500, `only ${left} were left to the codec`);
});

test("the fast reader declines an event with a byte too few or too many, whatever precedes it", () => {
  for (const bytes of usual) {
    read(bytes);
    for (let length = 0; length < bytes.length; length++) assert.equal(read(bytes.subarray(0, length)), undefined);
    assert.equal(read(Buffer.concat([bytes, Buffer.of(0)])), undefined);
  }
});

test("unusual events are left to the codec, which refuses malformed ones", () => {
  const fields = decode(usual[0] as Uint8Array) as unknown[];
  const body = fields[11] as Record<string, unknown>;
  const another = (at: number, value: unknown): Uint8Array => Uint8Array.from(encode(fields.with(at, value)));
  const { profile: sealed, ...rest } = body;
  const otherwise = another(11, { profile: sealed, ...rest });
  assert.equal(read(otherwise), undefined);
  assert.deepEqual(decodeEvent(otherwise, genesis).event, { type: "SessionCreated", profile: sealed, ...rest });
  const newer = another(6, 3);
  assert.equal(read(newer), undefined);
  assert.deepEqual(decodeEvent(newer, genesis).event, { type: "Unknown", name: "SessionCreated" });
  const elsewhere = another(3, "session:another");
  assert.equal(read(elsewhere), undefined);
  assert.equal(decodeEvent(elsewhere, genesis).stream, "session:another");
  for (const [at, value] of [
    [0, -1],
    [1, 1.5],
    [2, "not a uuid"],
    [4, -1],
    [8, Number.NaN],
    [9, null],
    [10, 7],
  ] as const)
    assert.throws(() => decodeEvent(another(at, value), genesis));
});

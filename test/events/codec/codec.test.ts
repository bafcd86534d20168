/** The event codec: encoding, links between events, sealed data and ids. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import {
  type CardeaEvent,
  decodeEvent,
  decodeEvents,
  type Epoch,
  type EventId,
  encode,
  encodeEvent,
  flattenClaims,
  formatLink,
  genesis,
  linkOf,
  MalformedEventError,
  open,
  type Position,
  parseLink,
  SealError,
  seal,
  type UnixMs,
  unwrapKey,
  userIdOf,
  wrapKey,
} from "../../../src/events/index.ts";
import { created, record, userId } from "../support.ts";

const event = {
  epoch: 1 as Epoch,
  position: 1 as Position,
  eventId: "00000000-0000-4000-8000-000000000001" as EventId,
  stream: "session:session-1" as const,
  version: 1,
  recordedAt: 1_700_000_000_000 as UnixMs,
  actor: "system",
  cause: null,
  event: created(1, 1),
};

const withProfile = (profile: Uint8Array) => ({ ...event.event, profile }) as CardeaEvent;

test("an event that is kept keeps no buffer of the encoder, and events side by side do not overlap", () => {
  encode(new Uint8Array(300_000)); // the encoder's buffer is this long from now on
  const profiles = Array.from({ length: 300 }, (_, i) => randomBytes(i % 50 === 49 ? 5_000 : i));
  const all = profiles.map((profile) => ({
    profile,
    bytes: encodeEvent({ ...event, event: withProfile(profile) }),
  }));
  for (const { profile, bytes } of all) {
    const { event: read } = decodeEvent(bytes, genesis);
    assert.ok(read.type === "SessionCreated" && profile.equals(read.profile));
    assert.ok(bytes.buffer.byteLength <= 65_536, `${bytes.length} bytes keep ${bytes.buffer.byteLength}`);
  }
});

test("an event survives encoding, and its hash covers every byte", () => {
  const bytes = encodeEvent(event);
  const recorded = decodeEvent(bytes, genesis);
  assert.deepEqual(recorded.event, {
    ...event.event,
    profile: recorded.event.type === "SessionCreated" ? recorded.event.profile : null,
  });
  assert.equal(recorded.recordedAt, event.recordedAt);
  for (let i = 0; i < bytes.length; i++) {
    const forged = Uint8Array.from(bytes);
    forged[i] = (forged[i] ?? 0) ^ 1;
    let hash: string | undefined;
    try {
      hash = decodeEvent(forged, genesis).hash;
    } catch (error) {
      assert.ok(error instanceof MalformedEventError, `byte ${i}: ${error}`); // not an event any more
      continue;
    }
    assert.notEqual(hash, recorded.hash);
  }
});

test("an event links only after its predecessor", () => {
  const [first, second] = record([created(1, 1), created(2, 1)]);
  assert.ok(first && second);
  assert.throws(
    () => decodeEvent(encodeEvent({ ...event, position: 3 as Position }), linkOf(first)),
    MalformedEventError,
  );
  assert.throws(
    () => decodeEvent(encodeEvent({ ...event, epoch: 0 as Epoch, position: 2 as Position }), linkOf(first)),
    MalformedEventError,
  );
  assert.equal(linkOf(second).position, 2);
});

test("bytes that are not an event are refused with a clear error", () => {
  for (const bytes of [new Uint8Array(), encode("text"), encode([1, 2]), encode({}), randomBytes(40)]) {
    assert.throws(() => decodeEvents([bytes], genesis), MalformedEventError);
  }
});

test("links have one text form, and nothing else parses", () => {
  const [first] = record([created(1, 1)]);
  assert.ok(first);
  assert.deepEqual(parseLink(formatLink(linkOf(first))), linkOf(first));
  for (const text of [
    "",
    "1.2",
    `1.2.${"g".repeat(64)}`,
    `1.2.${"0".repeat(64)}.4`,
    `-1.2.${"0".repeat(64)}`,
    `1e3.2.${"0".repeat(64)}`,
    null,
    7,
  ]) {
    assert.throws(() => parseLink(text));
  }
});

test("sealed data opens with its own key and person only", () => {
  const person = { userId: userId(1), keyId: randomBytes(8), key: randomBytes(32) };
  const sealed = seal({ email: "alice@example.com" }, person, randomBytes(12));
  assert.deepEqual(open(sealed, person), { email: "alice@example.com" });
  assert.throws(() => open(sealed, { ...person, userId: userId(2) }), SealError);
  assert.throws(() => open(sealed, { ...person, key: randomBytes(32) }), SealError);
  assert.throws(() => open(sealed, { ...person, keyId: randomBytes(8) }), SealError);
  const flipped = Uint8Array.from(sealed);
  flipped[30] = (flipped[30] ?? 0) ^ 1;
  assert.throws(() => open(flipped, person), SealError);
});

test("a wrapped key unwraps under the same secret, for the same person", () => {
  const person = { userId: userId(1), keyId: randomBytes(8), key: randomBytes(32) };
  const secret = randomBytes(32);
  const wrapped = wrapKey(person, secret, randomBytes(12));
  assert.deepEqual(Buffer.from(unwrapKey(wrapped, secret).key), person.key);
  assert.throws(() => unwrapKey(wrapped, randomBytes(32)), SealError);
  assert.throws(() => unwrapKey({ ...wrapped, userId: userId(2) }, secret), SealError);
});

test("a person's id comes from issuer and subject together, unambiguously", () => {
  assert.equal(userIdOf("https://idp", "alice"), userIdOf("https://idp", "alice"));
  assert.notEqual(userIdOf("https://idp", "alice"), userIdOf("https://idp2", "alice"));
  assert.notEqual(userIdOf("a", "bc"), userIdOf("ab", "c"));
});

test("claims are flattened to dotted keys with lists as values, whatever they are called", () => {
  assert.deepEqual(flattenClaims({ a: { b: 1, c: ["x", { d: true }] }, e: "y", f: [], n: null }), {
    "a.b": [1],
    "a.c": ["x"],
    "a.c.d": [true],
    e: ["y"],
    f: [],
  });
  assert.deepEqual(Object.keys(flattenClaims(JSON.parse('{"__proto__": {"x": 1}, "constructor": 2}'))).sort(), [
    "__proto__.x",
    "constructor",
  ]);
});

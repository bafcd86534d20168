/** The event writer: what it gives as decoded is what every reader decodes, and its hash is the one of its bytes. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { formats } from "../../../src/events/formats.ts";
import {
  type CardeaEvent,
  type CommandId,
  chainHash,
  decodeEvent,
  decodeEvents,
  type Epoch,
  type EventId,
  encodeEvent,
  genesis,
  type Hash,
  LevelTooLowError,
  type Link,
  linkOf,
  MalformedEventError,
  type Position,
  Projection,
  type Recorded,
  readsLevel,
  type Stream,
  type UnixMs,
  WrittenEvent,
} from "../../../src/events/index.ts";
import { checkEntry, MalformedBatchError } from "../../../src/replication/log/log-rules.ts";
import { fc } from "../../support/property.ts";
import { goldenFiles } from "../golden.ts";
import { created } from "../support.ts";

const before: Link = { epoch: 3 as Epoch, position: 41 as Position, hash: "a5".repeat(32) as Hash };
const parts = {
  epoch: 3 as Epoch,
  eventId: "00000000-0000-4000-8000-000000000001" as EventId,
  stream: "session:session-1" as Stream,
  version: 1,
  recordedAt: 1_700_000_000_000 as UnixMs,
  actor: "system",
  cause: "00000000-0000-4000-9000-000000000001" as CommandId,
};

/** Compares what was written with what the codec writes and reads. @returns what was written */
function assertAsDecoded(event: CardeaEvent, of: Partial<typeof parts> = {}, level = readsLevel): WrittenEvent {
  const entry = { ...parts, ...of, event };
  const written = WrittenEvent.write(entry, level, before);
  const bytes = encodeEvent({ ...entry, position: 42 as Position }, level);
  assert.deepEqual(Buffer.from(written.bytes), Buffer.from(bytes));
  const decoded = decodeEvent(written.bytes, before);
  assert.deepStrictEqual(written.recorded, decoded);
  assert.deepEqual(fieldsOf(written.recorded), fieldsOf(decoded)); // digests cover the order of fields
  return written;
}

/** The names of all fields, in order. */
function fieldsOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return null;
  return Object.entries(value).map(([name, field]) => [name, fieldsOf(field)]);
}

/** A golden event, with bytes as bytes. */
function revive(_name: string, value: unknown): unknown {
  const isBytes = typeof value === "object" && value !== null && "hex" in value && Object.keys(value).length === 1;
  return isBytes ? Buffer.from(String(value.hex), "hex") : value;
}

test("an event of every type is written as the codec writes it, and folded as the codec reads it", () => {
  const types = new Set<string>();
  for (const { level, entries } of goldenFiles())
    for (const { type, event } of entries) {
      types.add(type);
      const revived = JSON.parse(JSON.stringify(event), revive) as CardeaEvent;
      assertAsDecoded(revived);
      assertAsDecoded(revived, {}, Math.max(level, 1)); // an old level may need an old version
      assertAsDecoded(Object.fromEntries(Object.entries(revived).reverse()) as unknown as CardeaEvent);
    }
  assert.ok(types.size > 30, `${types.size} types`);
});

const text = fc.oneof(
  { weight: 8, arbitrary: fc.string({ maxLength: 300 }) },
  { weight: 1, arbitrary: fc.string({ maxLength: 40, unit: "grapheme" }) },
  { weight: 1, arbitrary: fc.string({ maxLength: 40, unit: "binary" }) }, // lone surrogates
  { weight: 1, arbitrary: fc.constantFrom("x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256)) },
);
const edges = [0, -0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000];
const number = fc.oneof(fc.constantFrom(...edges), fc.maxSafeInteger(), fc.double());
const bytes = fc
  .oneof(fc.nat({ max: 700 }), fc.constantFrom(0, 0xff, 0x100))
  .map((length) => new Uint8Array(randomBytes(length)));
const { tree } = fc.letrec((tie) => ({
  tree: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    text,
    number,
    bytes,
    fc.boolean(),
    fc.constantFrom(null, undefined),
    fc.array(tie("tree"), { maxLength: 20 }),
    fc.dictionary(fc.oneof(fc.string({ maxLength: 40 }), fc.constantFrom("__proto__", "type", "1", "0")), tie("tree"), {
      maxKeys: 17,
      noNullPrototype: true,
    }),
  ),
}));

test("a body of any shape is folded as it is read", () => {
  const shape = fc.dictionary(fc.string({ maxLength: 20 }), tree, { maxKeys: 17, noNullPrototype: true });
  fc.assert(
    fc.property(shape, text, number, (body, actor, version) => {
      const whole = Number.isSafeInteger(version) && version >= 0;
      const event = { ...body, type: "GroupUpserted" } as unknown as CardeaEvent;
      assertAsDecoded(event, { actor, ...(whole ? { version } : {}) });
    }),
    { numRuns: 2_000 },
  );
});

test("values that are read as something else are decoded, not folded as they are", () => {
  const group = (more: object) => ({ type: "GroupUpserted", groupId: "g", ...more }) as unknown as CardeaEvent;
  const odd = [{ name: "\ud800" }, { name: undefined }, { name: 1.5 }, { name: -1 }, { name: -0 }];
  for (const more of [...odd, { name: new Map([["a", 1]]) }, { name: new Array(2) }, { name: "ä" }])
    assertAsDecoded(group(more));
  assert.throws(() => assertAsDecoded(group({ name: new Date(0) })), MalformedEventError);
  const { event } = assertAsDecoded(group({ name: "\ud800" })).recorded;
  assert.equal("name" in event && event.name, "\ufffd");
  const long = assertAsDecoded(group({ name: "x".repeat(20_000), other: randomBytes(70_000) }));
  assert.ok(long.bytes.length > 90_000);
});

/** Values that an encoder or a decoder could change, and those that another part could change later. */
const hostile: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    ...[undefined, null, -0, Number.NaN, Infinity, -1, 0.1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 1n, 2n ** 64n],
    ...["", "\ud800", "a\udfff", "\0", "ä", "\u2028", "x".repeat(65_536), true, [], {}, [undefined], [[[]]]],
    ...[new Date(0), new Map([["b", 1]]), new Set([1]), /x/, new Array(3), Object.create(null)],
    ...[{ constructor: 1 }, { toString: "x", valueOf: 0 }, { hasOwnProperty: [] }, { length: 2, 1: "b", 0: "a" }],
    ...[new Uint16Array(3), new Float64Array(1), new ArrayBuffer(4), new DataView(new ArrayBuffer(4)), Symbol("s")],
    Array.from({ length: 17_000 }, (_, n) => n % 2),
  ),
  fc.nat({ max: 5_000 }).map((length) => Buffer.from("x".repeat(length))),
  fc.nat({ max: 300 }).map((from) => randomBytes(400).subarray(from)), // a view of a page that others use
  fc.constant(null).map(() => JSON.parse('{"__proto__":{"a":1},"b":2}')),
  fc.constant(null).map(() => Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true } })),
  fc.constant(null).map(() => Array.from({ length: 9 }).reduce((inner: unknown) => [{ inner }], "deep")),
  fc.constant(null).map(() => fc.stringify),
  tree,
);

/** What a caller can put where, by the number of the field. */
type Change = Readonly<{ at: number; how: "replace" | "add" | "remove" | "share" | "reverse"; value: unknown }>;
const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat({ max: 40 }),
  how: fc.constantFrom("replace", "replace", "replace", "add", "remove", "share", "reverse"),
  value: hostile,
});

function changeEvent(event: CardeaEvent, { at, how, value }: Change): CardeaEvent {
  const { type, ...fields } = event;
  const names = Object.keys(fields);
  const name = names[at % Math.max(1, names.length)] ?? "added";
  const body: Record<string, unknown> = { ...fields };
  if (how === "replace") body[name] = value;
  else if (how === "add") body[["added", "0", "constructor", "then"][at % 4] ?? ""] = value;
  else if (how === "remove") delete body[name];
  else if (how === "share") body[name] = [value, value, { [name]: value }];
  else return Object.fromEntries(Object.entries(event).reverse()) as unknown as CardeaEvent;
  return { type, ...body } as unknown as CardeaEvent;
}

/** The result, or the error's name and text. */
function outcomeOf(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : error;
  }
}

/** The golden events, folded, and this one after them. @returns the digest, or why it cannot be folded */
function digestWith(recorded: Recorded, after: readonly Recorded[]): unknown {
  const projection = new Projection();
  for (const one of after) projection.apply(one);
  return outcomeOf(() => {
    projection.apply(recorded);
    return projection.digest();
  });
}

/** Changes everything that can be changed, as a caller could that keeps the objects of its command. */
function scramble(value: unknown, seen = new Set<unknown>()): void {
  if (typeof value !== "object" || value === null || seen.has(value) || Object.isFrozen(value)) return;
  seen.add(value);
  if (ArrayBuffer.isView(value)) new Uint8Array(value.buffer, value.byteOffset, value.byteLength).fill(0x5a);
  else if (Array.isArray(value)) {
    for (const item of value) scramble(item, seen);
    value.push("later");
  } else {
    for (const item of Object.values(value)) scramble(item, seen);
    for (const name of Object.keys(value)) Reflect.set(value, name, "later");
  }
}

test("an event of every type with a hostile value is folded as it is read, or refused before it is written", () => {
  const types = new Map<string, CardeaEvent>();
  const last = goldenFiles().at(-1) ?? assert.fail();
  const golden = decodeEvents(
    last.entries.map(({ bytes }) => Buffer.from(bytes, "base64")),
    genesis,
  );
  for (const { event } of golden) types.set(event.type, event as CardeaEvent);
  assert.deepEqual(new Set(Object.keys(formats)), new Set(types.keys()));
  const head = linkOf(golden.at(-1) ?? assert.fail());
  let folded = 0;
  fc.assert(
    fc.property(fc.constantFrom(...types.keys()), fc.array(change, { minLength: 1, maxLength: 3 }), (type, changes) => {
      const event = changes.reduce(changeEvent, structuredClone(types.get(type)) as CardeaEvent);
      const entry = { ...parts, epoch: head.epoch, event };
      const bytes = outcomeOf(() => encodeEvent({ ...entry, position: (head.position + 1) as Position }));
      const decoded = outcomeOf(() => decodeEvent(Buffer.from(bytes as Uint8Array), head));
      const written = outcomeOf(() => WrittenEvent.write(entry, readsLevel, head));
      if (!(written instanceof WrittenEvent)) {
        assert.equal(written, bytes instanceof Uint8Array ? decoded : bytes); // refused, and for the same reason
        return;
      }
      folded += 1;
      assert.deepEqual(Buffer.from(written.bytes), Buffer.from(bytes as Uint8Array));
      assert.deepStrictEqual(written.recorded, decoded);
      assert.deepEqual(fieldsOf(written.recorded), fieldsOf(decoded));
      assert.deepEqual(digestWith(written.recorded, golden), digestWith(decoded as Recorded, golden));
      scramble(event);
      assert.deepStrictEqual(written.recorded, decodeEvent(Buffer.from(written.bytes), head));
    }),
    { numRuns: 300 },
  );
  assert.ok(folded > 140, `${folded} of 300 were written`);
});

test("an event under an id that no reader accepts is refused before it is written", () => {
  for (const eventId of ["", "1", `${parts.eventId}0`, parts.eventId.replaceAll("0", "G"), `${parts.eventId}\n`])
    assert.throws(
      () => WrittenEvent.write({ ...parts, eventId: eventId as EventId, event: created(1, 1) }, readsLevel, before),
      MalformedEventError,
    );
});

test("an event that keeps its bytes keeps no other buffer of the process", () => {
  const pages = new Set<ArrayBufferLike>();
  const others: Buffer[] = [];
  for (let n = 0; n < 300; n += 1) {
    pages.add(assertAsDecoded(created(1, 1)).bytes.buffer);
    for (let m = 0; m < 20; m += 1) others.push(Buffer.from("x".repeat(4_000)));
  }
  assert.ok(pages.size <= 3, `${pages.size} buffers for 300 events`);
  assert.ok(others.every(({ buffer }) => !pages.has(buffer)));
});

test("after an error, the next event has its own bytes alone", () => {
  const profile = randomBytes(8);
  const event = Object.defineProperty({ ...created(1, 1), profile }, "broken", {
    enumerable: true,
    get: () => assert.fail("broken"),
  });
  assert.throws(() => WrittenEvent.write({ ...parts, event }, readsLevel, before), /broken/);
  assertAsDecoded(created(1, 1));
});

test("the decoded form shares nothing with the event that was passed in", () => {
  const added = ["user-1"];
  const profile = randomBytes(40);
  const of = {
    type: "GroupMembersChanged",
    groupId: "g",
    source: "scim",
    added,
    removed: [],
    profile,
    deep: { added },
  };
  const written = WrittenEvent.write({ ...parts, event: of as unknown as CardeaEvent }, readsLevel, before);
  const expected = decodeEvent(Buffer.from(written.bytes), before);
  added.push("user-2");
  profile.fill(0);
  assert.deepStrictEqual(written.recorded, expected);
});

test("an entry is known to be hashed only after the hash that it was chained to", () => {
  const written = assertAsDecoded(created(1, 1));
  assert.equal(written.recorded.hash, chainHash(before.hash, written.bytes));
  assert.equal(WrittenEvent.isWrittenAfter(written, before.hash), true);
  assert.equal(WrittenEvent.isWrittenAfter(written, genesis.hash), false);
  assert.equal(WrittenEvent.isWrittenAfter({ ...written }, before.hash), false);
  checkEntry(written, before, before.epoch);
  const elsewhere = { ...before, hash: genesis.hash };
  assert.throws(() => checkEntry(written, elsewhere, before.epoch), MalformedBatchError);
  const forged = Buffer.from(written.bytes);
  forged[20] = (forged[20] ?? 0) ^ 1;
  assert.throws(() => checkEntry({ ...written, bytes: forged }, before, before.epoch), MalformedBatchError);
  const other = { ...written.recorded, hash: genesis.hash };
  assert.throws(() => checkEntry({ ...written, recorded: other }, before, before.epoch), MalformedBatchError);
});

test("an event that the level cannot express is refused, and one of an earlier epoch too", () => {
  const linked = { ...created(1, 1), providerSession: "00000000-0000-4000-8000-000000000002" } as CardeaEvent;
  assert.throws(() => WrittenEvent.write({ ...parts, event: linked }, 1, before), LevelTooLowError);
  assert.equal(assertAsDecoded(created(1, 1), {}, 1).recorded.schemaVersion, 1);
  assert.throws(() => WrittenEvent.write({ ...parts, epoch: 2 as Epoch, event: linked }, readsLevel, before));
});

/** Strict MessagePack: the output of the encoder passes, and extension types never reach a decoder. */
import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import { Packr, Unpackr } from "msgpackr";
import { decode, encode, MalformedEventError } from "../../src/events/index.ts";
import { fc } from "../support/property.ts";

const bytesOf = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);
const refuses = (bytes: Uint8Array): void => assert.throws(() => decode(bytes), MalformedEventError);

/** Values that occur in messages and events. */
const { plain } = fc.letrec<{ plain: unknown }>((tie) => ({
  plain: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom(null, true, false, undefined),
    fc.integer(),
    fc.double({ noNaN: true }),
    fc.string({ unit: "binary" }),
    fc.string({ maxLength: 70_000 }),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.array(tie("plain"), { maxLength: 20 }),
    fc.dictionary(
      fc.string().filter((key) => key !== "__proto__"),
      tie("plain"),
      { maxKeys: 20, noNullPrototype: true },
    ),
  ),
}));

describe("strict MessagePack", () => {
  test("the encoder's output is read back", () => {
    fc.assert(
      fc.property(plain, (value) => {
        const bytes = Uint8Array.from(encode(value));
        assert.deepEqual(encode(decode(bytes)), encode(value));
      }),
      { numRuns: 300 },
    );
  });

  test("any extension in any position is refused before the decoder runs", () => {
    const unpack = mock.method(Unpackr.prototype, "unpack");
    try {
      const rich = new Packr({ useRecords: true, moreTypes: true, structuredClone: true, bundleStrings: true });
      const values = [new Date(0), /a+/, new Error("x"), new Set([1]), 2n ** 60n, -(2n ** 40n), new Float64Array(4)];
      for (const value of values) {
        refuses(Uint8Array.from(rich.pack(value)));
        refuses(Uint8Array.from(rich.pack([1, [value]])));
      }
      refuses(Uint8Array.from(rich.pack([{ a: 1 }, { a: 2 }]))); // records
      for (let type = 0; type < 256; type++) {
        refuses(bytesOf(0xd5, type, 0, 0));
        refuses(bytesOf(0xc7, 1, type, 0));
        refuses(bytesOf(0x91, 0xc8, 0, 1, type, 0));
        refuses(bytesOf(0x81, 0xa1, 0x61, 0xc9, 0, 0, 0, 1, type, 0));
        if (type !== 0) refuses(bytesOf(0xd4, type, 0));
      }
      assert.equal(unpack.mock.callCount(), 0);
    } finally {
      unpack.mock.restore();
    }
  });

  test("a megabyte of extensions, and bytes after a value, never reach the decoder", () => {
    const unpack = mock.method(Unpackr.prototype, "unpack");
    try {
      const extension = [0xd6, 0x78, 0xa1, 0x61, 0xa1, 0x67];
      const many = Buffer.alloc(5 + 170_000 * extension.length);
      many.set([0xdd, 0, 0x02, 0x98, 0x10]);
      for (let at = 5; at < many.length; at += extension.length) many.set(extension, at);
      refuses(many);
      refuses(Buffer.concat([encode(Array.from({ length: 100_000 }, () => "value")), bytesOf(0)]));
      assert.equal(unpack.mock.callCount(), 0);
    } finally {
      unpack.mock.restore();
    }
  });

  test("reserved bytes, 64-bit integers, keys that are not strings and deep nesting are refused", () => {
    refuses(bytesOf());
    refuses(bytesOf(0xc1));
    refuses(bytesOf(0xcf, 0, 0, 0, 0, 0, 0, 0, 1));
    refuses(bytesOf(0xd3, 0, 0, 0, 0, 0, 0, 0, 1));
    refuses(bytesOf(0x81, 0x01, 0x01));
    refuses(bytesOf(0x81, 0x90, 0x01));
    const nested = (depth: number): Uint8Array => Buffer.concat([Buffer.alloc(depth, 0x91), bytesOf(0xc0)]);
    assert.ok(decode(nested(256)));
    refuses(nested(257));
    refuses(nested(1_000_000));
  });

  test("a header that claims more bytes than follow is refused", () => {
    for (const claim of [0xdd, 0xdf, 0xdb, 0xc6]) {
      refuses(bytesOf(claim, 0xff, 0xff, 0xff, 0xff));
      refuses(bytesOf(claim, 0xff, 0xff));
    }
    const nestedClaims = Buffer.alloc(5_000);
    for (let at = 0; at < nestedClaims.length; at += 5) nestedClaims.set([0xdd, 0, 0, 0x0f, 0xff], at);
    refuses(nestedClaims);
  });

  test("every truncation is refused, and random bytes give a value or the error, never anything else", () => {
    const whole = encode({ a: [1, "two", Buffer.from("three"), null, 4.5], b: { c: -70_000, d: "x".repeat(300) } });
    for (let length = 0; length < whole.length; length++) refuses(Uint8Array.from(whole.subarray(0, length)));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decode(bytes);
        } catch (error) {
          assert.ok(error instanceof MalformedEventError);
          assert.equal(
            error.message,
            "malformed event: not strict MessagePack",
            "the check before decoding refuses it",
          );
        }
      }),
      { numRuns: 3_000 },
    );
  });

  test("no key changes a prototype", () => {
    const value = decode(encode(JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}')));
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
    assert.equal(Object.getPrototypeOf(value), Object.prototype);
  });
});

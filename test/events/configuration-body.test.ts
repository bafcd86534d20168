/** Compressed configuration bodies: a body must yield the text of its hash, within bounds. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";
import {
  ConfigBodyTooLongError,
  type ConfigHash,
  configBodyBytesMax,
  configTextBytesMax,
  configTextOf,
  MalformedConfigBodyError,
  packConfigBody,
  parseConfigBody,
  parseStoredConfiguration,
} from "../../src/events/index.ts";

const hashOf = (text: string): ConfigHash => createHash("sha256").update(text).digest("hex") as ConfigHash;

test("a body yields the text of its hash, however it was compressed", () => {
  const text = JSON.stringify({ routes: Array.from({ length: 200 }, (_, n) => `https://app-${n}.example.com`) });
  const packed = packConfigBody(text);
  assert.ok(packed.length < text.length / 4);
  for (const body of [packed, deflateRawSync(text, { level: 1 })])
    assert.equal(configTextOf(parseConfigBody(body, hashOf(text))), text);
  const stored = { configHash: hashOf(text), body: packed, recordedAt: 5 };
  assert.deepEqual(parseStoredConfiguration(stored), stored);
});

test("a body that does not match its hash is refused", () => {
  const hash = hashOf("{}");
  for (const value of [
    undefined,
    null,
    "{}",
    Buffer.from("{}"),
    packConfigBody("{ }"),
    deflateRawSync(Buffer.alloc(configTextBytesMax + 1)),
  ])
    assert.throws(() => parseConfigBody(value, hash), MalformedConfigBodyError);
  assert.throws(() => parseConfigBody(new Uint8Array(configBodyBytesMax + 1), hash), /too long/);
  for (const stored of [null, {}, { configHash: "ab", body: packConfigBody("{}"), recordedAt: 1 }])
    assert.throws(() => parseStoredConfiguration(stored));
});

test("a text that is too long, or does not compress enough, is refused", () => {
  const tooLong = (error: unknown): boolean =>
    error instanceof ConfigBodyTooLongError &&
    error.bytes > error.bytesMax &&
    /move long lists of people/.test(error.message);
  assert.throws(() => packConfigBody("x".repeat(configTextBytesMax + 1)), tooLong);
  assert.throws(() => packConfigBody(randomBytes(configBodyBytesMax).toString("hex")), tooLong);
});

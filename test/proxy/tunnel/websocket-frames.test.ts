import assert from "node:assert/strict";
import { test } from "node:test";
import { closeFrame, FrameBoundaries } from "../../../src/proxy/tunnel/websocket-frames.ts";
import { fc } from "../../support/property.ts";

function frame(payload: number, options: { masked?: boolean } = {}): Buffer {
  const mask = options.masked === true ? 0x80 : 0;
  const length =
    payload < 126
      ? Buffer.from([mask | payload])
      : payload < 65_536
        ? Buffer.from([mask | 126, payload >> 8, payload & 255])
        : Buffer.concat([Buffer.from([mask | 127]), bigEndian(payload)]);
  return Buffer.concat([Buffer.from([0x82]), length, Buffer.alloc(mask ? 4 : 0), Buffer.alloc(payload, 0x88)]);
}
function bigEndian(n: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(n));
  return bytes;
}

test("frame boundaries are found, however the bytes are split into chunks", () => {
  const anyFrame = fc
    .tuple(fc.oneof(fc.nat(300), fc.constantFrom(125, 126, 127, 65_535, 65_536, 70_000)), fc.boolean())
    .map(([payload, masked]) => frame(payload, { masked }));
  fc.assert(
    fc.property(
      fc.array(anyFrame, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 40_000 })),
      (frames, sizes) => {
        const bytes = Buffer.concat(frames);
        const ends = new Set<number>([0]);
        let end = 0;
        for (const one of frames) {
          end += one.length;
          ends.add(end);
        }
        const boundaries = new FrameBoundaries();
        let at = 0;
        for (let i = 0; at < bytes.length; i++) {
          const chunk = bytes.subarray(at, at + (sizes[i % Math.max(1, sizes.length)] ?? 7));
          boundaries.take(chunk);
          at += chunk.length;
          assert.equal(boundaries.atBoundary, ends.has(at));
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("up to a boundary, exactly the rest of the frame in progress is forwarded", () => {
  const first = frame(1_000);
  const boundaries = new FrameBoundaries();
  boundaries.take(first.subarray(0, 3));
  assert.equal(boundaries.atBoundary, false);
  assert.equal(boundaries.takeToBoundary(Buffer.concat([first.subarray(3, 10)])), 7);
  assert.equal(boundaries.takeToBoundary(Buffer.concat([first.subarray(10), frame(5)])), first.length - 10);
  assert.equal(boundaries.atBoundary, true);
});

test("a length that is not an exact number never ends", () => {
  const boundaries = new FrameBoundaries();
  boundaries.take(Buffer.concat([Buffer.from([0x82, 127]), Buffer.alloc(8, 0xff), Buffer.alloc(10)]));
  assert.equal(boundaries.atBoundary, false);
});

test("a close frame is one short unmasked control frame", () => {
  const made = closeFrame(4401, "x".repeat(500));
  assert.equal(made[0], 0x88);
  assert.equal(made[1], 125);
  assert.equal(made.readUInt16BE(2), 4_401);
  assert.equal(made.length, 127);
});

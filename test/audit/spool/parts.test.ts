/** The parts of the spool by themselves: frames, the ring, names, retention. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { frameAt, frameHeadOf, frameSeed, nextFrameOffset } from "../../../src/audit/spool/frame.ts";
import { RecordRing } from "../../../src/audit/spool/record-ring.ts";
import {
  deliveredSegments,
  formatSegmentName,
  parseSegmentName,
  type Segment,
  segmentToDrop,
  spoolStart,
  tailOf,
} from "../../../src/audit/spool/segment.ts";
import type { BootId } from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";

describe("a frame", () => {
  const head = { kind: "records", first: 7, last: 9, reserved: 300, atMs: 1_764_288_000_000 } as const;
  const seed = frameSeed("segment-a");
  const whole = (payload: Uint8Array, by = seed) =>
    Buffer.concat([frameHeadOf({ ...head, strict: true, final: false }, payload, by), payload]);

  test("is read as it was written", () => {
    const payload = Buffer.from("a\nb\nc\n");
    const frame = frameAt(whole(payload), 0, seed) ?? assert.fail();
    assert.deepEqual({ ...frame, bytes: 0 }, { ...head, strict: true, final: false, payload, bytes: 0 });
  });

  test("does not pass with any changed bit, any lost end, or in another segment", () => {
    const bytes = whole(Buffer.from("a\nb\nc\n"));
    assert.equal(frameAt(bytes, 0, frameSeed("segment-b")), undefined);
    for (let length = 0; length < bytes.length; length++)
      assert.equal(frameAt(bytes.subarray(0, length), 0, seed), undefined);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.equal(frameAt(changed, 0, seed), undefined, `bit ${bit}`);
    }
  });

  test("is found behind anything, and no input breaks the reader", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
        const frame = whole(Buffer.from("x\n"));
        const bytes = Buffer.concat([noise, frame]);
        let at = nextFrameOffset(bytes, 0);
        while (at !== undefined && frameAt(bytes, at, seed) === undefined) at = nextFrameOffset(bytes, at + 1);
        assert.equal(at, noise.length);
      }),
    );
  });
});

describe("the ring", () => {
  test("accounts for every number, in order, whatever is read and released when", () => {
    const step = fc.oneof(
      fc.record({ type: fc.constant("append" as const), bytes: fc.integer({ min: 1, max: 3_000 }) }),
      fc.record({ type: fc.constant("drop" as const) }),
      fc.record({ type: fc.constant("read" as const), flush: fc.boolean() }),
      fc.record({ type: fc.constant("release" as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const ring = new RecordRing(40_000);
        const texts = new Map<number, string>();
        let read = 0;
        let lines = 0;
        const take = (flush: boolean): boolean => {
          const chunk = ring.read(read, { flush });
          if (chunk === undefined) return false;
          assert.equal(chunk.first, read + 1);
          read = chunk.last;
          if (chunk.kind === "gap") return true;
          const got = chunk.bytes.toString().split("\n").slice(0, -1);
          assert.equal(got.length, chunk.last - chunk.first + 1);
          for (const [i, line] of got.entries()) assert.equal(line, texts.get(chunk.first + i));
          lines += got.length;
          return true;
        };
        for (const each of steps) {
          if (each.type === "append") {
            const text = `${ring.last + 1}${"ä".repeat(each.bytes)}`;
            texts.set(ring.last + 1, text);
            if (!ring.append({ text: `${text}\n`, isAscii: false }, 1)) texts.delete(ring.last);
            assert.ok(ring.bytes <= 40_000 + 6_100, `${ring.bytes} bytes`);
          } else if (each.type === "drop") ring.drop("spool_full", 1);
          else if (each.type === "read") take(each.flush);
          else ring.release(read);
        }
        while (take(true));
        assert.equal(read, ring.last);
        assert.equal(lines + ring.dropped, ring.last);
        ring.release(read);
        assert.equal(ring.bytes, 0);
      }),
    );
  });
});

describe("segments", () => {
  const boot = "boot-1" as BootId;
  const segment = (index: number, parts: Partial<Segment> = {}): Segment => ({
    ...{ index, first: index * 10, last: index * 10 + 9, boot, kind: "records", name: `${index}`, bytes: 100 },
    ...{ reserved: 0, strict: false, ended: true, final: false, fromMs: 0, toMs: 0 },
    ...{ size: 100, damaged: false, gaps: [] },
    ...parts,
  });

  test("are named by index, first number and boot; other files are none", () => {
    const name = { index: 17, first: 4_711, boot, kind: "records" } as const;
    assert.deepEqual(parseSegmentName(formatSegmentName(name)), name);
    for (const other of ["lock.sqlite", "cursor-1.json", "1-1-boot.records", "000000000001-1-.records", "x.gap"])
      assert.equal(parseSegmentName(other), undefined, other);
  });

  test("are dropped oldest first, but not while they are written to, strict, or dropped already", () => {
    const list = [segment(1, { kind: "gap" }), segment(2, { strict: true }), segment(3), segment(4, { ended: false })];
    assert.equal(segmentToDrop(list, [])?.index, 3);
    assert.equal(
      segmentToDrop(
        [list[0], list[1], list[3]].filter((each) => each !== undefined),
        [],
      ),
      null,
    );
    assert.equal(segmentToDrop([segment(1), segment(2), segment(3, { last: 29 })], [])?.index, 1);
    assert.equal(
      segmentToDrop([segment(1), segment(2, { last: 19 }), segment(3)], [])?.index,
      2,
      "one without records",
    );
  });

  test("are dropped although they are strict once every sink has them: only their seal is missing", () => {
    const list = [segment(1, { strict: true }), segment(2, { strict: true }), segment(3), segment(4)];
    const at = (index: number) => ({ ...spoolStart, index });
    assert.equal(segmentToDrop(list, [at(2), at(4)])?.index, 1);
    assert.equal(segmentToDrop(list, [at(1), at(4)])?.index, 3);
    assert.equal(segmentToDrop(list.slice(0, 2), [at(1)]), null);
  });

  test("are not dropped if they are the newest durable one, which says what is reserved", () => {
    assert.equal(segmentToDrop([segment(1)], []), null);
    assert.equal(segmentToDrop([segment(1), segment(2, { bytes: 0, ended: false })], []), null);
    assert.equal(segmentToDrop([segment(1), segment(2, { ended: false })], [])?.index, 1);
  });

  test("are removed once every sink has passed them", () => {
    const list = [segment(1), segment(2), segment(3, { ended: false })];
    const at = (index: number) => ({ ...spoolStart, index });
    assert.deepEqual(
      deliveredSegments(list, [at(3), at(2)]).map(({ index }) => index),
      [1],
    );
    assert.deepEqual(deliveredSegments(list, [at(9), at(9)]).length, 2, "never the one in use");
  });

  test("end with the numbers that their boot reserved, unless it shut down cleanly or goes on", () => {
    const [old, next] = [segment(1, { reserved: 275 }), segment(2, { boot: "boot-2" as BootId })];
    assert.equal(tailOf([old, next], 0, "boot-2" as BootId), 256);
    assert.equal(tailOf([{ ...old, final: true }, next], 0, "boot-2" as BootId), 0);
    assert.equal(tailOf([old, segment(2)], 0, "boot-2" as BootId), 0, "another segment of the boot follows");
    assert.equal(tailOf([old], 0, boot), 0);
  });
});

test("the newest durable segment is never removed: without it a power failure would lose the reservation", () => {
  const of = (index: number, bytes: number): Segment => ({
    ...{ index, first: index * 10, boot: "boot-1" as BootId, kind: "records", name: `${index}`, bytes },
    ...{ last: index * 10 + 9, reserved: 300, strict: false, ended: bytes > 0, final: false, fromMs: 1, toMs: 1 },
    ...{ size: bytes, damaged: false, gaps: [] },
  });
  const removed = (...segments: Segment[]): readonly number[] =>
    deliveredSegments(segments, [{ index: 3, offset: 0, boot: "boot-1" as BootId, next: 30 }]).map(
      ({ index }) => index,
    );
  assert.deepEqual(removed(of(1, 100), of(2, 100), of(3, 0)), [1]);
  assert.deepEqual(removed(of(1, 100), of(2, 100), of(3, 100)), [1, 2]);
});

/** Proofs of decision records: which messages are accepted, and that no input breaks the verifier. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, mock, test } from "node:test";
import { Unpackr } from "msgpackr";
import { auditSubject } from "../../src/audit/audit-subject.ts";
import type { AuditRecord } from "../../src/audit/index.ts";
import {
  createRecordVerifier,
  proofHeader,
  proofTagHeader,
  proveRecords,
  type ReceivedRecords,
  type RecordSigner,
  recordMessageBytesMax,
  recordMessageId,
} from "../../src/audit/record-proof.ts";
import { fc } from "../support/property.ts";
import { samples } from "./samples.ts";
import { batchOf, boot, decision, node, secret, signerOf } from "./support.ts";

const cluster = "test";
const subject = auditSubject({ cluster, region: "here", node });
const now = 1_800_000_000_000;
const signer = signerOf({ cluster, node, boot });
const verifier = (secrets: readonly Uint8Array[] = [secret], fromMs = 0) =>
  createRecordVerifier({ cluster, secrets, fromMs });
const one = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision() });

function messageOf(
  records: readonly AuditRecord[],
  { signedAtMs = now, storedAtMs = now, by = signer } = {},
): ReceivedRecords {
  const { first, last, bytes } = batchOf(...records);
  const headers = proveRecords({ subject, first, last, bytes }, by, signedAtMs);
  return { subject, bytes, overheadBytes: 1_000, header: (name) => headers[name], storedAtMs };
}

function outcome(message: ReceivedRecords, by = verifier()): string | number[] {
  const opened = by.open(message);
  return "refused" in opened ? opened.refused : opened.records.map(({ record }) => record.seq);
}

describe("a message of decision records", () => {
  test("is accepted once, and only with increasing numbers", () => {
    const by = verifier();
    const first = messageOf([one(1), one(2)]);
    assert.deepEqual(outcome(first, by), [1, 2]);
    assert.equal(outcome(first, by), "repeated");
    assert.deepEqual(outcome(messageOf([one(2), one(3)]), by), [3]);
    assert.equal(outcome(messageOf([one(1)], { signedAtMs: now + 1 }), by), "repeated");
    assert.deepEqual(outcome(messageOf([one(7)]), by), [7]);
    assert.equal(by.counts().missing, 3);
  });

  test("from an authenticate process holds acts and gaps; a decision in it is refused", () => {
    const by = signerOf({ cluster, node, boot, role: "authenticate" });
    const gap = { kind: "gap", seq: 2, node, boot, at: decision().at, first: 2, last: 2, why: "" } as const;
    const act = { ...(samples["operator"] ?? assert.fail()), seq: 1, node, boot } as AuditRecord;
    const all = verifier();
    assert.deepEqual(outcome(messageOf([act], { by }), all), [1]);
    assert.deepEqual(outcome(messageOf([gap], { by }), all), [2]);
    assert.equal(outcome(messageOf([one(3)], { by }), all), "not-authentic");
    assert.equal(outcome(messageOf([{ ...act, seq: 3 } as AuditRecord, one(4)], { by }), all), "not-authentic");
    assert.deepEqual(outcome(messageOf([one(3)]), all), [3], "a refused message changes nothing");
  });

  test("of an earlier boot is accepted from a later boot of the same node, if the proof names it", () => {
    const later = signerOf({ cluster, node, boot: "boot-2" });
    const headersOf = (named: string | undefined, by: RecordSigner) => {
      const { first, last, bytes } = batchOf(one(1), one(2));
      const proof = { subject, first, last, bytes, ...(named === undefined ? {} : { boot: named }) };
      const headers = proveRecords(proof, by, now);
      return { subject, bytes, overheadBytes: 1_000, header: (name: string) => headers[name], storedAtMs: now };
    };
    assert.deepEqual(outcome(headersOf(boot, later)), [1, 2]);
    assert.equal(outcome(headersOf(undefined, later)), "foreign", "the records are not of the signing boot");
    assert.equal(outcome(headersOf("boot-9", later)), "foreign", "the proof names another boot");
    assert.equal(outcome(headersOf(boot, signerOf({ cluster, node: "node-2", boot: "boot-2" }))), "foreign");
    assert.equal(outcome(headersOf("b".repeat(200), later)), "not-authentic");
    const by = verifier();
    assert.deepEqual(outcome(messageOf([one(1), one(2)]), by), [1, 2]);
    assert.equal(outcome(headersOf(boot, later), by), "repeated", "the earlier boot had published them itself");
  });

  test("a declared gap is not missing, and a jump beyond ten million is refused", () => {
    const by = verifier();
    const gap = (first: number, seq: number): AuditRecord => ({
      ...{ kind: "gap", seq, node, boot, at: 1 as never, first, last: seq, why: "the sink fell behind" },
    });
    assert.deepEqual(outcome(messageOf([one(1)]), by), [1]);
    assert.deepEqual(outcome(messageOf([gap(2, 90_000_000)]), by), [90_000_000]);
    assert.deepEqual(outcome(messageOf([one(90_000_001)]), by), [90_000_001]);
    assert.equal(by.counts().missing, 0);
    assert.equal(outcome(messageOf([one(110_000_002)]), by), "far-ahead");
    assert.deepEqual(outcome(messageOf([one(90_000_002)]), by), [90_000_002]);
  });

  test("is bound to its time: signed after it was stored, long before, or before the requested range, it is refused", () => {
    assert.equal(outcome(messageOf([one(1)], { signedAtMs: now + 120_001 })), "far-ahead");
    assert.equal(outcome(messageOf([one(1)], { signedAtMs: now - 120_001 })), "outdated");
    assert.equal(outcome(messageOf([one(1)]), verifier([secret], now + 120_001)), "outdated");
    assert.deepEqual(outcome(messageOf([one(1)], { signedAtMs: now - 119_000 })), [1]);
    const ahead = { ...one(1), at: (now + 120_001) as never };
    assert.equal(outcome(messageOf([ahead])), "far-ahead");
  });

  test("is accepted under the previous secret during a rotation, and under no other", () => {
    assert.deepEqual(outcome(messageOf([one(1)]), verifier([randomBytes(32), secret])), [1]);
    assert.equal(outcome(messageOf([one(1)]), verifier([randomBytes(32)])), "unsigned");
  });

  test("is checked for size before headers, tag before signature, and signature before any decoding", () => {
    const unread = (): never => assert.fail("headers were parsed");
    const large = new Uint8Array(recordMessageBytesMax + 1);
    assert.equal(outcome({ subject, bytes: large, overheadBytes: 10, header: unread, storedAtMs: now }), "too-large");
    const small = Buffer.of(1);
    assert.equal(
      outcome({ subject, bytes: small, overheadBytes: 5_000, header: unread, storedAtMs: now }),
      "too-large",
    );
    const by = verifier();
    const { bytes } = messageOf([one(1)]);
    const copied = messageOf([one(1)]);
    const unpack = mock.method(Unpackr.prototype, "unpack");
    try {
      const proof = Buffer.from(copied.header(proofHeader) ?? "", "base64url");
      for (let at = 0; at < proof.length; at += 3) {
        const forged = Uint8Array.from(proof);
        forged[at] = (forged[at] ?? 0) ^ 0x10;
        const header = (name: string) =>
          name === proofHeader ? Buffer.from(forged).toString("base64url") : copied.header(name);
        assert.match(String(outcome({ ...copied, bytes, header }, by)), /^(unsigned|not-authentic)$/);
      }
      assert.ok(unpack.mock.callCount() <= 2, "no more than the genuine certificate was decoded");
    } finally {
      unpack.mock.restore();
    }
  });

  test("is refused with any byte changed", () => {
    const message = messageOf([one(1), one(2)]);
    for (let at = 0; at < message.bytes.length; at += 5) {
      const bytes = Uint8Array.from(message.bytes);
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      assert.equal(outcome({ ...message, bytes }), "altered");
    }
  });

  test("with any bytes and headers never makes the verifier throw, from a stranger or a member", () => {
    const by = verifier();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.string(), fc.string(), (bytes, proof, tag) => {
        const header = (name: string) => (name === proofHeader ? proof : name === proofTagHeader ? tag : undefined);
        assert.equal(outcome({ subject, bytes, overheadBytes: 9, header, storedAtMs: now }, by), "unsigned");
        const signed = proveRecords({ subject, first: 1, last: 1, bytes }, signer, now);
        const member = { subject, bytes, overheadBytes: 9, header: (name: string) => signed[name], storedAtMs: now };
        assert.match(String(outcome(member, by)), /^(malformed|repeated)$/);
      }),
      { numRuns: 200 },
    );
    fc.assert(
      fc.property(fc.json(), (json) => {
        const bytes = Buffer.from(`${json}\n`);
        const signed = proveRecords({ subject, first: 1, last: 1, bytes }, signer, now);
        const member = { subject, bytes, overheadBytes: 9, header: (name: string) => signed[name], storedAtMs: now };
        assert.match(String(outcome(member, by)), /^(malformed|repeated)$/);
      }),
      { numRuns: 200 },
    );
  });

  test("keeps its message id across attempts, which no stranger can predict", () => {
    const message = { subject, first: 1, last: 2, bytes: Buffer.of() };
    assert.equal(recordMessageId(message, boot, secret), recordMessageId(message, boot, secret));
    assert.notEqual(recordMessageId(message, boot, secret), recordMessageId(message, boot, randomBytes(32)));
    assert.notEqual(recordMessageId(message, boot, secret), recordMessageId({ ...message, last: 3 }, boot, secret));
  });
});

/** The fast encoding of a session for digests: equal to that of the codec, or absent. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { encode, type SessionId, type UserId } from "../../../src/events/index.ts";
import { SessionForm } from "../../../src/events/projection/session-form.ts";
import type { Session } from "../../../src/events/projection/state.ts";
import { fc } from "../../support/property.ts";

const id = fc.oneof(
  fc.uuid(),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
  fc.stringMatching(/^[A-Za-z0-9._~@/+=:-]{1,200}$/),
);
const whole = fc.oneof(
  fc.constantFrom(0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000),
  fc.integer({ min: 0, max: 2_000_000_000_000 }),
  fc.maxSafeNat(),
);
const profile = fc
  .oneof(fc.nat({ max: 600 }), fc.constantFrom(0, 0xff, 0x100, 0xffff, 0x1_0000))
  .map((length) => new Uint8Array(randomBytes(length)));
const sessions = fc.oneof(
  fc.record({
    ...{
      status: fc.constant("active"),
      sessionId: id,
      userId: id,
      idpId: fc.string({ maxLength: 300, unit: "grapheme" }),
    },
    ...{ issuedAt: whole, expiresAt: whole, refreshedAt: whole, profile, createdAt: whole },
  }),
  fc.record({
    ...{
      status: fc.constant("active"),
      sessionId: id,
      userId: id,
      idpId: id,
    },
    ...{ issuedAt: whole, expiresAt: whole, refreshedAt: whole, profile, createdAt: whole, providerSession: fc.uuid() },
  }),
  fc.record({
    ...{ status: fc.constant("revoked"), sessionId: id, userId: fc.option(id) },
    ...{ reason: fc.constantFrom("operator", "sign-out"), expiresAt: fc.option(whole), revokedAt: whole },
  }),
) as fc.Arbitrary<Session>;

test("the fast form equals the codec's byte for byte, or is absent", () => {
  const form = new SessionForm();
  let plain = 0;
  fc.assert(
    fc.property(sessions, (session) => {
      const bytes = form.bytesOf(session);
      if (bytes === undefined) return;
      plain += 1;
      assert.deepEqual(Buffer.from(bytes), Buffer.from(encode(["session", session])));
    }),
    { seed: 3, numRuns: 2_000 },
  );
  assert.ok(plain > 1_000, `only ${plain} of 2,000`);
});

test("a usual session has a fast form; one with non-ASCII text, a long text or a large profile does not", () => {
  const form = new SessionForm();
  const usual: Session = {
    ...{ status: "revoked", sessionId: "s".repeat(22) as SessionId, userId: "u".repeat(22) as UserId },
    ...{ reason: "operator", expiresAt: null, revokedAt: 7 as never },
  };
  assert.ok(form.bytesOf(usual) !== undefined);
  assert.equal(form.bytesOf({ ...usual, userId: "é" as UserId }), undefined);
  assert.equal(form.bytesOf({ ...usual, userId: "u".repeat(256) as UserId }), undefined);
  assert.equal(form.bytesOf({ ...usual, revokedAt: 1.5 as never }), undefined);
});

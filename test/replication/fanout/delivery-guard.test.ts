/** Delivery guard: which messages it drops, in which order it checks, and what each check costs. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, mock, test } from "node:test";
import { Unpackr } from "msgpackr";
import {
  DeliveryGuard,
  type DeliveryRefusal,
  deliveryBytesMax,
  type GuardMoment,
  ReplayFilter,
} from "../../../src/replication/fanout/delivery-guard.ts";
import { createDeliveryTag, deliveryTagKey } from "../../../src/replication/fanout/delivery-tag.ts";
import { envelopeOf } from "../../support/envelopes.ts";
import { hostileKinds, hostileMessage } from "../../support/hostile-nats-client.ts";
import { fc } from "../../support/property.ts";
import { history, leaderOf, sealMessage, secret } from "../support.ts";

const key = deliveryTagKey(secret);
const wallMs = 1_800_000_000_000;
const at = (monotonicMs: number): GuardMoment => ({ monotonicMs, wallMs: wallMs + monotonicMs });
const noTag = (): undefined => undefined;
const untagged = (data: Uint8Array) => ({ data, overheadBytes: 20, tag: noTag });
const tagged = (data: Uint8Array, tag = createDeliveryTag(data, key, wallMs)) => ({
  data,
  overheadBytes: 100,
  tag: () => tag,
});
const guard = (): DeliveryGuard => new DeliveryGuard([key]);

describe("the delivery guard", () => {
  test("accepts a tagged message once, and drops its repetition and any message that copies its signature", () => {
    const one = guard();
    const data = sealMessage(leaderOf(1), "batch", history(3).batch(1, 3));
    assert.equal(one.refuse(tagged(data), at(0)), undefined);
    assert.equal(one.refuse(tagged(data), at(1)), "repeated");
    const forged = envelopeOf("another payload");
    forged.set(data.subarray(-64), forged.length - 64);
    assert.equal(one.refuse(tagged(forged, createDeliveryTag(data, key, wallMs)), at(2)), "repeated");
    assert.equal(one.refused.repeated, 2);
  });

  test("a tag is valid for the signature of its message, the secret of its cluster and one minute", () => {
    const one = guard();
    const [a, b, c] = [envelopeOf("a"), envelopeOf("b"), envelopeOf("c")];
    for (let n = 0; n < 200; n++) one.reportForgery(1, at(0));
    const refusal = (data: Uint8Array, tag: string, now = at(0)) => one.refuse(tagged(data, tag), now);
    assert.equal(refusal(a, createDeliveryTag(b, key, wallMs)), "over-budget", "the tag of another message");
    assert.equal(refusal(a, createDeliveryTag(a, deliveryTagKey(randomBytes(32)), wallMs)), "over-budget");
    assert.equal(refusal(a, `${createDeliveryTag(a, key, wallMs)}x`), "over-budget");
    assert.equal(refusal(b, createDeliveryTag(b, key, wallMs - 60_001)), "outdated");
    assert.equal(refusal(b, createDeliveryTag(b, key, wallMs + 60_001)), "outdated", "far ahead");
    assert.equal(refusal(c, createDeliveryTag(c, key, wallMs - 30_000)), undefined);
    assert.equal(
      new DeliveryGuard([deliveryTagKey(randomBytes(32)), key]).refuse(tagged(a), at(0)),
      undefined,
      "a tag under the previous secret",
    );
  });

  test("untagged messages are accepted until the budget of forgeries is spent; tagged messages still pass", () => {
    const one = guard();
    let opened = 0;
    for (let n = 0; n < 10_000; n++) {
      const message = untagged(envelopeOf("forged"));
      if (one.refuse(message, at(0)) !== undefined) continue;
      opened += 1;
      one.reportForgery(message.data.length, at(0));
    }
    assert.ok(opened > 90 && opened <= 100, "at most the budget is verified");
    assert.deepEqual([one.refused.forged, one.refused["over-budget"]], [opened, 10_000 - opened]);
    assert.equal(one.refuse(tagged(envelopeOf("genuine")), at(0)), undefined);
    assert.equal(one.refuse(untagged(envelopeOf("later")), at(1_000)), undefined, "the budget refills");
    const large = guard();
    let verified = 0;
    for (let n = 0; n < 100; n++) {
      if (large.refuse(untagged(envelopeOf(randomBytes(500_000))), at(0)) !== undefined) continue;
      verified += 1;
      large.reportForgery(500_000, at(0));
    }
    assert.equal(verified, 7, "half a megabyte costs as much as sixteen small messages");
  });

  test("checks the size and the headers before the shape, and the shape before it reads the tag", () => {
    const one = guard();
    const unread = (): never => assert.fail("headers were parsed");
    const refusal = (data: Uint8Array, overheadBytes = 20): DeliveryRefusal | undefined =>
      one.refuse({ data, overheadBytes, tag: unread }, at(0));
    assert.equal(refusal(new Uint8Array(deliveryBytesMax + 1)), "too-large");
    assert.equal(refusal(envelopeOf("a"), 2_049), "too-large");
    assert.equal(refusal(envelopeOf("a"), Number.POSITIVE_INFINITY), "too-large");
    assert.equal(refusal(randomBytes(500)), "not-an-envelope");
    assert.equal(refusal(new Uint8Array()), "not-an-envelope");
  });

  test("a flood is noticed by messages or bytes per second, and ends after a quiet second", () => {
    const [many, large] = [guard(), guard()];
    const junk = untagged(randomBytes(10));
    for (let n = 0; n < 10_000; n++) many.refuse(junk, at(n / 100));
    assert.equal(many.isFlood, false);
    many.refuse(junk, at(100));
    assert.equal(many.isFlood, true);
    many.refuse(junk, at(1_200));
    assert.equal(many.isFlood, false);
    const megabyte = untagged(new Uint8Array(1024 * 1024));
    for (let n = 0; n < 33; n++) large.refuse(megabyte, at(0));
    assert.equal(large.isFlood, true);
  });

  test("no kind of hostile message reaches a decoder, and each is counted", () => {
    const unpack = mock.method(Unpackr.prototype, "unpack");
    try {
      const data = sealMessage(leaderOf(1), "batch", history(3).batch(1, 3));
      const overheard = { data, tag: createDeliveryTag(data, key, wallMs) };
      for (const kind of hostileKinds) {
        const one = guard();
        assert.equal(one.refuse(tagged(data, overheard.tag), at(0)), undefined);
        for (let n = 0; n < 150; n++) {
          const { data: sent, headers } = hostileMessage(kind, overheard);
          const overheadBytes =
            headers === undefined ? 20 : headers.keys().length > 0 && kind === "large-headers" ? 500_000 : 100;
          const tag = () => headers?.get("Cardea-Tag");
          if (one.refuse({ data: sent, overheadBytes, tag }, at(0)) === undefined) one.reportForgery(1, at(0));
        }
        const counted = Object.values(one.refused).reduce((sum, count) => sum + count, 0);
        assert.equal(counted, 150, kind);
      }
      assert.equal(unpack.mock.callCount(), 0);
    } finally {
      unpack.mock.restore();
    }
  });

  test("random bytes and truncated or changed messages never make it throw", () => {
    const one = guard();
    const data = sealMessage(leaderOf(1), "batch", history(3).batch(1, 3));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(data.length), fc.string(), (bytes, length, tag) => {
        one.refuse(tagged(bytes, tag), at(0));
        one.refuse(tagged(Buffer.concat([data.subarray(0, length), bytes]), tag), at(0));
      }),
      { numRuns: 500 },
    );
  });

  test("the replay filter accepts tagged messages of any age, and only a few untagged ones", () => {
    const filter = new ReplayFilter([key]);
    const old = envelopeOf("a day old");
    assert.equal(filter.accepts(tagged(old, createDeliveryTag(old, key, wallMs - 86_400_000))), true);
    assert.equal(filter.accepts(tagged(old)), false, "a repetition");
    assert.equal(filter.accepts(untagged(new Uint8Array(deliveryBytesMax + 1))), false);
    assert.equal(filter.accepts(untagged(randomBytes(100))), false);
    let accepted = 0;
    for (let n = 0; n < 1_000; n++) if (filter.accepts(untagged(envelopeOf("forged")))) accepted += 1;
    assert.equal(accepted, 200);
  });
});

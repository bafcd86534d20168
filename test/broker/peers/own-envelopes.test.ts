/** How a broker recognises what it published. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { OwnEnvelopes } from "../../../src/broker/peers/own-envelopes.ts";

test("a copy of an own envelope is recognised, and nothing with another signature", () => {
  const own = new OwnEnvelopes();
  const [mine, other] = [randomBytes(300), randomBytes(300)];
  own.add(mine);
  assert.ok(own.has(Uint8Array.from(mine)));
  assert.ok(!own.has(other));
  assert.ok(!own.has(Buffer.concat([mine.subarray(0, -64), other.subarray(-64)])));
  assert.ok(!own.has(new Uint8Array(3)));
});

test("the oldest of many envelopes are forgotten", () => {
  const own = new OwnEnvelopes();
  const envelopes = Array.from({ length: 100 }, () => randomBytes(100));
  for (const envelope of envelopes) own.add(envelope);
  assert.ok(!own.has(envelopes[0] ?? assert.fail()));
  assert.equal(envelopes.filter((each) => own.has(each)).length, 64);
});

/** The cache of people's keys. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createPersonKeyCache } from "../../../src/broker/state/person-key-cache.ts";
import type { Recorded } from "../../../src/events/index.ts";
import { random, secret, user } from "../support.ts";

test("the key of an erased person is dropped, and no other", () => {
  const cache = createPersonKeyCache([secret]);
  const keyOf = (name: string) => ({ userId: user(name), keyId: random(8), key: random(32) });
  cache.put([keyOf("alice"), keyOf("bob")]);
  cache.follow([{ event: { type: "UserErased", userId: user("alice") } } as Recorded]);
  assert.equal(cache.get(user("alice")), undefined);
  assert.notEqual(cache.get(user("bob")), undefined);
});

/** The peer addresses that brokers gossip. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PeerAddresses } from "../../../src/broker/peers/peer-addresses.ts";

const [a, b, c] = ["https://a", "https://b", "https://c"] as const;

test("a broker gossips every known peer except itself, and nothing without an address of its own", () => {
  const neighbours = new PeerAddresses(a);
  neighbours.add(a, 0, "direct");
  neighbours.add(b, 0, "direct");
  neighbours.add(c, 0, "reported");
  neighbours.add(null, 0, "reported");
  assert.deepEqual(neighbours.known(1), [b, c]);
  const alone = new PeerAddresses(null);
  alone.add(b, 0, "reported");
  assert.deepEqual(alone.known(1), []);
});

test("only peers heard directly are gossiped, and a departed peer is forgotten even if others still name it", () => {
  const neighbours = new PeerAddresses(a);
  neighbours.add(b, 0, "direct");
  neighbours.add(c, 0, "reported");
  assert.deepEqual(neighbours.direct(1), [b]);
  neighbours.add(b, 40_000, "direct");
  neighbours.add(c, 40_000, "reported");
  assert.deepEqual(neighbours.known(60_000), [b], "a repeated report does not keep a departed peer");
  neighbours.add(b, 90_000, "reported");
  assert.deepEqual([neighbours.direct(99_999), neighbours.known(100_000)], [[b], []]);
});

test("the number of addresses is bounded", () => {
  const neighbours = new PeerAddresses(a);
  for (let n = 0; n < 100; n++) neighbours.add(`https://b-${n}`, 0, "direct");
  assert.equal(neighbours.known(1).length, 32);
});

/** Node keys: a boot id commits to a key, and the replaced boot's key proves a replacement. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import type { BootId, NodeId } from "../../../src/events/index.ts";
import {
  commitsToKey,
  mayUseBoot,
  type NodeIdentity,
  nodeKeyFrom,
  provesReplacement,
  rawPublicKey,
  signReplacement,
} from "../../../src/replication/wire/index.ts";

const identity: NodeIdentity = { cluster: "c", role: "proxy", name: "proxy-1" as NodeId };
const newKey = (parts: Partial<NodeIdentity> = {}) => nodeKeyFrom(randomBytes(32), { ...identity, ...parts });

describe("a boot id", () => {
  test("follows from the seed, and differs for each cluster, role and name", () => {
    const seed = randomBytes(32);
    const ids = [{}, { cluster: "d" }, { role: "authorize" as const }, { name: "proxy-2" as NodeId }].map(
      (parts) => nodeKeyFrom(seed, { ...identity, ...parts }).boot,
    );
    assert.equal(nodeKeyFrom(seed, identity).boot, ids[0]);
    assert.equal(new Set(ids).size, 4);
    for (const id of ids) assert.match(id, /^key-[A-Za-z0-9_-]{32}$/);
  });

  test("may be used only with its own key and under its own name", () => {
    const [own, other] = [newKey(), newKey()];
    const publicKey = rawPublicKey(own.pair.publicKey);
    const holder = { ...identity, boot: own.boot, publicKey };
    assert.equal(mayUseBoot(holder), true);
    assert.equal(mayUseBoot({ ...holder, publicKey: rawPublicKey(other.pair.publicKey) }), false);
    assert.equal(mayUseBoot({ ...holder, name: "proxy-2" }), false);
    assert.equal(mayUseBoot({ ...holder, role: "broker" }), false);
  });

  test("of an older build commits to no key", () => {
    assert.equal(commitsToKey("7d4ffcf3-6f5e-4f8c-a2d4-2c6f0b3a9a11" as BootId), false);
    assert.equal(commitsToKey(newKey().boot), true);
  });
});

describe("a replacement", () => {
  const { cluster, name: node } = identity;
  const [replaced, by, third] = [newKey(), newKey(), newKey()];
  const claim = { cluster, node, replaced: replaced.boot, by: by.boot };

  test("is proven by the replaced boot's key, whatever role that boot had", () => {
    assert.equal(provesReplacement(signReplacement(replaced.seed, claim), claim), true);
    const authorizing = newKey({ role: "authorize" });
    const other = { ...claim, replaced: authorizing.boot };
    assert.equal(provesReplacement(signReplacement(authorizing.seed, other), other), true);
  });

  test("is not proven by another key, for another boot or node, or by bytes of another length", () => {
    const proof = signReplacement(replaced.seed, claim);
    assert.equal(provesReplacement(signReplacement(by.seed, claim), claim), false);
    assert.equal(provesReplacement(proof, { ...claim, by: third.boot }), false);
    assert.equal(provesReplacement(proof, { ...claim, replaced: third.boot }), false);
    assert.equal(provesReplacement(proof, { ...claim, node: "proxy-2" as NodeId }), false);
    assert.equal(provesReplacement(proof, { ...claim, cluster: "d" }), false);
    assert.equal(provesReplacement(proof.subarray(1), claim), false);
  });
});

/** A boot id commits to a key, and a replacement to the replaced boot's key. */
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
} from "../../../src/replication/index.ts";

const identity: NodeIdentity = { cluster: "c", role: "proxy", name: "proxy-1" as NodeId };
const drawn = (parts: Partial<NodeIdentity> = {}) => nodeKeyFrom(randomBytes(32), { ...identity, ...parts });

describe("a boot id", () => {
  test("follows from the seed, and is another one for each cluster, role and name", () => {
    const seed = randomBytes(32);
    const ids = [{}, { cluster: "d" }, { role: "authorize" as const }, { name: "proxy-2" as NodeId }].map(
      (parts) => nodeKeyFrom(seed, { ...identity, ...parts }).boot,
    );
    assert.equal(nodeKeyFrom(seed, identity).boot, ids[0]);
    assert.equal(new Set(ids).size, 4);
    for (const id of ids) assert.match(id, /^key-[A-Za-z0-9_-]{32}$/);
  });

  test("may be used with its own key alone, and under its own name alone", () => {
    const [own, other] = [drawn(), drawn()];
    const publicKey = rawPublicKey(own.pair.publicKey);
    const holder = { ...identity, boot: own.boot, publicKey };
    assert.equal(mayUseBoot(holder), true);
    assert.equal(mayUseBoot({ ...holder, publicKey: rawPublicKey(other.pair.publicKey) }), false);
    assert.equal(mayUseBoot({ ...holder, name: "proxy-2" }), false);
    assert.equal(mayUseBoot({ ...holder, role: "broker" }), false);
  });

  test("of an older build commits to no key", () => {
    assert.equal(commitsToKey("7d4ffcf3-6f5e-4f8c-a2d4-2c6f0b3a9a11" as BootId), false);
    assert.equal(commitsToKey(drawn().boot), true);
  });
});

describe("a replacement", () => {
  const { cluster, name: node } = identity;
  const [replaced, by, third] = [drawn(), drawn(), drawn()];
  const said = { cluster, node, replaced: replaced.boot, by: by.boot };

  test("is proven by the replaced boot's key, in whichever role that boot was", () => {
    assert.equal(provesReplacement(signReplacement(replaced.seed, said), said), true);
    const authorizing = drawn({ role: "authorize" });
    const other = { ...said, replaced: authorizing.boot };
    assert.equal(provesReplacement(signReplacement(authorizing.seed, other), other), true);
  });

  test("is not proven by another key, for another boot or node, or by bytes of another length", () => {
    const proof = signReplacement(replaced.seed, said);
    assert.equal(provesReplacement(signReplacement(by.seed, said), said), false);
    assert.equal(provesReplacement(proof, { ...said, by: third.boot }), false);
    assert.equal(provesReplacement(proof, { ...said, replaced: third.boot }), false);
    assert.equal(provesReplacement(proof, { ...said, node: "proxy-2" as NodeId }), false);
    assert.equal(provesReplacement(proof, { ...said, cluster: "d" }), false);
    assert.equal(provesReplacement(proof.subarray(1), said), false);
  });
});

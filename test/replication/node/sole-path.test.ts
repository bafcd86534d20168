/** What a regional broker's own renews say of the sole path, and which grant gives it one (ADR 0039, rule 5). */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Grant, Renew, SolePathClaim } from "../../../src/replication/wire/index.ts";
import { History } from "../support.ts";
import { DrivenNode } from "./driven-node.ts";

function aBroker(state = { wanted: true, retained: false }) {
  const log = new History().open(1);
  const node = new DrivenNode({ role: "broker", solePath: () => state });
  node.start().noSnapshot().read(log);
  const path = () => node.core.heldLease(node.moment)?.solePath ?? null;
  /** Answers an earlier renew. */
  function grantLate({ id, renew }: Readonly<{ id: number; renew: Renew }>, parts: Partial<Grant>): void {
    const { epoch } = log.head;
    const grant: Grant = {
      ...{ node: renew.node, boot: renew.boot, nonce: renew.nonce, epoch, incarnation: log.incarnation },
      ...{ start: log.start, head: log.head, deltaMs: 5_000, drift: 0.01, windowMs: 65_000 },
      ...{ wallMs: node.moment.wall, ...parts },
    };
    node.feed({ type: "leaseAnswered", id, answer: { type: "grant", grant } });
  }
  return { log, node, state, path, grantLate };
}

const claimOf = (node: DrivenNode): SolePathClaim | undefined => node.lastRenew.renew.solePath;

test("the newest grant alone says whether a broker has the sole path, and the next renew names its epoch", () => {
  const { log, node, path } = aBroker();
  assert.deepEqual(claimOf(node), { wanted: true, retained: false, grantedIn: null });
  node.grant(log, { solePath: ["b1"] });
  assert.deepEqual(path(), ["b1"]);
  node.renew();
  assert.deepEqual(claimOf(node), { wanted: true, retained: false, grantedIn: 1 });
  node.grant(log);
  assert.equal(path(), null, "the leader has taken it back");
  node.renew();
  assert.equal(claimOf(node)?.grantedIn, null);
});

test("a broker that has said that it lacks the sole path does not get it from an older grant", () => {
  const { node, path, grantLate } = aBroker();
  const first = node.lastRenew;
  node.renew();
  grantLate(first, { solePath: ["b1"] });
  assert.equal(path(), null, "the leader may have granted past it after the second renew");
  grantLate(node.lastRenew, { solePath: ["b1"] });
  assert.deepEqual(path(), ["b1"]);
});

test("a broker that no longer wants it gives it up with its next renew, but not while it retains a revocation", () => {
  const { log, node, state, path } = aBroker();
  node.grant(log, { solePath: ["b1"] });
  Object.assign(state, { wanted: false, retained: true });
  node.renew();
  assert.equal(claimOf(node)?.grantedIn, 1);
  node.grant(log, { solePath: ["b1"] });
  state.retained = false;
  node.renew();
  assert.deepEqual(claimOf(node), { wanted: false, retained: false, grantedIn: null });
  assert.equal(path(), null);
});

test("the sole path ends with the lease", () => {
  const { log, node } = aBroker();
  node.grant(log, { solePath: ["b1"] });
  node.pass(66_000);
  node.renew();
  assert.equal(claimOf(node)?.grantedIn, null);
});

test("a node that is no regional broker says nothing of it", () => {
  const node = new DrivenNode();
  node.start();
  assert.equal("solePath" in node.lastRenew.renew, false);
});

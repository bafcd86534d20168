/**
 * Leases by age: each rule of the regional granter alone, and all of them together in seeded worlds of delays and
 * faults.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type BootId,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  type MonotonicMs,
  type NodeId,
  type Position,
  type UnixMs,
} from "../../../src/events/index.ts";
import {
  digestMismatch,
  type HeldLease,
  type LeaseRefusal,
  type Moment,
  type RegionalCopy,
  RegionalGranter,
} from "../../../src/replication/lease/index.ts";
import type { Renew } from "../../../src/replication/wire/index.ts";
import { created, history, revoked } from "../support.ts";
import { runRegion, type Weakening } from "./region-world.ts";

const log = history(20);
const at = (ms: number): Moment => ({ monotonic: ms as MonotonicMs, wall: (1_000_000 + ms) as UnixMs });
const onChain = (link: Link): boolean => link.hash === log.linkAt(link.position).hash;
const view = (ms: number) => ({ at: ms as MonotonicMs, onChain });

const lease: HeldLease = {
  ...{ epoch: 1 as Epoch, incarnation: "i" as Incarnation, start: 1 as Position },
  ...{ freshSinceMs: 1_000, deltaMs: 5_000, drift: 0.01, windowMs: 65_000 },
};
const copy: RegionalCopy = { lease, applied: log.linkAt(10), digest: "ten", version: "1", level: 1 };

function renewOf(parts: Partial<Renew> = {}): Renew {
  return {
    ...{
      node: "proxy-1" as NodeId,
      boot: "boot-1" as BootId,
      nonce: 1,
      region: "west",
      role: "proxy",
      version: "1",
      reads: 1,
    },
    ...{ windowMs: 65_000, applied: log.linkAt(9), enforced: log.linkAt(9), digest: "nine", configHash: "c" },
    ...{ replaces: null, monotonicMs: 0 },
    ...parts,
  };
}
function granterWith(...renews: readonly Renew[]): RegionalGranter {
  const granter = new RegionalGranter();
  for (const renew of renews) granter.recordRenew(renew, view(4_000));
  return granter;
}
const reasonOf = (answer: ReturnType<RegionalGranter["grant"]>): string =>
  answer.type === "granted"
    ? "granted"
    : `${answer.type}: ${answer.type === "refused" ? answer.refusal.message : answer.reason}`;

test("a grant by age names the age of the broker's lease and everything that the broker has applied", () => {
  const renew = renewOf();
  const answer = granterWith(renew).grant(renew, copy, at(4_000));
  assert.ok(answer.type === "granted");
  const { ageMs, head, windowMs, nonce } = answer.grant;
  assert.deepEqual(
    { ageMs, head, windowMs, nonce },
    { ageMs: 3_000, head: log.linkAt(10), windowMs: 65_000, nonce: 1 },
  );
});

test("no node is granted a longer window than the broker's own", () => {
  const renew = renewOf({ windowMs: 600_000 });
  const answer = granterWith(renew).grant(renew, copy, at(4_000));
  assert.ok(answer.type === "granted");
  assert.equal(answer.grant.windowMs, 65_000);
});

test("a broker without a lease, or with one whose window is over, grants nothing", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  assert.match(reasonOf(granter.grant(renew, { ...copy, lease: null }, at(4_000))), /^unavailable/);
  assert.match(reasonOf(granter.grant(renew, copy, at(1_000 + 65_001))), /^unavailable/);
  assert.equal(granter.blockedUntil(log.linkAt(10), view(4_000)), null, "no lease by age holds the position back");
});

test("a boot that said goodbye, was replaced, or is refused by the leader is granted nothing", () => {
  const [renew, next] = [renewOf(), renewOf({ boot: "boot-2" as BootId, replaces: "boot-1" as BootId })];
  const left = granterWith(renew);
  left.recordGoodbye(renew);
  assert.match(reasonOf(left.grant(renew, copy, at(4_000))), /has left/);
  const replaced = granterWith(renew, next);
  assert.match(reasonOf(replaced.grant(renew, copy, at(4_000))), /has left/);
  assert.equal(reasonOf(replaced.grant(next, copy, at(4_000))), "granted");
  const later = renewOf({ nonce: 2 });
  replaced.recordRenew(later, { at: 4_100 as MonotonicMs, onChain: () => true });
  assert.equal(reasonOf(replaced.grant(later, copy, at(4_100))), "granted", "its renewal shows that it is alive");
  const refused = granterWith(renew);
  refused.recordLeaderAnswer(renew, { refused: { code: "clock-drift", message: "its clock" } }, 4_000 as MonotonicMs);
  assert.match(reasonOf(refused.grant(renewOf({ nonce: 2 }), copy, at(4_000))), /its clock/);
});

test("a renewal is granted once; a differing projection and a build that cannot read the level are refused", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  assert.equal(reasonOf(granter.grant(renew, copy, at(4_000))), "granted");
  assert.match(reasonOf(granter.grant(renew, copy, at(4_100))), /repeated/);
  const other = renewOf({ nonce: 2, applied: log.linkAt(10), digest: "not ten" });
  assert.match(reasonOf(granter.grant(other, copy, at(4_200))), /differs/);
  const old = renewOf({ nonce: 3 });
  assert.match(reasonOf(granter.grant(old, { ...copy, level: 2 }, at(4_300))), /finalized level 2/);
});

test("the broker does not confirm a change until every node with a lease by age enforces it or is fenced", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  const change = log.linkAt(10);
  assert.equal(granter.blockedUntil(change, view(4_000)), null);
  granter.grant(renew, copy, at(4_000));
  const until = granter.blockedUntil(change, view(4_000));
  assert.equal(until, 1_000 + (65_000 * 1.01) / 0.99 + 50, "the broker's own anchor, and W");
  assert.equal(granter.blockedUntil(change, view(until)), null);
  const { node, boot } = renew;
  granter.recordConfirm({ node, boot, nonce: 2, enforced: { ...change, hash: log.linkAt(11).hash } }, view(5_000));
  assert.notEqual(granter.blockedUntil(change, view(5_000)), null, "a link on another chain");
  granter.recordConfirm({ node, boot, nonce: 3, enforced: change }, view(5_000));
  assert.equal(granter.blockedUntil(change, view(5_000)), null);
});

test("a node that reads faster than its broker holds nothing back once the broker has read as far", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  granter.grant(renew, copy, at(4_000));
  const { node, boot } = renew;
  const ahead = log.linkAt(11);
  const readTo = (position: number, ms: number) => ({
    ...view(ms),
    onChain: (link: Link) => link.position <= position,
  });
  granter.recordConfirm({ node, boot, nonce: 2, enforced: ahead }, readTo(10, 4_100));
  assert.notEqual(granter.blockedUntil(log.linkAt(10), readTo(10, 4_100)), null, "it may be of another chain");
  assert.equal(granter.statuses(readTo(10, 4_100))[0]?.enforced, null);
  assert.equal(granter.blockedUntil(ahead, readTo(11, 4_200)), null);
  assert.deepEqual(granter.statuses(readTo(11, 4_200))[0]?.enforced, ahead);
  granter.recordConfirm({ node, boot, nonce: 3, enforced: genesis }, view(4_300));
  assert.notEqual(granter.blockedUntil(ahead, view(4_300)), null, "it has begun to rebuild");
});

test("a node whose projection differs holds back a change, whatever it confirms, until it shows an equal projection", () => {
  const [change, nine] = [log.linkAt(10), log.linkAt(9)];
  const mismatches: readonly ((granter: RegionalGranter, renew: Renew) => void)[] = [
    (granter, renew) => assert.match(reasonOf(granter.grant(renew, copy, at(4_100))), /differs/),
    (granter, renew) => granter.recordLeaderAnswer(renew, { refused: digestMismatch }, 4_100 as MonotonicMs),
  ];
  for (const report of mismatches) {
    const renew = renewOf({ applied: nine, enforced: nine, digest: "nine" });
    const granter = granterWith(renew);
    granter.grant(renew, copy, at(4_000));
    const isHeldBack = () => granter.blockedUntil(change, view(4_500)) !== null;
    const differing = renewOf({ nonce: 2, applied: change, enforced: change, digest: "not ten" });
    granter.recordRenew(differing, view(4_100));
    report(granter, differing);
    assert.ok(isHeldBack(), "its lease by age is not over");
    const { node, boot } = renew;
    granter.recordConfirm({ node, boot, nonce: 3, enforced: change }, view(4_200));
    assert.ok(isHeldBack());
    const rebuilt = renewOf({ nonce: 4, applied: change, enforced: change, digest: "ten" });
    granter.recordRenew(rebuilt, view(4_300));
    assert.equal(reasonOf(granter.grant(rebuilt, copy, at(4_300))), "granted");
    granter.recordConfirm({ node, boot, nonce: 5, enforced: change }, view(4_400));
    assert.ok(!isHeldBack());
  }
});

test("what a node enforced on a chain that the broker has left does not count on the broker's new chain", () => {
  const renew = renewOf({ applied: log.linkAt(10), enforced: log.linkAt(10), digest: "ten" });
  const granter = granterWith(renew);
  assert.equal(reasonOf(granter.grant(renew, copy, at(4_000))), "granted");
  assert.equal(granter.blockedUntil(log.linkAt(10), view(4_000)), null);
  // The suffix after 5 is lost, and the surviving log has a revocation at 8. This node's lease by age continues without
  // it.
  const survived = log.fork(5).open(2).add(created(90)).add(revoked(1));
  const revocation = survived.head;
  assert.equal(revocation.position, 8);
  granter.forgetEnforced();
  assert.notEqual(granter.blockedUntil(revocation, view(4_100)), null, "the node permits what is revoked there");
  const here = { at: 4_200 as MonotonicMs, onChain: (link: Link) => link.hash === survived.linkAt(link.position).hash };
  granter.recordRenew(renewOf({ ...renew, nonce: 2 }), here);
  assert.notEqual(granter.blockedUntil(revocation, here), null, "the node still confirms the old chain");
  granter.recordRenew(renewOf({ nonce: 3, applied: revocation, enforced: revocation }), here);
  assert.equal(granter.blockedUntil(revocation, here), null);
});

test("only a node's newest message counts: a late one from before it moved to another chain confirms nothing", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  granter.grant(renew, copy, at(4_000));
  const { node, boot } = renew;
  const change = log.linkAt(10);
  const foreign = { ...log.linkAt(12), hash: log.linkAt(11).hash };
  granter.recordConfirm({ node, boot, nonce: 5, enforced: foreign }, view(4_100));
  granter.recordConfirm({ node, boot, nonce: 4, enforced: change }, view(4_200));
  assert.notEqual(granter.blockedUntil(change, view(4_200)), null, "sent before it moved to another chain");
  granter.recordConfirm({ node, boot, nonce: 6, enforced: change }, view(4_300));
  assert.equal(granter.blockedUntil(change, view(4_300)), null, "it is back on this chain");
  granter.recordRenew(renewOf({ nonce: 7, enforced: foreign }), view(4_400));
  assert.notEqual(granter.blockedUntil(change, view(4_400)), null, "and on another chain again");
});

test("an overloaded leader's refusal does not stop grants by age, nor does a digest mismatch after a rebuild", () => {
  const granter = granterWith(renewOf());
  const refused = (refusal: LeaseRefusal) =>
    granter.recordLeaderAnswer(renewOf(), { refused: refusal }, 4_000 as MonotonicMs);
  refused({ code: "too-many", message: "too many renews are waiting" });
  assert.equal(reasonOf(granter.grant(renewOf(), copy, at(4_000))), "granted");
  refused(digestMismatch);
  assert.match(
    reasonOf(granter.grant(renewOf({ nonce: 2 }), copy, at(4_100))),
    /differs/,
    "at another link nothing shows that it was rebuilt",
  );
  const rebuilt = { applied: log.linkAt(10), enforced: log.linkAt(10), digest: "ten" };
  assert.equal(reasonOf(granter.grant(renewOf({ nonce: 3, ...rebuilt }), copy, at(4_200))), "granted");
});

const seeds = 150;

test(`in ${seeds} seeded worlds no node permits after a complete receipt, and cut-off nodes keep serving`, (t) => {
  const sum = { byAge: 0, complete: 0, served: 0, checks: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    const { violations, ...counts } = runRegion(seed);
    assert.deepEqual(violations, [], `runRegion(${seed})`);
    for (const key of ["byAge", "complete", "served", "checks"] as const) sum[key] += counts[key];
  }
  t.diagnostic(
    `${sum.byAge} grants by age, ${sum.complete} complete receipts, ${Math.round((100 * sum.served) / sum.checks)} % of checks on a serving node`,
  );
  assert.ok(sum.byAge > 1_000 && sum.complete > 1_000);
  assert.ok(sum.served > sum.checks / 2, "a region that serves no request would be safe but useless");
});

const weakenings: readonly Weakening[] = [
  "head of the lease",
  "no node is waited for",
  "age forgotten",
  "a restart replaces",
  "longer window",
];
for (const weakening of weakenings) {
  test(`the same worlds notice when a rule is removed: ${weakening}`, (t) => {
    let found: number | undefined;
    for (let seed = 1; seed <= 600 && found === undefined; seed++)
      if (runRegion(seed, weakening).violations.length > 0) found = seed;
    t.diagnostic(`found with seed ${found}`);
    assert.ok(found !== undefined);
  });
}

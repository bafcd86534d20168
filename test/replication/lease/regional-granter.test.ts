/** Leases by age: each rule by itself, and all of them together in a world that is late. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  BootId,
  Epoch,
  Incarnation,
  Link,
  MonotonicMs,
  NodeId,
  Position,
  UnixMs,
} from "../../../src/events/index.ts";
import {
  digestMismatch,
  type HeldLease,
  type LeaseRefusal,
  type Moment,
  type RegionalCopy,
  RegionalGranter,
  type Renew,
} from "../../../src/replication/index.ts";
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

test("a grant by age says how old the broker's lease is, and names all that the broker has applied", () => {
  const renew = renewOf();
  const answer = granterWith(renew).grant(renew, copy, at(4_000));
  assert.ok(answer.type === "granted");
  const { ageMs, head, windowMs, nonce } = answer.grant;
  assert.deepEqual(
    { ageMs, head, windowMs, nonce },
    { ageMs: 3_000, head: log.linkAt(10), windowMs: 65_000, nonce: 1 },
  );
});

test("no node is granted a longer window than the broker has itself", () => {
  const renew = renewOf({ windowMs: 600_000 });
  const answer = granterWith(renew).grant(renew, copy, at(4_000));
  assert.ok(answer.type === "granted");
  assert.equal(answer.grant.windowMs, 65_000);
});

test("nothing is granted without a lease, or when its window is over", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  assert.match(reasonOf(granter.grant(renew, { ...copy, lease: null }, at(4_000))), /^unavailable/);
  assert.match(reasonOf(granter.grant(renew, copy, at(1_000 + 65_001))), /^unavailable/);
  assert.equal(granter.blockedUntil(log.linkAt(10), 4_000 as MonotonicMs), null, "nobody waits for it");
});

test("a boot that left, that was replaced, or that the leader refuses is granted nothing", () => {
  const [renew, next] = [renewOf(), renewOf({ boot: "boot-2" as BootId, replaces: "boot-1" as BootId })];
  const left = granterWith(renew);
  left.recordGoodbye(renew);
  assert.match(reasonOf(left.grant(renew, copy, at(4_000))), /has left/);
  const replaced = granterWith(renew, next);
  assert.match(reasonOf(replaced.grant(renew, copy, at(4_000))), /has left/);
  assert.equal(reasonOf(replaced.grant(next, copy, at(4_000))), "granted");
  const speaks = renewOf({ nonce: 2 });
  replaced.recordRenew(speaks, { at: 4_100 as MonotonicMs, onChain: () => true });
  assert.equal(reasonOf(replaced.grant(speaks, copy, at(4_100))), "granted", "it is alive, as the renew shows");
  const refused = granterWith(renew);
  refused.recordLeaderAnswer(renew, { refused: { code: "clock-drift", message: "its clock" } }, 4_000 as MonotonicMs);
  assert.match(reasonOf(refused.grant(renewOf({ nonce: 2 }), copy, at(4_000))), /its clock/);
});

test("a renew is granted once; a projection that differs at the same place is refused, and a build that cannot read the level", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  assert.equal(reasonOf(granter.grant(renew, copy, at(4_000))), "granted");
  assert.match(reasonOf(granter.grant(renew, copy, at(4_100))), /repeated/);
  const other = renewOf({ nonce: 2, applied: log.linkAt(10), digest: "not ten" });
  assert.match(reasonOf(granter.grant(other, copy, at(4_200))), /differs/);
  const old = renewOf({ nonce: 3 });
  assert.match(reasonOf(granter.grant(old, { ...copy, level: 2 }, at(4_300))), /finalized level 2/);
});

test("a change is held back until every node with a lease by age enforces it, or its lease is over for certain", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  const change = log.linkAt(10);
  assert.equal(granter.blockedUntil(change, 4_000 as MonotonicMs), null);
  granter.grant(renew, copy, at(4_000));
  const until = granter.blockedUntil(change, 4_000 as MonotonicMs);
  assert.equal(until, 1_000 + (65_000 * 1.01) / 0.99 + 50, "the broker's own anchor, and W");
  assert.equal(granter.blockedUntil(change, until as MonotonicMs), null);
  const { node, boot } = renew;
  granter.recordConfirm({ node, boot, nonce: 2, enforced: { ...change, hash: log.linkAt(11).hash } }, view(5_000));
  assert.notEqual(granter.blockedUntil(change, 5_000 as MonotonicMs), null, "of another history");
  granter.recordConfirm({ node, boot, nonce: 3, enforced: change }, view(5_000));
  assert.equal(granter.blockedUntil(change, 5_000 as MonotonicMs), null);
});

test("a change is held back for a node whose projection was found to be another, whatever it says, until it shows ours", () => {
  const [change, nine] = [log.linkAt(10), log.linkAt(9)];
  const finders: readonly ((granter: RegionalGranter, renew: Renew) => void)[] = [
    (granter, renew) => assert.match(reasonOf(granter.grant(renew, copy, at(4_100))), /differs/),
    (granter, renew) => granter.recordLeaderAnswer(renew, { refused: digestMismatch }, 4_100 as MonotonicMs),
  ];
  for (const find of finders) {
    const renew = renewOf({ applied: nine, enforced: nine, digest: "nine" });
    const granter = granterWith(renew);
    granter.grant(renew, copy, at(4_000));
    const held = () => granter.blockedUntil(change, 4_500 as MonotonicMs) !== null;
    const bent = renewOf({ nonce: 2, applied: change, enforced: change, digest: "not ten" });
    granter.recordRenew(bent, view(4_100));
    find(granter, bent);
    assert.ok(held(), "its lease by age is not over");
    const { node, boot } = renew;
    granter.recordConfirm({ node, boot, nonce: 3, enforced: change }, view(4_200));
    assert.ok(held());
    const built = renewOf({ nonce: 4, applied: change, enforced: change, digest: "ten" });
    granter.recordRenew(built, view(4_300));
    assert.equal(reasonOf(granter.grant(built, copy, at(4_300))), "granted");
    granter.recordConfirm({ node, boot, nonce: 5, enforced: change }, view(4_400));
    assert.ok(!held());
  }
});

test("what a node enforces of a history that the broker has left confirms nothing of the one it came to", () => {
  const renew = renewOf({ applied: log.linkAt(10), enforced: log.linkAt(10), digest: "ten" });
  const granter = granterWith(renew);
  assert.equal(reasonOf(granter.grant(renew, copy, at(4_000))), "granted");
  assert.equal(granter.blockedUntil(log.linkAt(10), 4_000 as MonotonicMs), null);
  // The suffix behind 5 was lost, and a revocation stands at 8 of what survived: this node's lease by age goes on
  // without it.
  const survived = log.fork(5).open(2).add(created(90)).add(revoked(1));
  const revocation = survived.head;
  assert.equal(revocation.position, 8);
  granter.forgetEnforced();
  assert.notEqual(granter.blockedUntil(revocation, 4_100 as MonotonicMs), null, "it permits what is revoked there");
  const here = { at: 4_200 as MonotonicMs, onChain: (link: Link) => link.hash === survived.linkAt(link.position).hash };
  granter.recordRenew(renewOf({ ...renew, nonce: 2 }), here);
  assert.notEqual(granter.blockedUntil(revocation, 4_200 as MonotonicMs), null, "it still says the old one");
  granter.recordRenew(renewOf({ nonce: 3, applied: revocation, enforced: revocation }), here);
  assert.equal(granter.blockedUntil(revocation, 4_200 as MonotonicMs), null);
});

test("only a node's newest word counts: a late one of before it went to another history confirms nothing", () => {
  const renew = renewOf();
  const granter = granterWith(renew);
  granter.grant(renew, copy, at(4_000));
  const { node, boot } = renew;
  const change = log.linkAt(10);
  const foreign = { ...log.linkAt(12), hash: log.linkAt(11).hash };
  granter.recordConfirm({ node, boot, nonce: 5, enforced: foreign }, view(4_100));
  granter.recordConfirm({ node, boot, nonce: 4, enforced: change }, view(4_200));
  assert.notEqual(granter.blockedUntil(change, 4_200 as MonotonicMs), null, "said before it left");
  granter.recordConfirm({ node, boot, nonce: 6, enforced: change }, view(4_300));
  assert.equal(granter.blockedUntil(change, 4_300 as MonotonicMs), null, "it is back");
  granter.recordRenew(renewOf({ nonce: 7, enforced: foreign }), view(4_400));
  assert.notEqual(granter.blockedUntil(change, 4_400 as MonotonicMs), null, "and gone again");
});

test("a leader with too much to do keeps nobody out of the region, nor does a projection that was built anew since", () => {
  const granter = granterWith(renewOf());
  const refused = (refusal: LeaseRefusal) =>
    granter.recordLeaderAnswer(renewOf(), { refused: refusal }, 4_000 as MonotonicMs);
  refused({ code: "too-many", message: "too many renews are waiting" });
  assert.equal(reasonOf(granter.grant(renewOf(), copy, at(4_000))), "granted");
  refused(digestMismatch);
  assert.match(reasonOf(granter.grant(renewOf({ nonce: 2 }), copy, at(4_100))), /differs/, "elsewhere it says nothing");
  const built = { applied: log.linkAt(10), enforced: log.linkAt(10), digest: "ten" };
  assert.equal(reasonOf(granter.grant(renewOf({ nonce: 3, ...built }), copy, at(4_200))), "granted");
});

const seeds = 150;

test(`in ${seeds} seeded worlds nobody permits after a complete receipt, and cut-off nodes serve`, (t) => {
  const sum = { byAge: 0, complete: 0, served: 0, looked: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    const { violations, ...seen } = runRegion(seed);
    assert.deepEqual(violations, [], `runRegion(${seed})`);
    for (const key of ["byAge", "complete", "served", "looked"] as const) sum[key] += seen[key];
  }
  t.diagnostic(
    `${sum.byAge} grants by age, ${sum.complete} complete receipts, ${Math.round((100 * sum.served) / sum.looked)} % of the time served`,
  );
  assert.ok(sum.byAge > 1_000 && sum.complete > 1_000);
  assert.ok(sum.served > sum.looked / 2, "a region that serves nobody would be safe, and useless");
});

const weakenings: readonly Weakening[] = [
  "head of the lease",
  "nobody is waited for",
  "age forgotten",
  "a restart replaces",
  "longer window",
];
for (const weakening of weakenings) {
  test(`the same worlds notice when a rule is taken away: ${weakening}`, (t) => {
    let found: number | undefined;
    for (let seed = 1; seed <= 600 && found === undefined; seed++)
      if (runRegion(seed, weakening).violations.length > 0) found = seed;
    t.diagnostic(`found with seed ${found}`);
    assert.ok(found !== undefined);
  });
}

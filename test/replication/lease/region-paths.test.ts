/**
 * The leader's side of rule 5 of ADR 0039 (a cut-off region revokes locally): a regional broker is the sole path of its
 * region's leases, or it may not revoke by itself.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BootId, Epoch, Incarnation, MonotonicMs, NodeId, Position, UnixMs } from "../../../src/events/index.ts";
import { fenceAfterMs, LeaseGranter, type RenewAnswer } from "../../../src/replication/lease/index.ts";
import type { Lessee } from "../../../src/replication/log/index.ts";
import type { Grant, Renew, SolePathClaim } from "../../../src/replication/wire/index.ts";
import { History } from "../support.ts";

const windowMs = 15_000;
const drift = 0.01;
const afterW = fenceAfterMs(windowMs, drift) + 1;
const head = new History().open(1).head;
const wants: SolePathClaim = { wanted: true, retained: false, grantedIn: null };
const has = (epoch: number): SolePathClaim => ({ ...wants, grantedIn: epoch as Epoch });

class Leader {
  now = 1_000_000;
  readonly #granter: LeaseGranter;
  readonly #nonces = new Map<string, number>();

  constructor(parts: Readonly<{ epoch?: number; lessees?: readonly Lessee[]; region?: string }> = {}) {
    this.#granter = new LeaseGranter({
      ...{ epoch: (parts.epoch ?? 1) as Epoch, incarnation: "i" as Incarnation, start: 1 as Position },
      ...{ openedAt: this.now as MonotonicMs, lessees: parts.lessees ?? [], deltaMs: 5_000, drift },
      ...{ windowMaxMs: 65_000, exclusive: false, region: parts.region ?? "east" },
    });
  }

  renew(node: string, parts: Partial<Renew> = {}, through: string | null = null): RenewAnswer {
    const nonce = (this.#nonces.get(node) ?? 0) + 1;
    this.#nonces.set(node, nonce);
    const renew: Renew = {
      ...{ node: node as NodeId, boot: `${node}-boot` as BootId, nonce, region: "west", role: "proxy", version: "1" },
      ...{ reads: 1, windowMs, applied: head, enforced: head, digest: "d", configHash: "c", replaces: null },
      ...{ monotonicMs: this.now, ...parts },
    };
    const view = { at: this.now as MonotonicMs, onChain: () => true, digest: "unknown", through } as const;
    return this.#granter.renew(renew, "remote", view);
  }

  broker(name: string, solePath: SolePathClaim | null): RenewAnswer {
    return this.renew(name, { role: "broker", ...(solePath === null ? {} : { solePath }) });
  }

  /** A beat commits. */
  commit(): readonly Grant[] {
    const at = { monotonic: this.now as MonotonicMs, wall: this.now as UnixMs };
    const round = this.#granter.beginWrite("beat", at.monotonic);
    return this.#granter.grantAfterCommit(round, head, at).map(({ grant }) => grant);
  }

  /** What the regional broker's next grant says. */
  granted(name: string, claim: SolePathClaim | null = wants): readonly string[] | undefined {
    assert.equal(this.broker(name, claim).type, "queued");
    const grant = this.commit().find(({ node }) => node === name);
    assert.ok(grant);
    return grant.solePath;
  }

  leave(node: string): void {
    this.#granter.goodbye({ node: node as NodeId, boot: `${node}-boot` as BootId, nonce: 1_000_000 });
  }
}

const codeOf = (answer: RenewAnswer): string => (answer.type === "refused" ? answer.refusal.code : answer.type);

test("while a broker has the sole path, a renew that comes past the region's brokers is refused, and one through them is not", () => {
  const leader = new Leader();
  assert.deepEqual(leader.granted("b1"), ["b1"]);
  assert.equal(codeOf(leader.renew("n1")), "past-region");
  assert.equal(codeOf(leader.renew("n1", {}, "b1")), "queued");
  assert.equal(codeOf(leader.renew("n2", {}, "b-not-known-yet")), "queued");
  assert.equal(codeOf(leader.renew("home-1", { region: "east" })), "queued", "the leader's own region");
  assert.equal(codeOf(leader.renew("south-1", { region: "south" })), "queued", "a region without brokers");
});

test("the renew that was refused counts when it comes through a broker of the region", () => {
  const leader = new Leader();
  leader.granted("b1");
  assert.equal(codeOf(leader.renew("n1", { nonce: 7 })), "past-region");
  assert.equal(codeOf(leader.renew("n1", { nonce: 7 }, "b1")), "queued");
});

test("a broker of another region is no path", () => {
  const leader = new Leader();
  leader.granted("b1");
  leader.renew("s1", { role: "broker", region: "south", solePath: wants });
  assert.equal(codeOf(leader.renew("n1", {}, "s1")), "past-region");
});

test("while a lease may count that came past them, the region's brokers are not the sole path", () => {
  const leader = new Leader();
  leader.renew("n1");
  leader.commit();
  assert.equal(leader.granted("b1"), undefined);
  assert.equal(codeOf(leader.renew("n1")), "queued", "so it keeps its leases");
  leader.commit();
  leader.now += afterW - 1_000;
  assert.equal(leader.granted("b1"), undefined);
  leader.now += 1_000;
  assert.deepEqual(leader.granted("b1"), ["b1"]);
});

test("a renew past the brokers and a grant to a broker in one commit do not both count", () => {
  const leader = new Leader();
  leader.broker("b1", wants);
  leader.renew("n1");
  const grants = leader.commit();
  assert.deepEqual(grants.map(({ node, solePath }) => [node, solePath]).sort(), [
    ["b1", undefined],
    ["n1", undefined],
  ]);
});

test("a refused node is granted once the brokers have given up the sole path, unless one retains a revocation", () => {
  const leader = new Leader();
  leader.granted("b1");
  assert.equal(codeOf(leader.renew("n1")), "past-region");
  assert.equal(leader.granted("b1", has(1)), undefined, "the node waits");
  assert.equal(codeOf(leader.renew("n1")), "past-region", "the broker may not have this grant yet");
  leader.broker("b1", { ...wants, retained: true });
  assert.equal(codeOf(leader.renew("n1")), "past-region", "the log lacks what it retains");
  leader.broker("b1", wants);
  assert.equal(codeOf(leader.renew("n1")), "queued");
  leader.commit();
  assert.equal(leader.granted("b1"), undefined);
});

test("a broker that is silent, and may have the sole path, holds for its window; one that left does not", () => {
  const leader = new Leader();
  leader.granted("b1");
  leader.now += afterW - 1_000;
  assert.equal(codeOf(leader.renew("n1")), "past-region");
  leader.now += 1_000;
  assert.equal(codeOf(leader.renew("n1")), "queued", "all brokers of the region are lost");

  const other = new Leader();
  other.granted("b1");
  other.leave("b1");
  assert.equal(codeOf(other.renew("n1")), "queued");
});

test("a broker of an older build, or one that cannot revoke by itself, holds no one up and gets no sole path", () => {
  for (const claim of [null, { ...wants, wanted: false }]) {
    const leader = new Leader();
    assert.equal(leader.granted("b1", claim), undefined);
    assert.equal(codeOf(leader.renew("n1")), "queued");
  }
});

test("the grant names each broker of the region whose lease may count", () => {
  const leader = new Leader();
  leader.granted("b2", null);
  assert.deepEqual(leader.granted("b1"), ["b1", "b2"]);
});

const row = (node: string, role: Lessee["role"]): Lessee => ({
  ...{ node: node as NodeId, boot: `${node}-boot` as BootId, region: "west", role, windowMs },
});

test("a new leader counts earlier leases as past the brokers, unless a broker kept the sole path from the epoch before", () => {
  const lessees = [row("b1", "broker"), row("n1", "proxy")];
  const unproven = new Leader({ epoch: 2, lessees });
  assert.equal(unproven.granted("b1"), undefined);
  unproven.now += afterW;
  assert.deepEqual(unproven.granted("b1"), ["b1"]);

  const kept = new Leader({ epoch: 2, lessees });
  assert.deepEqual(kept.granted("b1", has(1)), ["b1"]);
  const older = new Leader({ epoch: 3, lessees });
  assert.equal(older.granted("b1", has(1)), undefined, "the leader in between may have granted past it");
});

test("a new leader treats a broker that it has not heard of as one with the sole path", () => {
  const leader = new Leader({ epoch: 2, lessees: [row("b1", "broker")] });
  assert.equal(codeOf(leader.renew("n1")), "past-region");
  leader.broker("b1", null);
  assert.equal(codeOf(leader.renew("n1")), "queued");
  const silent = new Leader({ epoch: 2, lessees: [row("b1", "broker")] });
  silent.now += afterW;
  assert.equal(codeOf(silent.renew("n1")), "queued");
});

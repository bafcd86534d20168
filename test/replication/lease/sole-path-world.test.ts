/**
 * The sole path under delays, losses, cuts and changes of leader, with random seeds: a regional broker that may revoke
 * by itself, and a node of its region that renews past it (ADR 0039: a cut-off region revokes locally, rule 5).
 *
 * The granter and the broker's node core are the product's own; the network and the node are models.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BootId, Epoch, MonotonicMs, NodeId } from "../../../src/events/index.ts";
import { fenceAfterMs, LeaseGranter } from "../../../src/replication/lease/index.ts";
import type { Lessee } from "../../../src/replication/log/index.ts";
import type { Grant, Renew } from "../../../src/replication/wire/index.ts";
import { DrivenNode } from "../node/driven-node.ts";
import { History } from "../support.ts";

const stepMs = 50;
const windowMs = 3_000;
const drift = 0.01;
const wMs = fenceAfterMs(windowMs, drift);

/** Numbers from 0 to 1, the same for the same seed. */
function randomOf(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 3_266_489_917) >>> 0;
    return state / 2 ** 32;
  };
}

type Due = Readonly<{ at: number; act: () => void }>;
type Seen = { able: number; past: number; refused: number; retained: number; leaders: number };

class World {
  readonly seen: Seen = { able: 0, past: 0, refused: 0, retained: 0, leaders: 0 };
  readonly #random: () => number;
  readonly #log = new History().open(1);
  readonly #claim = { wanted: true, retained: false };
  readonly #broker: DrivenNode;
  readonly #rows = new Map<string, Lessee>();
  #leader: LeaseGranter;
  #due: Due[] = [];
  #sentRenews = new Set<number>();
  #sentBy = new Map<number, number>();
  /** The node that renews past the brokers: its newest nonce, and until when its lease counts. */
  #nonce = 0;
  #pastUntil = Number.NEGATIVE_INFINITY;
  #passing = false;
  #cut = false;
  /** When the leader last heard the broker. */
  #heardAt = 0;

  constructor(seed: number) {
    this.#random = randomOf(seed);
    this.#broker = new DrivenNode({
      ...{ node: "b1" as NodeId, boot: "b1-boot" as BootId, role: "broker", region: "west", windowMs },
      solePath: () => this.#claim,
    });
    this.#leader = this.#newLeader();
    this.#broker.start().noSnapshot().read(this.#log);
  }

  get now(): number {
    return this.#broker.now;
  }
  get able(): boolean {
    return (this.#broker.core.heldLease(this.#broker.moment)?.solePath ?? null) !== null;
  }
  get nodeHasLease(): boolean {
    return this.#pastUntil > this.now;
  }

  run(ms: number, faults: "any" | "none", passing: boolean | "any" = "any"): void {
    for (const until = this.now + ms; this.now < until; ) {
      if (faults === "none") this.#cut = false;
      else this.#stumble();
      if (passing !== "any") this.#passing = passing;
      this.#step();
      this.#check();
    }
  }

  #chance(p: number): boolean {
    return this.#random() < p;
  }

  #stumble(): void {
    if (this.#chance(0.004)) this.#cut = !this.#cut;
    if (this.#chance(0.004)) this.#passing = !this.#passing;
    if (this.#chance(0.003)) this.#changeLeader();
    if (this.#chance(0.003)) this.#claim.wanted = !this.#claim.wanted;
    if (this.able && this.#chance(0.02)) this.#claim.retained = true;
    if (this.#claim.retained && !this.#cut && this.#chance(0.02)) this.#claim.retained = false; // merged
  }

  #newLeader(): LeaseGranter {
    this.seen.leaders += 1;
    return new LeaseGranter({
      ...{ epoch: this.#log.head.epoch as Epoch, incarnation: this.#log.incarnation, start: this.#log.start },
      ...{ openedAt: this.now as MonotonicMs, lessees: [...this.#rows.values()], deltaMs: 1_000, drift },
      ...{ windowMaxMs: 65_000, exclusive: false, region: "east" },
    });
  }

  #changeLeader(): void {
    const before = this.#log.entries.length;
    this.#log.open(this.#log.head.epoch + 1);
    this.#leader = this.#newLeader();
    this.#broker.deliver(this.#log, before);
  }

  /** Messages are delayed, lost, and overtake each other. */
  #send(act: () => void): void {
    if (this.#chance(0.05)) return;
    this.#due.push({ at: this.now + this.#random() * (this.#chance(0.1) ? 2_500 : 250), act });
  }

  #step(): void {
    this.#broker.pass(stepMs);
    for (const effect of this.#broker.all("sendLease")) {
      if (effect.message.type !== "renew" || this.#sentRenews.has(effect.id)) continue;
      this.#sentRenews.add(effect.id);
      const { renew } = effect.message;
      this.#sentBy.set(renew.nonce, effect.id);
      if (!this.#cut) this.#send(() => this.#arrive(renew));
    }
    if (this.#passing && this.now % 500 === 0) {
      this.#nonce += 1;
      const renew = this.#renewOfNode(this.#nonce);
      this.#send(() => this.#arrive(renew));
    }
    const due = this.#due.filter(({ at }) => at <= this.now);
    this.#due = this.#due.filter(({ at }) => at > this.now);
    for (const { act } of due) act();
    if (this.now % 200 === 0) this.#commit();
  }

  #renewOfNode(nonce: number): Renew {
    const { head } = this.#log;
    return {
      ...{ node: "n1" as NodeId, boot: "n1-boot" as BootId, nonce, region: "west", role: "proxy", version: "1" },
      ...{ reads: 1, windowMs, applied: head, enforced: head, digest: "d", configHash: "c", replaces: null },
      monotonicMs: this.now,
    };
  }

  #arrive(renew: Renew): void {
    const view = { at: this.now as MonotonicMs, onChain: () => true, digest: "unknown", through: null } as const;
    const answer = this.#leader.renew(renew, "remote", view);
    if (renew.role === "broker" && answer.type === "queued") this.#heardAt = this.now;
    if (answer.type === "refused" && answer.refusal.code === "past-region") this.seen.refused += 1;
  }

  #commit(): void {
    const at = { monotonic: this.now as MonotonicMs, wall: this.#broker.moment.wall };
    const round = this.#leader.beginWrite("beat", at.monotonic);
    for (const row of round.lessees) this.#rows.set(row.boot, row);
    for (const { grant } of this.#leader.grantAfterCommit(round, this.#log.head, at)) {
      if (grant.node === "n1") this.#grantNode(grant);
      else if (!this.#cut) this.#send(() => this.#grantBroker(grant));
    }
  }

  /** The worst node: its lease counts for as long as the leader allows for. */
  #grantNode(grant: Grant): void {
    this.seen.past += 1;
    // Beyond that, docs/protocol.md §1.4 says what can happen.
    const isKnown = this.now - this.#heardAt < wMs;
    assert.ok(!(this.#claim.retained && isKnown), `at ${this.now} a lease past the broker lacks what it retains`);
    this.#pastUntil = Math.max(this.#pastUntil, this.now + grant.windowMs);
  }

  #grantBroker(grant: Grant): void {
    const id = this.#sentBy.get(grant.nonce);
    if (id === undefined || this.#cut) return;
    this.#broker.feed({ type: "leaseAnswered", id, answer: { type: "grant", grant } });
  }

  #check(): void {
    if (this.able) this.seen.able += 1;
    if (this.#claim.retained) this.seen.retained += 1;
    const both = this.able && this.nodeHasLease;
    assert.ok(!both, `at ${this.now} the broker may revoke by itself, and a lease past it counts`);
  }

  settle(): void {
    Object.assign(this.#claim, { wanted: true, retained: false });
  }
}

test("a broker may revoke by itself, or retains a revocation, only while no lease past it counts", () => {
  const total: Seen = { able: 0, past: 0, refused: 0, retained: 0, leaders: 0 };
  for (let seed = 1; seed <= 60; seed++) {
    const world = new World(seed);
    try {
      world.run(60_000, "any");
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    for (const key of Object.keys(total) as (keyof Seen)[]) total[key] += world.seen[key];
  }
  for (const [what, times] of Object.entries(total)) assert.ok(times > 50, `${what} happened ${times} times`);
});

test("after the last fault, a node that renews past the broker gets leases; without one the broker may revoke again", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const world = new World(seed);
    world.run(20_000, "any");
    world.settle();
    for (const [what, passing] of [
      ["past", true],
      ["able", false],
    ] as const) {
      world.run(2 * wMs + 12_000, "none", passing);
      const before = world.seen[what];
      world.run(windowMs, "none", passing);
      assert.ok(world.seen[what] > before, `seed ${seed}: ${what}`);
    }
  }
});

/**
 * Driven node: a node core under a clock that the test moves.
 *
 * - Effects are recorded until the test answers them.
 * - Changes are enforced at once, unless `enforcing` is false.
 */
import assert from "node:assert/strict";
import type { BootId, Link, MonotonicMs, UnixMs } from "../../../src/events/index.ts";
import type { Moment } from "../../../src/replication/lease/index.ts";
import type { DenialsOnDisk } from "../../../src/replication/node/denials/persisted-denials.ts";
import {
  createPersonKeys,
  type FanoutState,
  type LoadedSnapshot,
  type NodeCore,
  type NodeCoreOptions,
  type NodeEffect,
  type NodeInput,
  newNodeCore,
  stepNode,
} from "../../../src/replication/node/index.ts";
import type { Grant, Renew } from "../../../src/replication/wire/index.ts";
import { aBoot, aNode, type History, secret } from "../support.ts";

type EffectOf<Type extends NodeEffect["type"]> = Extract<NodeEffect, { type: Type }>;
type WithoutMoment<Input> = Input extends NodeInput ? Omit<Input, "at"> : never;

/** Pseudorandom bytes: the same for the same seed. */
export function seeded(seed: number): (size: number) => Uint8Array {
  let state = seed >>> 0;
  return (size) =>
    Uint8Array.from({ length: size }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state >>> 24;
    });
}

export class DrivenNode {
  core: NodeCore;
  now = 0;
  /** Difference (ms) between the wall clock and the monotonic clock. */
  wallOffset = 1_000_000;
  /** Whether a change is reported to the core as enforced at once. */
  enforcing = true;
  readonly effects: NodeEffect[] = [];
  #wakeAt = Number.POSITIVE_INFINITY;
  #seen = 0;

  constructor(parts: Partial<NodeCoreOptions> = {}) {
    this.core = newNodeCore({
      node: aNode,
      boot: aBoot,
      role: "proxy",
      region: "here",
      version: "1",
      replaces: null,
      windowMs: 65_000,
      configHash: "config-1",
      keys: createPersonKeys([secret]),
      random: seeded(1),
      at: this.moment,
      ...parts,
    });
  }

  get moment(): Moment {
    return { monotonic: this.now as MonotonicMs, wall: (this.now + this.wallOffset) as UnixMs };
  }
  get overdue(): number {
    return this.core.overdueMs(this.moment);
  }
  get reasons(): string {
    return this.core.reasons(this.moment).join("; ");
  }

  feed(input: WithoutMoment<NodeInput>): this {
    const [core, effects] = stepNode(this.core, { ...input, at: this.moment } as NodeInput);
    this.core = core;
    for (const effect of effects) {
      this.effects.push(effect);
      if (effect.type === "wake") this.#wakeAt = effect.at;
    }
    for (const effect of effects)
      if (effect.type === "changed" && this.enforcing) this.feed({ type: "changeEnforced", id: effect.id });
    return this;
  }

  start(options: Partial<{ snapshot: LoadedSnapshot; kept: DenialsOnDisk; fanout: FanoutState }> = {}): this {
    const { snapshot = null, kept = { retained: [], denials: [] }, fanout = "up" } = options;
    return this.feed({ type: "started", snapshot, denials: kept, fanout });
  }

  /** Moves time forward; every wake-up runs on time. */
  pass(ms: number): this {
    const until = this.now + ms;
    while (this.#wakeAt <= until) {
      this.now = Math.max(this.now, this.#wakeAt);
      this.#wakeAt = Number.POSITIVE_INFINITY;
      this.feed({ type: "woke" });
    }
    this.now = until;
    return this;
  }

  /** Moves time forward while the process does not run. */
  sleep(ms: number): this {
    this.now += ms;
    return this;
  }

  all<Type extends NodeEffect["type"]>(type: Type): EffectOf<Type>[] {
    return this.effects.filter((effect): effect is EffectOf<Type> => effect.type === type);
  }

  last<Type extends NodeEffect["type"]>(type: Type): EffectOf<Type> {
    const effect = this.all(type).at(-1);
    assert.ok(effect, `the node has not requested ${type}`);
    return effect;
  }

  /** Effects since the last call. */
  news(): NodeEffect[] {
    const fresh = this.effects.slice(this.#seen);
    this.#seen = this.effects.length;
    return fresh;
  }

  get lastRenew(): Readonly<{ id: number; renew: Renew }> {
    for (const effect of this.effects.toReversed())
      if (effect.type === "sendLease" && effect.message.type === "renew")
        return { id: effect.id, renew: effect.message.renew };
    return assert.fail("no renewal was sent");
  }

  /** Moves time forward until the node sends the next renewal. */
  renew(): this {
    const before = this.lastRenew.id;
    for (let waited = 0; this.lastRenew.id === before && waited < 3_000; waited += 10) this.pass(10);
    return this;
  }

  /** Answers the last read from a history. */
  read(log: History, limit = 2_000): this {
    const { id, after } = this.last("read");
    const outcome = log.read(after, limit);
    if (outcome.type !== "page") return this.feed({ type: "readAnswered", id, answer: outcome });
    const { previous, last, head } = outcome.page;
    const page = { previous, last, events: log.recorded(previous.position, last.position) };
    return this.feed({ type: "readAnswered", id, answer: { type: "page", page, head, keys: [] } });
  }

  /** Grants the newest renewal as the leader of a history. */
  grant(log: History, parts: Partial<Grant> = {}): this {
    const { id, renew } = this.lastRenew;
    const grant: Grant = {
      node: renew.node,
      boot: renew.boot,
      nonce: renew.nonce,
      epoch: log.head.epoch,
      incarnation: log.incarnation,
      start: log.start,
      head: log.head,
      deltaMs: 5_000,
      drift: 0.01,
      windowMs: 65_000,
      wallMs: this.moment.wall,
      ...parts,
    };
    return this.feed({ type: "leaseAnswered", id, answer: { type: "grant", grant } });
  }

  deliver(log: History, after: number, upTo = log.entries.length): this {
    const { epoch, previous, events, last } = log.range(after, upTo);
    return this.feed({ type: "delivered", delivery: { epoch, previous, events, last, keys: [] } });
  }

  noSnapshot(): this {
    return this.feed({ type: "snapshotFailed", id: this.last("loadSnapshot").id, reason: "none" });
  }

  /** Starts the node and brings it to the head of a history, with a fresh lease. */
  serve(log: History, fanout: FanoutState = "up"): this {
    this.start({ fanout }).noSnapshot().read(log).grant(log);
    assert.ok(this.overdue <= 0, this.reasons);
    return this;
  }
}

export const bootOf = (n: number): BootId => `boot-${n}` as BootId;

export function sameLinks(a: Link, b: Link): boolean {
  return a.hash === b.hash;
}

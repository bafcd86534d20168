/**
 * Local region: the cores of several regional brokers with disks, links between them and a home region, all under the
 * control of a test. Time is one clock; nothing happens by itself.
 */
import assert from "node:assert/strict";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import { RegionCopy } from "../../../src/broker/index.ts";
import type {
  LocalAnswer,
  LocalReceiptAnswer,
  LocalRequest,
  PeerAnswer,
} from "../../../src/broker/region/local-messages.ts";
import { newRegionCore, type RegionCore, step } from "../../../src/broker/region/region-core.ts";
import type { HomeAnswer, NodeAnswer, RegionEffect, RegionFact } from "../../../src/broker/region/region-messages.ts";
import type { StoredRevocations } from "../../../src/broker/region/revocation-store.ts";
import {
  type BootId,
  type CommandId,
  type Epoch,
  type Incarnation,
  type Link,
  type MonotonicMs,
  type NodeId,
  type Position,
  Projection,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { HeldLease } from "../../../src/replication/lease/index.ts";
import {
  createBrokerOpener,
  encodeRevocation,
  openRevocation,
  type Renew,
  type SealedRevocation,
  type StorePosition,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { cluster, type History, newSigner, secret } from "../../replication/support.ts";

export const windowMs = 15_000;
const open = createBrokerOpener({ cluster, secrets: [secret] });
const addressOf = (name: string): string => `https://${name}:5443`;

type EffectOf<Type extends RegionEffect["type"]> = Extract<RegionEffect, { type: Type }>;

export class LocalRegion {
  now = 100_000;
  readonly log: History;
  readonly brokers = new Map<string, LocalBroker>();
  /** The names of brokers that cannot be reached by the others. */
  readonly cut = new Set<string>();
  readonly names: readonly string[];

  constructor(log: History, names: readonly string[] = ["b1", "b2"]) {
    this.log = log;
    this.names = names;
    for (const name of names) this.start(name);
    for (const broker of this.brokers.values()) broker.feed({ type: "woke" });
  }

  /** Starts a broker, or starts it again on its disk. It must not have a lease yet: a new boot holds none. */
  start(name: string): LocalBroker {
    const before = this.brokers.get(name);
    const broker = new LocalBroker(this, name, (before?.boots ?? 0) + 1, before?.disk ?? null);
    this.brokers.set(name, broker);
    return broker;
  }

  broker(name: string): LocalBroker {
    const broker = this.brokers.get(name);
    assert.ok(broker);
    return broker;
  }

  pass(ms: number, step = 250): void {
    for (let passed = 0; passed < ms; passed += step) {
      this.now += Math.min(step, ms - passed);
      for (const broker of this.brokers.values()) if (!broker.dead) broker.feed({ type: "woke" });
    }
  }
}

export class LocalBroker {
  readonly name: string;
  readonly boots: number;
  readonly boot: BootId;
  readonly effects: RegionEffect[] = [];
  readonly projection = new Projection();
  disk: StoredRevocations | null;
  /** Whether the disk stores what it is given. */
  writes = true;
  /** While true, writes are neither done nor refused. */
  holdsWrites = false;
  dead = false;
  /** What it says to the other brokers in place of its own name and boot. */
  alias: Partial<Pick<PeerAnswer, "broker" | "boot">> = {};
  lease: HeldLease | null;
  applied: Link;
  readonly #region: LocalRegion;
  readonly #copy = new RegionCopy(new SimCopyStore());
  #core: RegionCore;
  #ids = 0;
  #held: EffectOf<"keepRevocations">[] = [];

  constructor(region: LocalRegion, name: string, boots: number, disk: StoredRevocations | null) {
    this.#region = region;
    this.name = name;
    this.boots = boots;
    this.boot = `${name}-boot-${boots}` as BootId;
    this.disk = disk ?? {
      store: Buffer.from(name.padEnd(16, ".")).toString("hex"),
      head: 0,
      entries: [],
      windowMs,
      drift: 0.01,
    };
    this.applied = region.log.head;
    this.lease = {
      ...{ epoch: 1 as Epoch, incarnation: "i" as Incarnation, start: 1 as Position },
      ...{ freshSinceMs: region.now - 1_000, deltaMs: 5_000, drift: 0.01, windowMs, solePath: region.names },
    };
    const addresses = region.names.map(addressOf);
    this.#core = newRegionCore({
      ...{ copy: this.#copy, mark: "on the disk", version: "1", renewMs: 1_000 },
      revocations: {
        ...{ broker: name, boot: this.boot, region: "west", addresses, stored: this.disk },
        peers: addresses.filter((address) => address !== addressOf(name)),
      },
    });
    this.follow();
  }

  /** The copy on the disk begins at the head of the log, as after a snapshot. */
  forgetLog(): void {
    this.#copy.beginAt(this.#region.log.head);
  }

  /** Reads the log to its head into the projection alone. The copy on the disk follows by a delivery. */
  project(log: History = this.#region.log): void {
    const after = this.projection.applied.position;
    for (const recorded of log.recorded(after, log.head.position)) this.projection.apply(recorded);
    this.applied = log.head;
    if (this.effects.length > 0) this.feed({ type: "changed", id: this.#nextId(), link: log.head, rebuilt: false });
  }

  /** Reads the log to its head. */
  follow(log: History = this.#region.log): void {
    const entries = log.entries.slice(this.#copy.head.position).map(({ bytes }) => bytes);
    const previous = this.#copy.head;
    this.#copy.take({ previous, entries, last: log.head, keys: [] });
    this.project(log);
  }

  feed(fact: RegionFact): readonly RegionEffect[] {
    if (this.dead) return [];
    const at = { monotonic: this.#region.now as MonotonicMs, wall: (1_000_000 + this.#region.now) as UnixMs };
    const { applied, projection, lease } = this;
    const own = { applied, level: 1, digest: () => "d", projection, lease };
    const [core, effects] = step(this.#core, { ...fact, at, own });
    this.#core = core;
    this.effects.push(...effects);
    for (const effect of effects) this.#perform(effect);
    return effects;
  }

  /** What its own renews say of the sole path. */
  claim(): ReturnType<RegionCore["solePathClaim"]> {
    return this.#core.solePathClaim(this.#region.now as MonotonicMs);
  }

  /** The process ends without a word. Its disk stays. */
  kill(): void {
    this.dead = true;
  }

  all<Type extends RegionEffect["type"]>(type: Type): EffectOf<Type>[] {
    return this.effects.filter((effect): effect is EffectOf<Type> => effect.type === type);
  }

  /** @returns the answer; undefined: none yet */
  revoke(request: LocalRequest): () => LocalAnswer | undefined {
    const id = this.#nextId();
    this.feed({ type: "localAsked", id, request });
    return () => this.all("answerLocal").find((effect) => effect.id === id)?.answer;
  }

  receipt(commandId: CommandId, timeoutMs = 0): () => LocalReceiptAnswer | undefined {
    const id = this.#nextId();
    this.feed({ type: "localReceiptAsked", id, commandId, timeoutMs });
    return () => this.all("answerLocalReceipt").find((effect) => effect.id === id)?.answer;
  }

  /** @returns the revocations after a position, and the position that a node reaches with them */
  denials(after: StorePosition | null = null): Readonly<{ at: StorePosition; sealed: readonly SealedRevocation[] }> {
    const id = this.#nextId();
    const { store = null, seq = 0 } = after ?? {};
    this.feed({ type: "denialsAsked", id, store, after: seq, waitMs: 0 });
    const answer = this.all("answerDenials").find((effect) => effect.id === id)?.answer;
    assert.ok(answer !== undefined && "page" in answer);
    const { page } = answer;
    return { at: { store: page.store, seq: page.upTo }, sealed: page.entries.map(({ sealed }) => sealed) };
  }

  /** A renew of a node. @param build an older one names no brokers @returns the answer; undefined: none yet */
  renew(node: string, parts: Partial<Renew> = {}, build: "this" | "older" = "this"): () => NodeAnswer | undefined {
    const id = this.#nextId();
    const { brokers, ...older } = { ...renewOf(node, id, this.#region), ...parts };
    const renew: Renew = build === "older" || brokers === undefined ? older : { ...older, brokers };
    const from = { cluster, role: "proxy", name: renew.node, boot: renew.boot, publicKey: new Uint8Array(32) } as const;
    this.feed({
      type: "nodeMessage",
      id,
      message: { type: "renew", from, renew },
    });
    return () => this.all("answerNode").find((effect) => effect.id === id)?.answer;
  }

  /** The questions to the home region that have no answer yet. */
  asked(op: "forward" | "merge"): readonly EffectOf<"askHome">[] {
    return this.all("askHome").filter(({ question }) => question.op === op);
  }

  answerHome(id: number, answer: HomeAnswer): void {
    this.feed({ type: "homeAnswered", id, answer });
  }

  /** Lets the writes go that were held. */
  flush(): void {
    this.holdsWrites = false;
    for (const effect of this.#held.splice(0)) this.#keep(effect);
  }

  #perform(effect: RegionEffect): void {
    if (effect.type === "signRevocation") {
      const signer = newSigner({ name: this.name, boot: this.boot, epoch: 0 as Epoch, incarnation: "" });
      const envelope = sealEnvelope(signer, "local-revocation", encodeRevocation(effect.revocation));
      this.feed({ type: "revocationSigned", id: effect.id, envelope });
    } else if (effect.type === "keepRevocations") {
      if (this.holdsWrites) this.#held.push(effect);
      else this.#keep(effect);
    } else if (effect.type === "askPeer") this.#askPeer(effect);
    else if (effect.type === "keepMark") this.feed({ type: "markKept" });
  }

  #keep({ stored, keys }: EffectOf<"keepRevocations">): void {
    if (this.dead) return;
    if (!this.writes) {
      this.feed({ type: "revocationsNotKept", reason: "no space left" });
      return;
    }
    this.disk = stored;
    this.feed({ type: "revocationsKept", keys, windowMs: stored.windowMs, drift: stored.drift });
  }

  #askPeer({ id, address, question }: EffectOf<"askPeer">): void {
    const other = [...this.#region.brokers.values()].find(({ name }) => addressOf(name) === address);
    const isCut =
      this.#region.cut.has(this.name) || other === undefined || other.dead || this.#region.cut.has(other.name);
    const answer = isCut ? { failed: "cannot be reached" } : other.exchange(question);
    if (answer === undefined) return;
    const lacking = "failed" in answer ? [] : answer.lacking.map((envelope) => opened(envelope));
    this.feed({ type: "peerAnswered", id, answer, lacking });
  }

  /** @returns undefined: no answer yet */
  exchange(question: EffectOf<"askPeer">["question"]): PeerAnswer | Readonly<{ failed: string }> | undefined {
    const id = this.#nextId();
    this.feed({ type: "peerAsked", id, question });
    const answer = this.all("answerPeer").find((effect) => effect.id === id)?.answer;
    return answer === undefined ? undefined : { ...answer, ...this.alias };
  }

  #nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }
}

export function opened(envelope: Uint8Array): SealedRevocation {
  const sealed = openRevocation(envelope, open);
  assert.ok(typeof sealed !== "string", String(sealed));
  return sealed;
}

function renewOf(node: string, nonce: number, { log, now, names }: LocalRegion): Renew {
  return {
    ...{ node: node as NodeId, boot: `${node}-boot` as BootId, nonce, region: "west", role: "proxy", version: "1" },
    ...{ reads: 1, windowMs, applied: log.head, enforced: log.head, digest: "d", configHash: "c", replaces: null },
    ...{ monotonicMs: now, brokers: names.map(addressOf) },
  };
}

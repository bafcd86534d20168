/**
 * One boot of a simulated regional broker: runs the real node core and the real granter of leases by age in a process of the world, with
 * a copy of the log and no store.
 *
 * It does for them what regional-broker.ts and region-leases.ts do in production: what nodes ask is handed on to the home region while
 * that answers, and answered from what is here when it does not.
 */
import { believeRenew, ProvenReplacements } from "../../src/broker/leader/lease-messages.ts";
import { type BootId, genesis, type Link, type NodeId, type Position, parseNodeId } from "../../src/events/index.ts";
import {
  createPersonKeys,
  type LoadedSnapshot,
  type NodeEffect,
  type NodeKey,
  newNodeCore,
  type PageOutcome,
  RegionalGranter,
  type Renew,
} from "../../src/replication/index.ts";
import { readAnswer } from "../../src/replication/node/node-answers.ts";
import type { BrokerPort, SaidAnswer, Unavailable } from "./broker-port.ts";
import { readsOf } from "./builds.ts";
import { CopyDriver, callMs, type OwnEffect, replacementBy } from "./copy-driver.ts";
import type { SimEnvelope, SimPayload } from "./envelopes.ts";
import type { NatsClient } from "./nats-model.ts";
import type { Call } from "./node-calls.ts";
import type { SimProcess } from "./process.ts";
import { load, type Saved, save } from "./saved-projection.ts";
import type { SimRegionOptions } from "./sim-region.ts";
import type { SimRegionCopy } from "./sim-region-copy.ts";

/** What outlives a boot. */
export type RegionDisk = {
  copy: SimRegionCopy;
  saved: Saved | null;
  lastBoot: NodeKey | null;
  leasesByAge: "may count" | "none";
};
type Reader = Readonly<{ after: Link; limit: number; answered: (answer: PageOutcome | Unavailable) => void }>;
type Said = Extract<SimPayload, { kind: "renew" | "confirm" | "goodbye" }>;

/** As in src/broker/region. */
const forwardMs = 1_000;
const silentMsMax = 2_500;
const saveEveryMs = [6_000, 15_000] as const;
const readersMax = 4_096;
const fillEvents = 2_000;

export const isUnavailable = ({ type }: Readonly<{ type: string }>): boolean => type === "unavailable";

export class RegionBoot {
  readonly #options: SimRegionOptions;
  readonly #process: SimProcess;
  readonly #disk: RegionDisk;
  readonly #boot: BootId;
  readonly #proven = new ProvenReplacements();
  readonly #node: NodeId;
  readonly #driver: CopyDriver;
  readonly #granter = new RegionalGranter();
  readonly #readers = new Set<Reader>();
  /** Changes that somebody with a lease by age does not enforce yet. */
  readonly #unenforced = new Map<number, Link>();
  /** When our own renews left in truth, by our clock. */
  readonly #sentAt = new Map<number, number>();
  #nats: NatsClient<SimEnvelope> | undefined;
  #bootHead: Link | null;
  #heardAt = Number.NEGATIVE_INFINITY;
  #filling = false;

  constructor(options: SimRegionOptions, parts: Readonly<{ process: SimProcess; disk: RegionDisk }>) {
    const { process, disk } = parts;
    const { world, name, region } = options;
    this.#options = options;
    this.#process = process;
    this.#disk = disk;
    this.#boot = process.bootId as BootId;
    this.#node = parseNodeId(name);
    this.#bootHead = disk.copy.head;
    const random = world.random(`region/${name}`);
    const core = newNodeCore({
      ...{ node: this.#node, boot: this.#boot, role: "broker", region, version: process.identity.build },
      reads: readsOf(process.identity.build),
      ...replacementBy(process, disk.leasesByAge === "may count" ? null : disk.lastBoot),
      windowMs: options.options.lease.deltaMs,
      configHash: "region",
      keys: createPersonKeys([options.secret]),
      random: (size) => random.bytes(size),
      at: process.moment(),
      enforcingMsMax: Number.POSITIVE_INFINITY,
    });
    this.#driver = new CopyDriver({
      ...{ world, process, core, seals: options.seals, cluster: options.cluster, role: "broker", node: this.#node },
      brokers: options.brokers,
      perform: (effect) => this.#perform(effect),
      renewing: ({ monotonicMs }) => {
        this.#sentAt.set(monotonicMs, world.now);
        if (this.#sentAt.size > 256) this.#sentAt.delete(this.#sentAt.keys().next().value ?? 0);
      },
      heard: () => this.#hear(true),
    });
  }

  start(): void {
    const { nats, options } = this.#options;
    this.#driver.report({
      type: "config-activated",
      ...this.#driver.here(),
      hash: "region",
      deltaMs: options.lease.deltaMs,
      routes: [],
    });
    const { saved } = this.#disk;
    const canRead = saved !== null && saved.level <= readsOf(this.#process.identity.build);
    const snapshot: LoadedSnapshot | null = canRead ? load(saved) : null;
    this.#driver.feed({ type: "started", snapshot, fanout: "down", at: this.#process.moment() });
    this.#nats = nats.client({
      process: this.#process,
      onMessage: (envelope) => this.#deliver(envelope),
      onConnected: () => this.#driver.feed({ type: "fanoutChanged", fanout: "up", at: this.#process.moment() }),
      onDisconnected: () => this.#driver.feed({ type: "fanoutChanged", fanout: "down", at: this.#process.moment() }),
    });
    this.#saveOften();
  }

  // --- what nodes ask

  read({ after, limit, waitMs }: Parameters<BrokerPort["read"]>[0], answered: Reader["answered"]): void {
    const reader: Reader = { after, limit, answered };
    if (this.#serve(reader, "first")) return;
    this.#driver.feed({ type: "nudged", at: this.#process.moment() });
    if (this.#readers.size >= readersMax) {
      answered({ type: "unavailable" });
      return;
    }
    this.#readers.add(reader);
    this.#process.after(Math.max(waitMs, this.#homeAnswers() ? 600 : 0), () => {
      if (this.#readers.delete(reader)) this.#serve(reader, "last");
    });
  }

  /** @returns whether it has been answered */
  #serve({ after, limit, answered }: Reader, turn: "first" | "last"): boolean {
    const outcome = this.#disk.copy.read(after, limit, turn);
    if (outcome !== undefined) answered(outcome);
    return outcome !== undefined;
  }

  #moved(): void {
    for (const reader of [...this.#readers]) if (this.#serve(reader, "first")) this.#readers.delete(reader);
  }

  said(envelope: SimEnvelope, answered: (answer: SaidAnswer) => void): void {
    const { seals, cluster } = this.#options;
    const { from, payload } = envelope;
    if (!seals.isAuthentic(envelope, cluster)) {
      answered({ type: "refused", reason: "bad signature" });
      return;
    }
    if (payload.kind === "batch" || payload.kind === "grant" || payload.kind === "grant-by-age") {
      answered({ type: "refused", reason: `a ${payload.kind} is not for a broker to take` });
      return;
    }
    const words = wordsOf(payload);
    if (words.node !== from.name || words.boot !== from.boot) {
      answered({ type: "refused", reason: "a node may speak only for itself" });
      return;
    }
    const view = { at: this.#process.moment().monotonic, onChain: (link: Link) => this.#disk.copy.holds(link) };
    const renew = payload.kind === "renew" ? believeRenew(from, payload.renew, this.#proven) : null;
    if (renew?.type === "renew") this.#granter.renewed(renew.renew, view);
    else if (payload.kind === "confirm") this.#granter.confirmed(payload.confirm, view);
    else if (payload.kind === "goodbye") this.#granter.left(payload.goodbye);
    this.#settle();
    if (!this.#homeAnswers()) {
      this.#answerAlone(payload, answered);
      return;
    }
    let open = true;
    const alone = this.#process.after(forwardMs, () => {
      if (open) this.#answerAlone(payload, answered);
      open = false;
    });
    this.handOn<SaidAnswer>(
      { timeoutMs: callMs.say, ask: (broker, reply) => broker.say(envelope, reply), isUnavailable },
      (answer) => {
        alone.cancel();
        if (!open) return;
        open = false;
        if (answer === undefined) {
          this.#answerAlone(payload, answered);
          return;
        }
        if (payload.kind === "renew" && answer.type !== "unavailable") this.#noteLeader(payload.renew, answer);
        answered(answer);
      },
    );
  }

  #noteLeader(renew: Renew, answer: Exclude<SaidAnswer, Unavailable>): void {
    const told = answer.type === "refused" ? { refused: answer.reason } : ("granted" as const);
    this.#granter.answeredByLeader(renew, told, this.#process.moment().monotonic);
  }

  #answerAlone(payload: Said, answered: (answer: SaidAnswer) => void): void {
    if (payload.kind === "confirm") {
      answered({ type: "taken" });
      return;
    }
    if (payload.kind === "goodbye") {
      answered({ type: "unavailable" });
      return;
    }
    const at = this.#process.moment();
    const lease = this.#driver.core.heldLease(at);
    const { applied, projection } = this.#driver.core;
    if (lease !== null) this.#disk.leasesByAge = "may count";
    const copy = {
      lease,
      applied,
      digest: projection.digest(),
      version: this.#process.identity.build,
      level: projection.level,
    };
    const answer = this.#granter.grant(payload.renew, copy, at);
    if (answer.type === "refused") {
      answered({ type: "refused", reason: answer.reason });
      return;
    }
    const sentAt = lease === null ? undefined : this.#sentAt.get(lease.anchorMs);
    if (answer.type === "unavailable" || sentAt === undefined) {
      answered({ type: "unavailable" });
      return;
    }
    const { grant } = answer;
    const { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs } = grant;
    const named = { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs };
    this.#driver.report({
      type: "grant-sent",
      ...this.#driver.at(),
      ...named,
      own: false,
      agedMs: this.#options.world.now - sentAt,
    });
    answered({ type: "grant", envelope: this.#driver.seal({ kind: "grant-by-age", grant }) });
  }

  /** What only the home region can do. */
  handOn<T>(call: Omit<Call<T>, "done">, done: (answer: T | undefined) => void): void {
    if (!this.#homeAnswers()) {
      done(undefined);
      return;
    }
    this.#driver.calls.start<T>({ ...call, done: (answer) => done(this.#hear(answer)) });
  }

  #hear<T>(answer: T | undefined): T | undefined {
    if (answer !== undefined) this.#heardAt = this.#process.moment().monotonic;
    return answer;
  }

  #homeAnswers(): boolean {
    return this.#process.moment().monotonic - this.#heardAt <= silentMsMax;
  }

  // --- the core

  #perform(effect: OwnEffect): void {
    switch (effect.type) {
      case "read":
        this.#readHome(effect);
        return;
      case "recordBoot":
        this.#disk.lastBoot = this.#process.nodeKey;
        return;
      case "clearBoot":
        this.#disk.lastBoot = null;
        return;
      case "changed":
        this.#changed(effect);
        return;
      case "loadSnapshot":
        this.#loadSnapshot(effect.id, effect.first);
        return;
      case "replay":
        this.#nats?.replay({ sinceMs: effect.sinceMs, timeoutMs: effect.timeoutMs, limit: 10_000 }, (found) => {
          for (const envelope of found) this.#deliver(envelope);
        });
        return;
      case "linkReached":
      case "left":
      case "log":
    }
  }

  #changed(effect: Extract<NodeEffect, { type: "changed" }>): void {
    this.#driver.moved(effect, "broker");
    if (effect.rebuilt) this.#granter.rebuilt();
    this.#unenforced.set(effect.id, effect.link);
    this.#settle();
  }

  /** Tells the core of every change that nobody holds back, and looks again when that may have ended by time alone. */
  #settle(): void {
    const now = this.#process.moment().monotonic;
    let next = Number.POSITIVE_INFINITY;
    for (const [id, link] of [...this.#unenforced]) {
      const until = this.#granter.holdsBackUntil(link, now);
      if (until !== null) next = Math.min(next, until);
      else {
        this.#unenforced.delete(id);
        this.#driver.feed({ type: "changeEnforced", id, at: this.#process.moment() });
      }
    }
    if (next !== Number.POSITIVE_INFINITY) this.#process.after(next - now + 1, () => this.#settle());
    const done = this.#granter.leased(now) === 0 && this.#driver.core.heldLease(this.#process.moment()) !== null;
    if (done) this.#disk.leasesByAge = "none";
    const windowMs = Math.max(this.#options.options.lease.deltaMs, this.#granter.windowMs(now));
    this.#driver.feed({ type: "configured", windowMs, configHash: "region", at: this.#process.moment() });
  }

  // --- the log

  #deliver(envelope: SimEnvelope): void {
    const { seals, cluster } = this.#options;
    const opened = seals.openBatch(envelope, cluster, (last) => this.#driver.core.hasApplied(last));
    const refused = "refused" in opened;
    if (refused)
      this.#driver.report({
        type: "message-refused",
        ...this.#driver.at(),
        kind: envelope.payload.kind,
        reason: opened.refused,
      });
    const delivery = refused ? opened : { ...opened.batch, events: opened.events };
    this.#driver.feed({ type: "delivered", delivery, at: this.#process.moment() });
    const { copy } = this.#disk;
    if (refused || opened.batch.last.position > this.#driver.core.applied.position) return;
    if (opened.batch.last.position <= copy.head.position) return;
    if (!copy.holds(opened.batch.previous)) {
      this.#fill();
      return;
    }
    copy.keep(opened.batch);
    this.#moved();
  }

  /** Reads what our projection has and the copy has not. */
  #fill(): void {
    if (this.#filling) return;
    this.#filling = true;
    this.#fillOn();
  }

  #fillOn(): void {
    const { copy } = this.#disk;
    if (copy.head.position >= this.#driver.core.applied.position) {
      this.#filling = false;
      return;
    }
    const by = this.#options.name;
    this.#driver.calls.start<PageOutcome | Unavailable>({
      timeoutMs: callMs.readGrace,
      ask: (broker, reply) => broker.read({ after: copy.head, limit: fillEvents, waitMs: 0, by }, reply),
      isUnavailable,
      done: (answer) => {
        const outcome = this.#hear(answer);
        let more = true;
        if (outcome?.type === "forked") copy.beginAt(genesis);
        else if (outcome?.type === "truncated") copy.beginAt(this.#driver.core.applied);
        else more = outcome?.type === "page" && outcome.page.entries.length > 0 && copy.take(outcome.page);
        this.#moved();
        if (more) this.#fillOn();
        else this.#filling = false;
      },
    });
  }

  #readHome({ id, after, limit, waitMs }: Extract<NodeEffect, { type: "read" }>): void {
    const own = this.#fromDisk(after, limit);
    if (own !== undefined) {
      this.#process.after(0, () => this.#readAnswered(id, own));
      return;
    }
    const { head } = this.#disk.copy;
    if (head.position > 0 && head.position < after.position) this.#fill();
    this.#driver.call<PageOutcome | Unavailable>(id, {
      timeoutMs: waitMs + callMs.readGrace,
      ask: (broker, reply) => broker.read({ after, limit, waitMs, by: this.#options.name }, reply),
      isUnavailable,
      done: (outcome) => {
        if (outcome?.type === "forked") this.#disk.copy.beginAt(genesis);
        if (outcome?.type === "page" && !this.#disk.copy.take(outcome.page)) this.#fill();
        this.#moved();
        this.#readAnswered(id, outcome);
      },
    });
  }

  #readAnswered(id: number, outcome: PageOutcome | Unavailable | undefined): void {
    const at = this.#process.moment();
    const failed = { type: "failed", error: new Error("no broker answers") } as const;
    const answer = outcome === undefined || outcome.type === "unavailable" ? failed : readAnswer(outcome);
    this.#driver.feed({ type: "readAnswered", id, answer, at });
  }

  #fromDisk(after: Link, limit: number): PageOutcome | undefined {
    if (this.#bootHead === null || after.position >= this.#bootHead.position) {
      this.#bootHead = null;
      return undefined;
    }
    const outcome = this.#disk.copy.read(after, limit, "first");
    return outcome?.type === "page" ? outcome : undefined;
  }

  #loadSnapshot(id: number, first: Position | null): void {
    const { copy } = this.#disk;
    if (first === null && copy.base.position === 0 && copy.head.position > 0)
      return void this.#process.after(0, () => this.#driver.snapshotAnswered(id, null));
    this.#driver.call<LoadedSnapshot | null>(id, {
      timeoutMs: callMs.snapshot,
      ask: (broker, reply) => broker.snapshot(reply),
      isUnavailable: () => false,
      done: (found) => this.#driver.snapshotAnswered(id, found),
    });
  }

  // --- its disk

  #saveOften(): void {
    const random = this.#options.world.random(`region-disk/${this.#options.name}`);
    this.#process.after(random.within(saveEveryMs[0], saveEveryMs[1]), () => {
      if (
        !this.#driver.core.rebuilding &&
        this.#driver.core.applied.position > 0 &&
        this.#driver.core.projection.guessed === undefined
      ) {
        const saved = save(this.#driver.core.savepoint);
        this.#disk.saved = saved;
        const { link, digest } = saved;
        this.#driver.report({ type: "snapshot-built", ...this.#driver.at(), link, digest, id: null });
      }
      this.#saveOften();
    });
  }
}

function wordsOf(payload: Said): Readonly<{ node: string; boot: string }> {
  if (payload.kind === "renew") return payload.renew;
  return payload.kind === "confirm" ? payload.confirm : payload.goodbye;
}

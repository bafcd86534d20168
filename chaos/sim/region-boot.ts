/**
 * One boot of a simulated regional broker: the product's region loop and core, and the node core of its own copy, in
 * one process.
 *
 * It does the I/O of region-driver.ts and node-process.ts: requests of the cores become calls to home brokers, timers
 * and disk writes; answers become inputs. It makes no decisions.
 */
import type { OpenedNodeMessage } from "../../src/broker/core/messages.ts";
import { ProvenReplacements } from "../../src/broker/leader/lease-messages.ts";
import type { RegionCopy } from "../../src/broker/region/region-copy.ts";
import { RegionLoop } from "../../src/broker/region/region-loop.ts";
import type {
  HomeAnswer,
  HomeQuestion,
  NodeAnswer,
  OwnCopy,
  RegionEffect,
  RegionFact,
} from "../../src/broker/region/region-messages.ts";
import { type BootId, type NodeId, parseNodeId } from "../../src/events/index.ts";
import type { PageOutcome } from "../../src/replication/index.ts";
import { readAnswer } from "../../src/replication/node/broker-answers.ts";
import {
  createPersonKeys,
  type LoadedSnapshot,
  type NodeEffect,
  newNodeCore,
  type ReadAnswer,
} from "../../src/replication/node/index.ts";
import type { BrokerPort, NodeMessageAnswer, Unavailable, WireDenials } from "./broker-port.ts";
import { readsOf } from "./builds.ts";
import { CopyDriver, callMs, type OwnEffect, replacementBy } from "./copy-driver.ts";
import { openNodeMessage, type SimEnvelope } from "./envelopes.ts";
import type { SimFactOf } from "./facts.ts";
import { receivedRefusal, sentRefusal } from "./lease-refusals.ts";
import type { NatsClient } from "./nats-model.ts";
import type { Call } from "./node-calls.ts";
import type { Alarm, SimProcess } from "./process.ts";
import type { RegionDisk } from "./region-disk.ts";
import { RevocationIo } from "./region-revocation-io.ts";
import { load, save } from "./saved-projection.ts";
import type { SimRegionOptions } from "./sim-region.ts";

type PendingMessage = {
  readonly envelope: SimEnvelope;
  readonly answered: (answer: NodeMessageAnswer) => void;
  /** The leader's answer. Null: none yet. */
  reply: NodeMessageAnswer | null;
};

const renewMs = 1_000;
const refreshEveryMs = [6_000, 15_000] as const;
const configHash = "region";
const noBroker = { type: "failed", error: new Error("no broker answers") } as const;

export const isUnavailable = ({ type }: Readonly<{ type: string }>): boolean => type === "unavailable";

export class RegionBoot {
  readonly #options: SimRegionOptions;
  readonly #process: SimProcess;
  readonly #disk: RegionDisk;
  readonly #copy: RegionCopy;
  readonly #boot: BootId;
  readonly #proven = new ProvenReplacements();
  readonly #node: NodeId;
  readonly #driver: CopyDriver;
  readonly #alarm: Alarm;
  readonly #loop: RegionLoop;
  readonly #revocations: RevocationIo;
  readonly #reads = new Map<number, (answer: PageOutcome | Unavailable) => void>();
  readonly #pendingMessages = new Map<number, PendingMessage>();
  #nats: NatsClient<SimEnvelope> | undefined;
  #windowMs: number;
  /** Number of final denials seen at the last write to the disk. */
  #keptAt = 0;

  constructor(options: SimRegionOptions, parts: Readonly<{ process: SimProcess; disk: RegionDisk; copy: RegionCopy }>) {
    const { process, disk, copy } = parts;
    const { world, name, region } = options;
    const { build } = process.identity;
    this.#options = options;
    this.#process = process;
    this.#disk = disk;
    this.#copy = copy;
    this.#boot = process.bootId as BootId;
    this.#node = parseNodeId(name);
    this.#windowMs = options.options.lease.deltaMs;
    this.#alarm = process.alarm(() => this.#feed({ type: "woke" }));
    this.#revocations = new RevocationIo({
      ...{ world, process, disk, region, cluster: options.cluster, secret: options.secret, peers: options.peers },
      nextId: () => this.#loop.nextId(),
      feed: (fact) => this.#feed(fact),
      call: (call) => this.#driver.calls.start(call),
      forward: (call, done) => this.forward(call, done),
    });
    this.#loop = new RegionLoop(
      { copy, mark: disk.mark, version: build, renewMs, revocations: this.#revocations.coreOptions() },
      { moment: () => process.moment(), own: () => this.#own(), perform: (effect) => this.#perform(effect) },
    );
    const random = world.random(`region/${name}`);
    const core = newNodeCore({
      ...{ node: this.#node, boot: this.#boot, role: "broker", region, version: build, reads: readsOf(build) },
      ...replacementBy(process, this.#loop.core.replaces === "none" ? null : disk.lastBoot),
      windowMs: this.#windowMs,
      configHash,
      keys: createPersonKeys([options.secret]),
      random: (size) => random.bytes(size),
      at: process.moment(),
      enforcingMsMax: Number.POSITIVE_INFINITY,
      solePath: () => this.#loop.core.solePathClaim(process.moment().monotonic),
    });
    this.#driver = new CopyDriver({
      ...{ world, process, core, seals: options.seals, cluster: options.cluster, role: "broker", node: this.#node },
      brokers: options.brokers,
      perform: (effect) => this.#performOwn(effect),
      waking: () => this.#reportWindow(),
      heard: () => this.#feed({ type: "leaderAnswered" }),
    });
  }

  start(): void {
    const { nats, options } = this.#options;
    const here = this.#driver.here();
    const { deltaMs } = options.lease;
    this.#driver.report({ type: "config-activated", ...here, hash: configHash, deltaMs, routes: [] });
    this.#reportMark("found");
    const saved = this.#disk.saves.findLast(({ level }) => level <= this.#driver.reads);
    const snapshot: LoadedSnapshot | null = saved === undefined ? null : { ...load(saved), retained: [] };
    this.#driver.feed({
      type: "started",
      snapshot,
      denials: this.#disk.kept,
      fanout: "down",
      at: this.#process.moment(),
    });
    this.#nats = nats.client({
      process: this.#process,
      onMessage: (envelope) => this.#deliver(envelope),
      onConnected: () => this.#driver.feed({ type: "fanoutChanged", fanout: "up", at: this.#process.moment() }),
      onDisconnected: () => this.#driver.feed({ type: "fanoutChanged", fanout: "down", at: this.#process.moment() }),
    });
    this.#refreshPeriodically();
  }

  /** Stops as on SIGTERM. */
  stop(): void {
    this.#feed({ type: "stopping" });
  }

  // --- requests of nodes

  read(asked: Parameters<BrokerPort["read"]>[0], answered: (answer: PageOutcome | Unavailable) => void): void {
    const { after, limit, waitMs } = asked;
    const id = this.#loop.nextId();
    this.#reads.set(id, answered);
    this.#feed({ type: "readAsked", id, after, limit, waitMs });
  }

  receiveMessage(envelope: SimEnvelope, answered: (answer: NodeMessageAnswer) => void): void {
    const id = this.#loop.nextId();
    this.#pendingMessages.set(id, { envelope, answered, reply: null });
    this.#feed({ type: "nodeMessage", id, message: this.#messageIn(envelope) });
  }

  #messageIn(envelope: SimEnvelope): OpenedNodeMessage {
    const { seals, cluster } = this.#options;
    return openNodeMessage(envelope, { seals, cluster, proven: this.#proven });
  }

  /** An operator's command. */
  submit(...asked: Parameters<RevocationIo["submit"]>): void {
    this.#revocations.submit(...asked);
  }
  /** A node's command. */
  forwardCommand(...[request, answered]: Parameters<BrokerPort["submit"]>): void {
    const { command } = request;
    if (command.type === "mergeRevocation" && !this.#loop.leaderAnswers()) this.#revocations.brought(command.envelope);
    this.#revocations.forward(request, answered);
  }
  localReceipt(...asked: Parameters<RevocationIo["receipt"]>): void {
    this.#revocations.receipt(...asked);
  }
  askedByPeer(...asked: Parameters<RevocationIo["askedByPeer"]>): void {
    this.#revocations.askedByPeer(...asked);
  }
  denials({ after, waitMs }: Parameters<BrokerPort["denials"]>[0], answered: (answer: WireDenials) => void): void {
    this.#revocations.denials(after, waitMs, answered);
  }

  /** Forwards a call that only the home region can perform. */
  forward<T>(call: Omit<Call<T>, "done">, done: (answer: T | undefined) => void): void {
    if (!this.#loop.leaderAnswers()) {
      done(undefined);
      return;
    }
    this.#driver.calls.start<T>({
      ...call,
      done: (answer) => {
        if (answer !== undefined) this.#feed({ type: "leaderAnswered" });
        done(answer);
      },
    });
  }

  // --- the region core

  #feed(fact: RegionFact): void {
    this.#loop.feed(fact);
  }

  #own(): OwnCopy {
    const { applied, projection } = this.#driver.core;
    const lease = this.#driver.core.heldLease(this.#process.moment());
    return { applied, level: projection.level, digest: () => projection.digest(), projection, lease };
  }

  #perform(effect: RegionEffect): void {
    if (this.#revocations.hasEnded || this.#revocations.perform(effect)) return;
    switch (effect.type) {
      case "wake":
        this.#alarm.set(effect.at as Parameters<Alarm["set"]>[0]);
        return;
      case "askHome":
        this.#askHome(effect.id, effect.question);
        return;
      case "answerOwnRead":
        this.#answerOwnRead(effect.id, effect.answer);
        return;
      case "answerRead": {
        const answered = this.#reads.get(effect.id);
        this.#reads.delete(effect.id);
        answered?.(effect.answer.type === "unavailable" ? { type: "unavailable" } : effect.answer);
        return;
      }
      case "answerNode":
        this.#answerNode(effect.id, effect.answer);
        return;
      case "enforced":
        this.#driver.feed({ type: "changeEnforced", id: effect.id, at: this.#process.moment() });
        return;
      case "look":
        this.#driver.feed({ type: "nudged", at: this.#process.moment() });
        return;
      case "keepMark":
        this.#keepMark();
        return;
      case "clearMark":
        this.#disk.mark = "none";
        this.#reportMark("removed");
        return;
      case "leave":
        if (effect.goodbye === "say") this.#driver.feed({ type: "leaving", at: this.#process.moment() });
        else this.#process.after(0, () => this.#process.kill());
        return;
      case "broken":
        throw effect.error;
      case "log":
        this.#options.world.note(this.#options.name, `${effect.level}: ${effect.message}`);
    }
  }

  #askHome(id: number, question: HomeQuestion): void {
    if (question.op === "forward") this.#forwardMessage(id, question.messageId);
    else if (question.op === "read") this.#readHome(id, question);
  }

  #forwardMessage(id: number, number: number): void {
    const pending = this.#pendingMessages.get(number);
    if (pending === undefined) throw new Error(`no message is pending under ${number}`);
    this.#driver.calls.start<NodeMessageAnswer>({
      timeoutMs: callMs.sendMessage,
      ask: (broker, reply) => broker.sendMessage(pending.envelope, reply, this.#options.name),
      isUnavailable,
      done: (answer) => {
        pending.reply = answer ?? null;
        if (answer === undefined || answer.type === "unavailable")
          this.#feed({ type: "homeAnswered", id, answer: { type: "unavailable", error: noBroker.error } });
        else if (answer.type === "refused") {
          const refusal = receivedRefusal(this.#process.identity.build, answer);
          this.#feed({ type: "homeAnswered", id, answer: { type: "refused", refusal } });
        } else
          this.#feed({ type: "homeAnswered", id, answer: answer.type === "grant" ? granted(answer.envelope) : answer });
      },
    });
  }

  #readHome(id: number, { after, limit, waitMs, reader }: Extract<HomeQuestion, { op: "read" }>): void {
    const by = this.#options.name;
    const call: Call<PageOutcome | Unavailable> = {
      timeoutMs: waitMs + callMs.readGrace,
      ask: (broker, reply) => broker.read({ after, limit, waitMs, by }, reply),
      isUnavailable,
      done: (answer) => {
        const missing = answer === undefined || answer.type === "unavailable";
        const homeAnswer = missing ? ({ type: "unavailable", error: noBroker.error } as const) : answer;
        this.#feed({ type: "homeAnswered", id, answer: homeAnswer });
      },
    };
    if (reader === null) this.#driver.calls.start(call);
    else this.#driver.call(reader, call, () => this.#feed({ type: "homeAnswered", id, answer: noBroker }));
  }

  #answerOwnRead(id: number, answer: Extract<RegionEffect, { type: "answerOwnRead" }>["answer"]): void {
    this.#process.after(0, () => {
      this.#driver.feed({ type: "readAnswered", id, answer: pageIn(answer), at: this.#process.moment() });
    });
  }

  #answerNode(id: number, answer: NodeAnswer): void {
    const pending = this.#pendingMessages.get(id);
    this.#pendingMessages.delete(id);
    if (pending === undefined) return;
    switch (answer.type) {
      case "leader":
        this.#passOn(pending);
        return;
      case "grantByAge":
        this.#grantByAge(answer.grant, pending.answered);
        return;
      case "taken":
        pending.answered(answer);
        return;
      case "refused":
        pending.answered({ type: "refused", ...sentRefusal(this.#process.identity.build, answer.refusal) });
        return;
      case "unavailable":
        pending.answered({ type: "unavailable" });
    }
  }

  #passOn({ reply, answered }: PendingMessage): void {
    if (reply?.type === "grant" && reply.envelope.payload.kind === "grant") {
      const { node, boot, nonce, head } = reply.envelope.payload.grant;
      this.#driver.report({ type: "grant-passed", ...this.#driver.at(), node, boot, nonce, head });
    }
    answered(reply ?? { type: "unavailable" });
  }

  #grantByAge(
    grant: Extract<NodeAnswer, { type: "grantByAge" }>["grant"],
    answered: (answer: NodeMessageAnswer) => void,
  ): void {
    const { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs, ageMs } = grant;
    const named = { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs };
    this.#driver.report({ type: "grant-sent", ...this.#driver.at(), ...named, own: false, agedMs: ageMs ?? 0 });
    answered({ type: "grant", envelope: this.#driver.seal({ kind: "grant-by-age", grant }) });
  }

  #keepMark(): void {
    this.#process.after(this.#disk.markMs, () => {
      if (this.#disk.isFull) this.#feed({ type: "markNotKept", reason: "no space left on device" });
      else {
        this.#disk.mark = "on the disk";
        this.#reportMark("kept");
        this.#feed({ type: "markKept" });
      }
    });
  }

  #reportMark(how: SimFactOf<"age-mark">["how"]): void {
    this.#driver.report({ type: "age-mark", ...this.#driver.here(), mark: this.#disk.mark, how });
  }

  // --- the node core of its own copy

  #performOwn(effect: OwnEffect): void {
    switch (effect.type) {
      case "read": {
        const { id, after, limit, waitMs } = effect;
        this.#feed({ type: "ownReadAsked", id, after, limit, waitMs });
        return;
      }
      case "recordBoot":
        this.#disk.lastBoot = this.#process.nodeKey;
        return;
      case "clearBoot":
        this.#disk.lastBoot = null;
        return;
      case "changed": {
        const { id, link, rebuilt } = effect;
        this.#driver.moved(effect, "broker");
        this.#keepDenials();
        this.#feed({ type: "changed", id, link, rebuilt });
        return;
      }
      case "loadSnapshot":
        this.#loadSnapshot(effect);
        return;
      case "replay":
        this.#nats?.replay({ sinceMs: effect.sinceMs, timeoutMs: effect.timeoutMs, limit: 10_000 }, (found) => {
          this.#feed({ type: "replayed", batches: found.flatMap((envelope) => this.#batchIn(envelope)) });
          for (const envelope of found) this.#deliverToOwn(envelope);
        });
        return;
      case "left":
        this.#nats?.close();
        this.#process.after(0, () => this.#process.kill());
        return;
      case "linkReached":
      case "log":
    }
  }

  #deliver(envelope: SimEnvelope): void {
    this.#deliverToOwn(envelope);
    for (const batch of this.#batchIn(envelope)) this.#feed({ type: "delivered", batch });
  }

  #deliverToOwn(envelope: SimEnvelope): void {
    const { seals, cluster } = this.#options;
    const opened = seals.openBatch(envelope, cluster, (last) => this.#driver.core.hasApplied(last));
    if ("refused" in opened) {
      const { kind } = envelope.payload;
      this.#driver.report({ type: "message-refused", ...this.#driver.at(), kind, reason: opened.refused });
    }
    const delivery = "refused" in opened ? opened : { ...opened.batch, events: opened.events };
    this.#driver.feed({ type: "delivered", delivery, at: this.#process.moment() });
  }

  #batchIn(envelope: SimEnvelope) {
    const { seals, cluster } = this.#options;
    const opened = seals.openBatch(envelope, cluster, (last) => last.position <= this.#copy.head.position);
    return "refused" in opened ? [] : [opened.batch];
  }

  /**
   * Updates the window before each wake-up, as the product's process does. The next renews request the window that the
   * region's nodes request.
   */
  #reportWindow(): void {
    const { deltaMs } = this.#options.options.lease;
    const windowMs = Math.max(deltaMs, this.#loop.core.windowMs(this.#process.moment().monotonic));
    if (windowMs === this.#windowMs) return;
    this.#windowMs = windowMs;
    this.#driver.feed({ type: "configured", windowMs, configHash, at: this.#process.moment() });
  }

  #loadSnapshot({ id, first }: Extract<NodeEffect, { type: "loadSnapshot" }>): void {
    if (!this.#copy.needsSnapshot(first)) {
      this.#process.after(0, () => this.#driver.snapshotAnswered(id, null));
      return;
    }
    this.#driver.call<LoadedSnapshot | null>(id, {
      timeoutMs: callMs.snapshot,
      ask: (broker, reply) => broker.snapshot(reply),
      isUnavailable: () => false,
      done: (found) => this.#driver.snapshotAnswered(id, found && { ...found, retained: [] }),
    });
  }

  #keepDenials(): void {
    const { savepoint, tightened } = this.#driver.core;
    const { retained } = savepoint;
    const { kept } = this.#disk;
    const same = retained.size === kept.retained.length && kept.retained.every((stream) => retained.has(stream));
    if (same && tightened === this.#keptAt) return;
    this.#keptAt = tightened;
    this.#disk.kept = { retained: [...retained], denials: this.#driver.core.denialsToPersist() };
  }

  /** Fetches the home region's newest snapshot periodically. The copy may then drop events that two snapshots cover. */
  #refreshPeriodically(): void {
    const random = this.#options.world.random(`region-disk/${this.#options.name}`);
    this.#process.after(random.within(refreshEveryMs[0], refreshEveryMs[1]), () => {
      this.#driver.calls.start<LoadedSnapshot | null>({
        timeoutMs: callMs.snapshot,
        ask: (broker, reply) => broker.snapshot(reply),
        isUnavailable: () => false,
        done: (found) => {
          if (found) this.#keepSnapshot(found);
          this.#refreshPeriodically();
        },
      });
    });
  }

  #keepSnapshot({ projection, link, epochs }: LoadedSnapshot): void {
    if (this.#disk.saves.some((saved) => saved.link.position >= link.position && saved.link.epoch >= link.epoch))
      return;
    this.#disk.save(save({ projection, link, epochs, retained: new Set() }));
    const [older] = this.#disk.saves.length > 1 ? this.#disk.saves : [];
    if (older !== undefined && !this.#disk.isFull) this.#copy.forgetUpTo(older.link);
  }
}

function pageIn(answer: Extract<RegionEffect, { type: "answerOwnRead" }>["answer"]): ReadAnswer {
  if (answer.type === "failed") return answer;
  try {
    return readAnswer(answer);
  } catch (error) {
    return { type: "failed", error };
  }
}

/** A leader's grant: the broker reads for how long it counts. */
function granted({ payload }: SimEnvelope): HomeAnswer {
  const { windowMs, drift } = "grant" in payload ? payload.grant : { windowMs: 0, drift: 0 };
  return { type: "granted", windowMs, drift };
}

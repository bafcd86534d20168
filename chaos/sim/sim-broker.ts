/**
 * Simulated broker: runs the real broker core in a process of the world, and reports what is true of it.
 *
 * It does for the core what broker.ts and the HTTP API do in production: effects become questions to Postgres, messages and timers,
 * and answers become inputs. Nothing of it outlives a boot but the snapshots, which lie outside its machine.
 */

import { newBrokerCore, step } from "../../src/broker/broker-core.ts";
import type {
  BrokerEffect,
  BrokerInput,
  CommandAnswer,
  LeaseAnswer,
  OpenedNodeMessage,
  PageAnswer,
  ReceiptAnswer,
} from "../../src/broker/broker-messages.ts";
import type { Presence } from "../../src/broker/leader/peers.ts";
import { neededAfter } from "../../src/broker/snapshots/needed-after.ts";
import {
  type BootId,
  type BrokerId,
  type CommandRequest,
  type CommandResult,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  type NodeId,
} from "../../src/events/index.ts";
import type { PageOutcome, Receipt } from "../../src/replication/index.ts";
import type { BrokerPort, SaidAnswer, Unavailable } from "./broker-port.ts";
import { type Hop, Routes } from "./broker-routes.ts";
import { readsOf } from "./builds.ts";
import type { BrokerFace, ReceiptQuestion } from "./cast.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import type { SimFact } from "./facts.ts";
import type { NatsClient, NatsModel } from "./nats-model.ts";
import type { PostgresModel } from "./postgres-model.ts";
import type { Alarm, SimProcess } from "./process.ts";
import { letGo } from "./retention.ts";
import { load, type Saved, save } from "./saved-projection.ts";
import { SimLog } from "./sim-log.ts";
import { askSimLog } from "./sim-log-calls.ts";
import type { SimOptions } from "./swarm.ts";
import type { World } from "./world.ts";

/** Snapshots that brokers have made, newest last: where they lie outlives every broker. */
export type SnapshotStore = { readonly saves: Saved[] };

export type SimBrokerOptions = Readonly<{
  world: World;
  options: SimOptions;
  postgres: PostgresModel;
  nats: NatsModel<SimEnvelope>;
  seals: Seals;
  store: SnapshotStore;
  cluster: string;
  secret: Uint8Array;
  name: string;
  broker: BrokerId;
  region: string;
  build: string;
  /** All of them, this one too. */
  brokers: () => readonly SimBroker[];
}>;

/** A broker as clients, nodes and other brokers meet it. */
export type SimBroker = BrokerFace &
  BrokerPort &
  Readonly<{
    /** What another broker hands on: answered here, or not at all. */
    handedOn: Readonly<{
      submit: BrokerPort["submit"];
      say: BrokerPort["say"];
      receipt: BrokerFace["receipt"];
      /** Another broker says that it is there. */
      present: (presence: Presence) => void;
    }>;
    /** Saves what it has folded, where all brokers find it. @returns a word on it; undefined: it has nothing to save */
    takeSnapshot: () => string | undefined;
    /** Lets go of old events, if it leads. @see letGo */
    truncate: (much: number) => string | undefined;
  }>;

const savesMax = 6;
const sizesEveryMs = 2_000;
/** As the HTTP API has them. */
const withinMs = { submit: 8_000, say: 2_000, receiptGrace: 3_000 };
const unavailable: Unavailable = { type: "unavailable" };

/** A process of the world, made down. */
export function addSimBroker(options: SimBrokerOptions): SimBroker {
  const { world, name, broker, region, build } = options;
  let running: Boot | undefined;
  const process = world.addProcess({
    name,
    region,
    identity: { role: "broker", node: broker as string as NodeId, lessee: null, build, unknownTypes: [] },
    start(started) {
      running = new Boot(options, started);
      running.start();
    },
  });
  const boot = (): Boot | undefined => (process.isUp ? running : undefined);
  const notHere = (commandId: CommandRequest["commandId"]): CommandResult => ({
    ...{ type: "unavailable", commandId, message: "no broker leads that can be reached", retryAfterMs: 1_000 },
  });
  const submitted = (hop: Hop): BrokerPort["submit"] => {
    return (request, answered) =>
      boot()?.submit(hop, request, (result) => answered(result ?? notHere(request.commandId)));
  };
  const said = (hop: Hop): BrokerPort["say"] => {
    return (envelope, answered) => boot()?.say(hop, envelope, (answer) => answered(answer ?? unavailable));
  };
  const asked = (hop: Hop): BrokerFace["receipt"] => {
    return (question, answered) => boot()?.receipt(hop, question, answered);
  };
  return {
    process,
    leads: () => boot()?.leads === true,
    submit: submitted("direct"),
    say: said("direct"),
    receipt: asked("direct"),
    handedOn: {
      ...{ submit: submitted("forwarded"), say: said("forwarded"), receipt: asked("forwarded") },
      present: (presence) => boot()?.present(presence),
    },
    read: (question, answered) => boot()?.read(question, answered),
    snapshot: (answered) => boot()?.snapshot(answered),
    takeSnapshot: () => boot()?.takeSnapshot(),
    truncate: (much) => boot()?.truncate(much),
  };
}

/** One boot of a broker. */
class Boot {
  readonly #options: SimBrokerOptions;
  readonly #process: SimProcess;
  readonly #boot: BootId;
  readonly #log: SimLog;
  readonly #alarm: Alarm;
  readonly #routes: Routes;
  readonly #inputs: BrokerInput[] = [];
  readonly #commands = new Map<number, (answer: CommandAnswer) => void>();
  readonly #leases = new Map<number, (answer: LeaseAnswer) => void>();
  readonly #receipts = new Map<number, (answer: ReceiptAnswer) => void>();
  readonly #pages = new Map<number, (answer: PageAnswer) => void>();
  #core: ReturnType<typeof newBrokerCore>;
  #nats: NatsClient<SimEnvelope> | undefined;
  #asks = 0;
  /** Batches made ahead that have been told of. */
  #ahead = { sent: 0, thrownAway: 0 };
  /** What has been told of the core so far. */
  #told: Readonly<{ leading: Epoch | null; applied: ReturnType<Boot["applied"]>; restarts: number }>;
  #rebuilding = false;
  /** What is being built anew was begun from this snapshot. */
  #base: Link = genesis;
  /** Of the snapshots that there are, so many of the newest were of no use. */
  #useless = 0;

  constructor(options: SimBrokerOptions, process: SimProcess) {
    const { world, name, secret } = options;
    const { lease } = options.options;
    this.#options = options;
    this.#process = process;
    this.#boot = process.bootId as BootId;
    this.#log = new SimLog(process, options.postgres);
    this.#alarm = process.alarm(() => this.#feed({ type: "woke", at: process.moment() }));
    this.#routes = new Routes(world, process, {
      self: name,
      leaderName: () => this.#core.leaderSeen?.brokerUrl ?? undefined,
      brokers: options.brokers,
    });
    const random = world.random(`broker/${name}`);
    this.#core = newBrokerCore({
      ...{ brokerId: options.broker, brokerUrl: name, exclusive: false, secrets: [secret], lease },
      ...{ takeoverMs: lease.takeoverMs, writeTimeoutMs: 5_000, version: process.identity.build },
      reads: readsOf(process.identity.build),
      ...{ duties: [], expirySweepMs: 10_000, commandSweepMs: 3_600_000 },
      random: (bytes) => random.bytes(bytes),
    });
    this.#told = { leading: null, applied: this.applied(), restarts: 0 };
  }

  get leads(): boolean {
    return this.#core.leadership !== null;
  }

  applied() {
    return this.#core.ledger.applied;
  }

  start(): void {
    this.#feed({ type: "started", at: this.#process.moment() });
    this.#nats = this.#options.nats.client({
      process: this.#process,
      onMessage: (envelope) => this.#deliver(envelope),
      onConnected: () => {
        this.#nats?.ensureStream();
        this.#feed({ type: "fanoutConnected", at: this.#process.moment() });
      },
      onDisconnected: () => {},
    });
    this.#tellSizes();
  }

  // --- what is asked of it

  submit(hop: Hop, request: CommandRequest, answered: (result: CommandResult | undefined) => void): void {
    this.#routes.route<CommandResult>({
      ...{ hop, withinMs: withinMs.submit, answered },
      isHere: () => this.#core.takesCommands,
      here: (waitMs, reply) => {
        const id = this.#ask(this.#commands, (answer) => reply(answer.type === "moved" ? "moved" : answer));
        this.#feed({ type: "submitted", at: this.#process.moment(), id, request, waitMs });
      },
      there: (broker, reply) => broker.handedOn.submit(request, reply),
      isUsable: (result) => result.type !== "unavailable",
      isHopeless: () => this.#core.isHopeless,
    });
  }

  say(hop: Hop, envelope: SimEnvelope, answered: (answer: SaidAnswer | undefined) => void): void {
    this.#routes.route<SaidAnswer>({
      ...{ hop, withinMs: withinMs.say, answered },
      isHere: () => this.leads,
      here: (_, reply) => this.#take(envelope, reply),
      there: (broker, reply) => broker.handedOn.say(envelope, reply),
      isUsable: (answer) => answer.type !== "unavailable",
      isHopeless: () => false,
    });
  }

  receipt(hop: Hop, question: ReceiptQuestion, answered: (receipt: Receipt | undefined) => void): void {
    const { target, wait, timeoutMs, region, receipt: number } = question;
    const deadline = this.#process.clock.monotonic() + timeoutMs;
    const left = (): number => Math.max(0, deadline - this.#process.clock.monotonic());
    this.#routes.route<Receipt>({
      ...{ hop, withinMs: timeoutMs + withinMs.receiptGrace, answered },
      isHere: () => this.leads,
      here: (_, reply) => {
        const by = this.#core.leadership;
        const id = this.#ask(this.#receipts, (answer) => {
          if (answer.type === "unavailable") return reply(this.#isStill(by) ? undefined : "moved");
          this.#report({ type: "receipt-answered", ...this.#at(), receipt: number, answer: answer.receipt, region });
          reply(answer.receipt);
        });
        const options = { wait, timeoutMs: left(), ...(region === null ? {} : { region }) };
        this.#feed({ type: "receiptAsked", at: this.#process.moment(), id, target, options });
      },
      there: (broker, reply) =>
        broker.handedOn.receipt({ ...question, timeoutMs: left() }, (receipt) => {
          if (receipt !== undefined) reply(receipt);
        }),
      isUsable: () => true,
      isHopeless: () => false,
    });
  }

  read(...[{ after, limit, waitMs, by }, answered]: Parameters<BrokerPort["read"]>): void {
    const id = this.#ask(this.#pages, (answer) => {
      if (answer.type !== "unavailable") this.#tellPage(answer, { after, by });
      answered(answer);
    });
    this.#feed({ type: "pageAsked", at: this.#process.moment(), id, after, limit, waitMs });
  }

  present(presence: Presence): void {
    this.#feed({ type: "brokerPresent", at: this.#process.moment(), presence });
  }

  /** The newest one that is of the history that we know. */
  snapshot(...[answered]: Parameters<BrokerPort["snapshot"]>): void {
    const found = this.#options.store.saves.findLast(({ link }) => {
      const standing = this.#core.ledger.standingOf(link);
      return standing === "held" || standing === "forgotten";
    });
    answered(found === undefined ? null : load(found));
  }

  takeSnapshot(): string | undefined {
    const { projection } = this.#core.ledger;
    if (projection.guessed !== undefined || projection.applied.position === 0) return undefined;
    const saved = save(this.#core.ledger.savepoint());
    this.#report({ type: "snapshot-built", ...this.#at(), link: saved.link, digest: saved.digest });
    const { saves } = this.#options.store;
    saves.push(saved);
    if (saves.length > savesMax) saves.shift();
    return `${this.#options.name} takes a snapshot at ${saved.link.position}`;
  }

  truncate(much: number): string | undefined {
    const { leadership, ledger } = this.#core;
    if (leadership === null) return undefined;
    return letGo({
      ...{ log: this.#log, leadership, much, snapshots: this.#options.store.saves },
      neededAfter: neededAfter(this.#core.standings(this.#process.moment()), ledger.applied.position),
    });
  }

  #isStill(by: Readonly<{ epoch: Epoch; incarnation: Incarnation }> | null): boolean {
    const now = this.#core.leadership;
    return by !== null && now !== null && now.epoch === by.epoch && now.incarnation === by.incarnation;
  }

  #ask<Answer>(asks: Map<number, (answer: Answer) => void>, answered: (answer: Answer) => void): number {
    this.#asks += 1;
    asks.set(this.#asks, answered);
    return this.#asks;
  }

  // --- the core

  #feed(input: BrokerInput): void {
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    for (let next = this.#inputs[0]; next !== undefined; next = this.#inputs[0]) {
      const [core, effects] = step(this.#core, next);
      this.#core = core;
      this.#tell();
      for (const effect of effects) this.#perform(effect);
      this.#inputs.shift();
    }
  }

  #perform(effect: BrokerEffect): void {
    switch (effect.type) {
      case "wake":
        this.#alarm.set(effect.at as Parameters<Alarm["set"]>[0]);
        return;
      case "log": {
        const { id, call } = effect;
        this.#tellAppend(call);
        askSimLog(this.#log, call, publicKeyOf, (outcome) =>
          this.#feed({ type: "logAnswered", at: this.#process.moment(), id, outcome }),
        );
        return;
      }
      case "commandAnswered":
        return answer(this.#commands, effect);
      case "leaseAnswered":
        return answer(this.#leases, effect);
      case "receiptAnswered":
        return answer(this.#receipts, effect);
      case "pageAnswered":
        return answer(this.#pages, effect);
      case "publish":
        return this.#publish(effect);
      case "loadSnapshot":
        return this.#loadSnapshot(effect);
      case "reasserted": {
        const { lost, stream, outcome } = effect;
        return this.#report({ type: "reasserted", ...this.#at(), lost, stream, outcome });
      }
      case "journal":
        return this.#journal(effect);
      case "present": {
        const { presence } = effect;
        return this.#routes.tellLeader((leader) => leader.handedOn.present(presence));
      }
      case "runDuty":
      case "endDuty":
      case "seatChanged":
      case "stopped":
        return;
    }
  }

  #publish({ by, batch, how }: Extract<BrokerEffect, { type: "publish" }>): void {
    const { previous, last } = batch;
    this.#report({
      type: "published",
      ...this.#at(),
      how: how === "commit" ? "core" : "relayed",
      ...by,
      previous,
      last,
    });
    const sent = this.#nats?.publish(this.#seal(by, { kind: "batch", batch })) ?? "dropped";
    if (sent === "dropped") this.#feed({ type: "publishDropped", at: this.#process.moment(), last });
  }

  #loadSnapshot({ id, first }: Extract<BrokerEffect, { type: "loadSnapshot" }>): void {
    const { saves } = this.#options.store;
    const found = saves[saves.length - 1 - (this.#useless % Math.max(1, saves.length))];
    this.#useless += 1; // if it was of another history, the next one is tried
    const at = this.#process.moment();
    const canRead = found !== undefined && found.level <= readsOf(this.#process.identity.build);
    if (!canRead || found.link.position < first - 1)
      return this.#feed({ type: "snapshotFailed", at, id, reason: "there is none" });
    this.#base = found.link;
    this.#feed({ type: "snapshotLoaded", at, id, snapshot: load(found) });
  }

  #journal({ level, message, fields }: Extract<BrokerEffect, { type: "journal" }>): void {
    const error = "err" in fields ? fields.err : undefined;
    if (level === "error" && message.startsWith("a step of the broker's core failed")) throw error;
    const { world, name } = this.#options;
    if (!world.trace.keeps) return;
    const told = Object.entries(fields).map(
      ([key, value]) => `${key}=${value instanceof Error ? value.message : JSON.stringify(value)}`,
    );
    world.note(name, `${level}: ${message} ${told.join(" ")}`);
  }

  // --- nodes and other brokers

  /** A node's message, for the leader that we are. */
  #take(envelope: SimEnvelope, reply: (answer: SaidAnswer) => void): void {
    const message = this.#open(envelope);
    const by = this.#core.leadership;
    if (message.type === "refused")
      this.#report({
        ...{ type: "message-refused", ...this.#at(), kind: envelope.payload.kind, reason: message.reason },
      });
    if (message.type === "renew" && by !== null) {
      const { node, boot, nonce, replaces } = message.renew;
      this.#report({ type: "renew-arrived", ...this.#at(), node, boot, nonce, epoch: by.epoch });
      if (replaces !== null) this.#report({ type: "boot-left", ...this.#at(), node, boot: replaces, how: "replaced" });
    }
    const id = this.#ask(this.#leases, (answer) => reply(this.#said(message, answer)));
    this.#feed({ type: "nodeSaid", at: this.#process.moment(), id, origin: "remote", message });
  }

  #said(message: OpenedNodeMessage, answer: LeaseAnswer): SaidAnswer {
    switch (answer.type) {
      case "granted": {
        const { grant, by } = answer;
        const { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs } = grant;
        const named = { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs };
        this.#report({ type: "grant-sent", ...this.#at(), ...named, own: false, agedMs: null });
        return { type: "grant", envelope: this.#seal(by, { kind: "grant", grant }) };
      }
      case "taken":
        if (message.type === "goodbye") {
          const { node, boot } = message.goodbye;
          this.#report({ type: "boot-left", ...this.#at(), node, boot, how: "goodbye" });
        }
        return { type: "taken" };
      case "refused":
        if (message.type === "renew") {
          const { node, boot } = message.renew;
          this.#report({ type: "grant-refused", ...this.#at(), node, boot, reason: answer.reason });
        }
        return { type: "refused", reason: answer.reason };
      case "unavailable":
        return unavailable;
    }
  }

  #open(envelope: SimEnvelope): OpenedNodeMessage {
    const { seals, cluster } = this.#options;
    const { from, payload } = envelope;
    if (!seals.isAuthentic(envelope, cluster)) return { type: "refused", from, reason: "bad signature" };
    switch (payload.kind) {
      case "renew":
        return { type: "renew", from, renew: payload.renew };
      case "confirm":
        return { type: "confirm", from, confirm: payload.confirm };
      case "goodbye":
        return { type: "goodbye", from, goodbye: payload.goodbye };
      default:
        return { type: "refused", from, reason: `a ${payload.kind} is not for a broker to take` };
    }
  }

  #deliver(envelope: SimEnvelope): void {
    const { seals, cluster } = this.#options;
    const { from, payload } = envelope;
    const at = this.#process.moment();
    if (!seals.isAuthentic(envelope, cluster) || from.role !== "broker") {
      this.#report({ type: "message-refused", ...this.#at(), kind: payload.kind, reason: "bad signature" });
      return this.#feed({ type: "forgeryHeard", at, reason: "bad signature" });
    }
    if (from.boot === this.#boot) return;
    this.#feed({ type: "brokerHeard", at, epoch: from.epoch, incarnation: from.incarnation });
  }

  #seal(by: Readonly<{ epoch: Epoch; incarnation: Incarnation }>, payload: SimEnvelope["payload"]): SimEnvelope {
    const { seals, cluster, broker } = this.#options;
    return seals.seal({ cluster, role: "broker", name: broker, boot: this.#boot, ...by }, payload);
  }

  // --- what it tells

  /** What has changed with the last step, before any of its effects can be seen. */
  #tell(): void {
    this.#tellAhead();
    const told = this.#told;
    const leading = this.#core.leadership?.epoch ?? null;
    const applied = this.applied();
    const { restarts } = this.#core.ledger;
    if (leading === told.leading && applied === told.applied && restarts === told.restarts) return;
    this.#told = { leading, applied, restarts };
    if (told.leading !== null && leading !== told.leading)
      this.#report({ type: "leading", ...this.#at(), epoch: told.leading, leading: false });
    if (leading !== null && leading !== told.leading)
      this.#report({ type: "leading", ...this.#at(), epoch: leading, leading: true });
    const here = { ...this.#at(), node: this.#options.broker as string as NodeId, boot: this.#boot };
    if (restarts !== told.restarts) {
      this.#rebuilding = true;
      this.#base = genesis;
      this.#report({ type: "rebuilding", ...here, lost: told.applied });
      if (applied.position === 0) return;
    } else if (applied.position === told.applied.position) return;
    const digest = this.#core.ledger.projection.digest();
    if (this.#rebuilding) this.#report({ type: "rebuilt", ...here, to: applied, digest, base: this.#base });
    else this.#report({ type: "applied", ...here, from: told.applied, to: applied, digest });
    this.#rebuilding = false;
  }

  #tellAhead(): void {
    const { batchesAhead: sent, batchesThrownAway: thrownAway } = this.#core.counters;
    if (sent > this.#ahead.sent) this.#report({ type: "made-ahead", ...this.#at(), became: "sent" });
    if (thrownAway > this.#ahead.thrownAway) this.#report({ type: "made-ahead", ...this.#at(), became: "thrown-away" });
    this.#ahead = { sent, thrownAway };
  }

  #tellAppend(call: Extract<BrokerEffect, { type: "log" }>["call"]): void {
    if (call.op !== "append") return;
    this.#report({ type: "append-sent", ...this.#at(), previous: call.batch.previous });
    for (const { recorded } of call.batch.entries)
      if (recorded.event.type === "UpgradeFinalized")
        this.#report({ type: "finalizing", ...this.#at(), level: recorded.event.level });
  }

  #tellPage(outcome: PageOutcome, { after, by }: Readonly<{ after: ReturnType<Boot["applied"]>; by: string }>): void {
    const page = outcome.type === "page" ? outcome.page : undefined;
    const head =
      outcome.type === "truncated" ? after : (page?.head ?? (outcome.type === "forked" ? outcome.head : after));
    const count = page?.entries.length ?? 0;
    const served = { to: by, after, last: page?.last ?? after, count, head, outcome: outcome.type };
    this.#report({ type: "page-served", ...this.#at(), ...served });
  }

  #tellSizes(): void {
    this.#process.after(sizesEveryMs, () => {
      const { open } = this.#core.commands;
      const sizes = [
        ["commands without an outcome", open, 10_000],
        ["readers", this.#pages.size, 20_000],
        ["receipts that are waited for", this.#receipts.size, 10_000],
      ] as const;
      for (const [what, size, sizeMax] of sizes)
        if (size > 0) this.#report({ type: "sized", ...this.#at(), what, size, sizeMax });
      this.#tellSizes();
    });
  }

  #at(): Readonly<{ at: number; process: string }> {
    return { at: this.#options.world.now, process: this.#options.name };
  }

  #report(fact: SimFact): void {
    this.#options.world.report(fact);
  }
}

function answer<Answer>(
  asks: Map<number, (answer: Answer) => void>,
  { id, answer }: Readonly<{ id: number; answer: Answer }>,
): void {
  const answered = asks.get(id);
  asks.delete(id);
  answered?.(answer);
}

/** Nobody signs anything here: a seal is being known to `Seals`. */
function publicKeyOf(incarnation: Incarnation): string {
  return incarnation;
}

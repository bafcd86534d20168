/**
 * One boot of a simulated broker: runs the real broker core in a process of the world.
 *
 * Like broker.ts and the HTTP API in production, it turns effects into Postgres requests, messages and timers, and
 * turns answers into inputs.
 */

import { newBrokerCore, step } from "../../src/broker/broker-core.ts";
import type {
  BrokerEffect,
  BrokerInput,
  CommandAnswer,
  DutyRun,
  LeaseAnswer,
  OpenedNodeMessage,
  PageAnswer,
  Presence,
  ReceiptAnswer,
} from "../../src/broker/core/messages.ts";
import { ProvenReplacements } from "../../src/broker/leader/lease-messages.ts";
import { retentionFloor } from "../../src/broker/snapshots/snapshot-service.ts";
import type {
  BootId,
  CommandRequest,
  CommandResult,
  Epoch,
  Incarnation,
  Link,
  NodeId,
  Position,
} from "../../src/events/index.ts";
import type { PageOutcome, Receipt } from "../../src/replication/index.ts";
import type { Durability } from "../../src/replication/log/index.ts";
import type { ReceiptRequest } from "./actors.ts";
import type { BrokerPort, NodeMessageAnswer, Unavailable } from "./broker-port.ts";
import { BrokerReporter } from "./broker-reporter.ts";
import { type Hop, Routes } from "./broker-routes.ts";
import { readsOf } from "./builds.ts";
import { openNodeMessage, type SimEnvelope } from "./envelopes.ts";
import { sentRefusal } from "./lease-refusals.ts";
import type { NatsClient } from "./nats-model.ts";
import type { Alarm, SimProcess } from "./process.ts";
import { load } from "./saved-projection.ts";
import type { SimBrokerOptions } from "./sim-broker.ts";
import { dutyTimesOf, SimDuties } from "./sim-duties.ts";
import { SimLog } from "./sim-log.ts";
import { callSimLog } from "./sim-log-calls.ts";
import { type BrokerSave, SnapshotDisk } from "./snapshot-disk.ts";

const copyEveryMs = 1_500;
/** Timeouts (ms), the same as those of the HTTP API. */
const withinMs = { submit: 8_000, sendMessage: 2_000, receiptGrace: 3_000 };
export const unavailable: Unavailable = { type: "unavailable" };

export class BrokerBoot {
  readonly #options: SimBrokerOptions;
  readonly #process: SimProcess;
  readonly #proven = new ProvenReplacements();
  readonly #boot: BootId;
  readonly #log: SimLog;
  readonly #alarm: Alarm;
  readonly #routes: Routes;
  readonly #reporter: BrokerReporter;
  readonly #disk: SnapshotDisk;
  readonly #duties: SimDuties;
  readonly #inputs: BrokerInput[] = [];
  readonly #commands = new Map<number, (answer: CommandAnswer) => void>();
  readonly #leases = new Map<number, (answer: LeaseAnswer) => void>();
  readonly #receipts = new Map<number, (answer: ReceiptAnswer) => void>();
  readonly #pages = new Map<number, (answer: PageAnswer) => void>();
  #core: ReturnType<typeof newBrokerCore>;
  #nats: NatsClient<SimEnvelope> | undefined;
  #pending = 0;

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
      leaderName: () => this.#core.observedLeader?.brokerUrl ?? undefined,
      brokers: options.brokers,
    });
    const random = world.random(`broker/${name}`);
    this.#core = newBrokerCore({
      ...{
        brokerId: options.broker,
        region: process.region,
        brokerUrl: name,
        exclusive: false,
        secrets: [secret],
        lease,
      },
      ...{ takeoverMs: lease.takeoverMs, writeTimeoutMs: 5_000, version: process.identity.build },
      reads: readsOf(process.identity.build),
      ...(options.options.startsNew ? { newLogLevel: readsOf(process.identity.build) } : {}),
      recentEventsMax: options.options.recentEventsMax,
      ...(options.options.outside.massChanges === null ? {} : { massChange: options.options.outside.massChanges }),
      ...{ duties: dutyTimesOf(options.options), expirySweepMs: 10_000, commandSweepMs: 3_600_000 },
      random: (bytes) => random.bytes(bytes),
    });
    this.#reporter = new BrokerReporter({
      ...{ world, process, node: options.broker as string as NodeId, boot: this.#boot, core: () => this.#core },
      sizes: () => [
        ["commands without an outcome", this.#core.commands.open, 10_000],
        ["readers", this.#pages.size, 20_000],
        ["receipts that are waited for", this.#receipts.size, 10_000],
      ],
    });
    this.#disk = new SnapshotDisk({
      ...{ world, process, disk: options.disk, log: this.#log, reads: readsOf(process.identity.build) },
      others: () => options.brokers().filter((broker) => broker.process !== process),
    });
    this.#duties = new SimDuties({
      ...{ world, process, log: this.#log, disk: this.#disk, reporter: this.#reporter },
      ...{ cluster: options.cluster, rules: options.rules },
      ledger: () => this.#core.state,
      neededAfter: () => {
        const floor = retentionFloor(this.#core.standings(process.moment()), this.#core.state.applied.position);
        return Math.min(floor, this.#duties.neededAfter ?? floor) as Position;
      },
      submit: (run, request, answered) => this.#submitAsDuty(run, request, answered),
      submitToLeader: (request, answered) => this.submit("direct", request, answered),
      leads: (run) => this.#leadsSince(run),
      ...{ provider: options.provider, directory: options.directory, signals: options.signals, secret },
      readOwn: (after, limit, answered) => this.#readOwn(after, limit, answered),
      ended: (run, outcome) => this.#feed({ type: "dutyEnded", at: process.moment(), run, outcome }),
    });
  }

  get leads(): boolean {
    return this.#core.leadership !== null;
  }

  get level(): number {
    return this.#core.state.projection.level;
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
    this.#reporter.reportSizesPeriodically();
    this.#copySnapshotsPeriodically();
  }

  // --- requests

  submit(hop: Hop, request: CommandRequest, answered: (result: CommandResult | undefined) => void): void {
    this.#routes.route<CommandResult>({
      ...{ hop, withinMs: withinMs.submit, answered },
      isHere: () => this.#core.acceptsCommands,
      here: (waitMs, reply) => {
        const id = this.#addPending(this.#commands, (answer) =>
          reply(answer.type === "notLeader" ? "notLeader" : answer),
        );
        this.#feed({ type: "submitted", at: this.#process.moment(), id, request, waitMs });
      },
      there: (broker, reply) => broker.forwarded.submit(request, reply),
      isUsable: (result) => result.type !== "unavailable",
      isStoreUnreachable: () => this.#core.isStoreUnreachable,
    });
  }

  sendMessage(
    { hop, through }: Readonly<{ hop: Hop; through: string | null }>,
    envelope: SimEnvelope,
    answered: (answer: NodeMessageAnswer | undefined) => void,
  ): void {
    this.#routes.route<NodeMessageAnswer>({
      ...{ hop, withinMs: withinMs.sendMessage, answered },
      isHere: () => this.leads,
      here: (_, reply) => this.#handleNodeMessage(envelope, { through, reply }),
      there: (broker, reply) => broker.forwarded.sendMessage(envelope, reply, through ?? undefined),
      isUsable: (answer) => answer.type !== "unavailable",
      isStoreUnreachable: () => false,
    });
  }

  receipt(hop: Hop, receiptRequest: ReceiptRequest, answered: (receipt: Receipt | undefined) => void): void {
    const { target, wait, timeoutMs, region, receipt: number } = receiptRequest;
    const deadline = this.#process.clock.monotonic() + timeoutMs;
    const left = (): number => Math.max(0, deadline - this.#process.clock.monotonic());
    this.#routes.route<Receipt>({
      ...{ hop, withinMs: timeoutMs + withinMs.receiptGrace, answered },
      isHere: () => this.leads,
      here: (_, reply) => {
        const by = this.#core.leadership;
        const id = this.#addPending(this.#receipts, (answer) => {
          if (answer.type === "unavailable") return reply(this.#leadsSince(by) ? undefined : "notLeader");
          const details = { receipt: number, answer: answer.receipt, region };
          this.#reporter.report({ type: "receipt-answered", ...this.#reporter.at(), ...details });
          const signed = (durability: Durability | null): void => {
            const { receipt } = answer;
            const nodeAnswer = { receipt: number, answer: receipt, durability };
            this.#reporter.report({ type: "receipt-signed", ...this.#reporter.at(), ...nodeAnswer });
            reply(receipt);
          };
          if (answer.receipt.link === null) signed(null);
          else this.#log.durabilityOf(answer.receipt.link, signed);
        });
        const options = { wait, timeoutMs: left(), ...(region === null ? {} : { region }) };
        this.#feed({ type: "receiptRequested", at: this.#process.moment(), id, target, options });
      },
      there: (broker, reply) =>
        broker.forwarded.receipt({ ...receiptRequest, timeoutMs: left() }, (receipt) => {
          if (receipt !== undefined) reply(receipt);
        }),
      isUsable: () => true,
      isStoreUnreachable: () => false,
    });
  }

  read(...[{ after, limit, waitMs, by }, answered]: Parameters<BrokerPort["read"]>): void {
    const id = this.#addPending(this.#pages, (answer) => {
      if (answer.type !== "unavailable") this.#reporter.reportPage(answer, { after, by });
      answered(answer);
    });
    this.#feed({ type: "pageRequested", at: this.#process.moment(), id, after, limit, waitMs });
  }

  #readOwn(after: Link, limit: number, answered: (outcome: PageOutcome | undefined) => void): void {
    const id = this.#addPending(this.#pages, (answer) => answered(answer.type === "unavailable" ? undefined : answer));
    this.#feed({ type: "pageRequested", at: this.#process.moment(), id, after, limit, waitMs: 0 });
  }

  present(presence: Presence): void {
    this.#feed({ type: "presenceReceived", at: this.#process.moment(), presence });
  }

  snapshot(...[answered]: Parameters<BrokerPort["snapshot"]>): void {
    const found = this.newestSave();
    answered(found === undefined ? null : load(found));
  }

  /**
   * The newest saved snapshot that is on the known history. The broker that fetches it verifies each chunk and rejects
   * damaged ones.
   */
  newestSave(): BrokerSave | undefined {
    const newest = this.#disk.saves.find(({ link }) => ["onChain", "unknown"].includes(this.#core.state.locate(link)));
    return newest !== undefined && this.#disk.isWhole(newest) ? newest : undefined;
  }

  /** Requests a snapshot if this broker leads. The snapshot duty takes it on its next turn. */
  requestSnapshot(): string | undefined {
    const { position } = this.#core.state.applied;
    if (!this.leads) return undefined;
    this.#duties.snapshots.requestSnapshot(position);
    return `${this.#options.name} takes a snapshot at ${position} or later`;
  }

  /** A broker that does not lead copies the snapshots of the leader. */
  #copySnapshotsPeriodically(): void {
    this.#process.after(copyEveryMs, () => {
      if (this.leads) this.#copySnapshotsPeriodically();
      else this.#disk.refresh(() => this.#copySnapshotsPeriodically());
    });
  }

  #submitAsDuty(run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void): void {
    const id = this.#addPending(this.#commands, (answer) => {
      if (answer.type === "notLeader") throw new Error("a duty's command has no other leader to go to");
      answered(answer);
    });
    this.#feed({ type: "dutySubmitted", at: this.#process.moment(), id, request, run });
  }

  #leadsSince(by: Readonly<{ epoch: Epoch; incarnation: Incarnation }> | null): boolean {
    const now = this.#core.leadership;
    return by !== null && now !== null && now.epoch === by.epoch && now.incarnation === by.incarnation;
  }

  #addPending<Answer>(pending: Map<number, (answer: Answer) => void>, answered: (answer: Answer) => void): number {
    this.#pending += 1;
    pending.set(this.#pending, answered);
    return this.#pending;
  }

  // --- the core

  #feed(input: BrokerInput): void {
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    for (let next = this.#inputs[0]; next !== undefined; next = this.#inputs[0]) {
      const [core, effects] = step(this.#core, next);
      this.#core = core;
      this.#reporter.reportStep();
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
        this.#reporter.reportAppend(call);
        callSimLog(this.#log, call, publicKeyOf, (outcome) =>
          this.#feed({ type: "logAnswered", at: this.#process.moment(), id, outcome }),
        );
        return;
      }
      case "commandAnswered":
        answer(this.#commands, effect);
        return;
      case "leaseAnswered":
        answer(this.#leases, effect);
        return;
      case "receiptAnswered":
        answer(this.#receipts, effect);
        return;
      case "pageAnswered":
        answer(this.#pages, effect);
        return;
      case "publish":
        this.#publish(effect);
        return;
      case "loadSnapshot":
        this.#loadSnapshot(effect);
        return;
      case "reasserted": {
        const { lost, stream, outcome } = effect;
        this.#reporter.report({ type: "reasserted", ...this.#reporter.at(), lost, stream, outcome });
        return;
      }
      case "logger":
        this.#writeLog(effect);
        return;
      case "sendGossip": {
        const { presence } = effect;
        this.#routes.sendToLeader((leader) => leader.forwarded.present(presence));
        return;
      }
      case "runDuty":
        this.#duties.run(effect.run);
        return;
      case "endDuty":
        this.#duties.end(effect.run);
        return;
      case "reassert":
        this.#reassert(effect);
        return;
      case "leaderChanged":
      case "stopped":
        return;
    }
  }

  #reassert({ id, commandId, events }: Extract<BrokerEffect, { type: "reassert" }>): void {
    const request = { commandId, actor: "system", command: { type: "reassertTightenings", events } } as const;
    this.submit("direct", request, (result) => {
      const answer = result === undefined || result.type === "unavailable" ? "failed" : "answered";
      this.#feed({ type: "reassertAnswered", at: this.#process.moment(), id, answer });
    });
  }

  #publish({ by, batch, how }: Extract<BrokerEffect, { type: "publish" }>): void {
    const { previous, last } = batch;
    const details = { how: how === "commit" ? ("core" as const) : ("relayed" as const), ...by, previous, last };
    this.#reporter.report({ type: "published", ...this.#reporter.at(), ...details });
    const sent = this.#nats?.publish(this.#seal(by, { kind: "batch", batch })) ?? "dropped";
    if (sent === "dropped") this.#feed({ type: "publishDropped", at: this.#process.moment(), last });
  }

  #loadSnapshot({ id, first }: Extract<BrokerEffect, { type: "loadSnapshot" }>): void {
    this.#disk.load(first, (snapshot) => {
      const at = this.#process.moment();
      if (snapshot === null) return this.#feed({ type: "snapshotFailed", at, id, reason: "there is none" });
      this.#reporter.snapshotLoaded(snapshot.link);
      this.#feed({ type: "snapshotLoaded", at, id, snapshot });
    });
  }

  #writeLog({ level, message, fields }: Extract<BrokerEffect, { type: "logger" }>): void {
    const error = "err" in fields ? fields.err : undefined;
    if (level === "error" && message.startsWith("a step of the broker's core failed")) throw error;
    const { world, name } = this.#options;
    if (!world.trace.keeps) return;
    const details = Object.entries(fields).map(
      ([key, value]) => `${key}=${value instanceof Error ? value.message : JSON.stringify(value)}`,
    );
    world.note(name, `${level}: ${message} ${details.join(" ")}`);
  }

  // --- nodes and other brokers

  /** Handles a node's message as the leader. */
  #handleNodeMessage(
    envelope: SimEnvelope,
    { through, reply }: Readonly<{ through: string | null; reply: (answer: NodeMessageAnswer) => void }>,
  ): void {
    const message = openNodeMessage(envelope, { ...this.#options, proven: this.#proven });
    const by = this.#core.leadership;
    if (message.type === "refused") this.#reporter.reportRefusal(envelope.payload.kind, message.reason);
    if (message.type === "renew" && by !== null) {
      const { node, boot, nonce, replaces } = message.renew;
      this.#reporter.report({ type: "renew-arrived", ...this.#reporter.at(), node, boot, nonce, epoch: by.epoch });
      if (replaces !== null)
        this.#reporter.report({ type: "boot-left", ...this.#reporter.at(), node, boot: replaces, how: "replaced" });
    }
    const id = this.#addPending(this.#leases, (answer) => reply(this.#nodeAnswer(message, answer)));
    this.#feed({ type: "nodeMessage", at: this.#process.moment(), id, origin: "remote", through, message });
  }

  #nodeAnswer(message: OpenedNodeMessage, answer: LeaseAnswer): NodeMessageAnswer {
    switch (answer.type) {
      case "granted": {
        const { grant, by } = answer;
        const { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs } = grant;
        const named = { node, boot, nonce, epoch, incarnation, head, deltaMs, drift, windowMs };
        this.#reporter.report({ type: "grant-sent", ...this.#reporter.at(), ...named, own: false, agedMs: null });
        return { type: "grant", envelope: this.#seal(by, { kind: "grant", grant }) };
      }
      case "taken":
        if (message.type === "goodbye") {
          const { node, boot } = message.goodbye;
          this.#reporter.report({ type: "boot-left", ...this.#reporter.at(), node, boot, how: "goodbye" });
        }
        return { type: "taken" };
      case "refused":
        if (message.type === "renew") {
          const { node, boot } = message.renew;
          this.#reporter.report({
            type: "grant-refused",
            ...this.#reporter.at(),
            node,
            boot,
            reason: answer.refusal.message,
          });
        }
        return { type: "refused", ...sentRefusal(this.#process.identity.build, answer.refusal) };
      case "unavailable":
        return unavailable;
    }
  }

  #deliver(envelope: SimEnvelope): void {
    const { seals, cluster } = this.#options;
    const { from, payload } = envelope;
    const at = this.#process.moment();
    if (!seals.isAuthentic(envelope, cluster) || from.role !== "broker") {
      this.#reporter.reportRefusal(payload.kind, "bad signature");
      this.#feed({ type: "forgeryReceived", at, reason: "bad signature" });
      return;
    }
    if (from.boot === this.#boot) return;
    this.#feed({ type: "brokerSeen", at, epoch: from.epoch, incarnation: from.incarnation });
  }

  #seal(by: Readonly<{ epoch: Epoch; incarnation: Incarnation }>, payload: SimEnvelope["payload"]): SimEnvelope {
    const { seals, cluster, broker } = this.#options;
    return seals.seal({ cluster, role: "broker", name: broker, boot: this.#boot, ...by }, payload);
  }
}

function answer<Answer>(
  pending: Map<number, (answer: Answer) => void>,
  { id, answer }: Readonly<{ id: number; answer: Answer }>,
): void {
  const answered = pending.get(id);
  pending.delete(id);
  answered?.(answer);
}

/** The simulation has no signatures: an envelope counts as sealed if `Seals` knows it. */
function publicKeyOf(incarnation: Incarnation): string {
  return incarnation;
}

/**
 * Broker: one databroker process, the shell of its core.
 *
 * It performs the core's effects with a log, a fan-out, keys and timers, and feeds every result back. It decides
 * nothing. Every call names the role it is made in, also within one process.
 */
import {
  type BootId,
  type BrokerId,
  type CommandRequest,
  type CommandResult,
  type Incarnation,
  type Position,
  parseBootId,
  unreachable,
} from "../events/index.ts";
import { type Fanout, splitBatch } from "../replication/fanout/index.ts";
import type { Clock, Databroker, Logger } from "../replication/index.ts";
import type { EventLog } from "../replication/log/index.ts";
import { sealManifest } from "../replication/snapshot/index.ts";
import {
  BrokerUnavailableError,
  createBrokerOpener,
  createReceiptSigner,
  encodeMessage,
  personKeyWrap,
  type Role,
  sealEnvelope,
  sealSignersOpener,
  vaultKey,
} from "../replication/wire/index.ts";
import type { Broker } from "./api/broker-handle.ts";
import type { LeaderClient } from "./api/leader-client.ts";
import type { CallOrigin, RouterDeps } from "./api/leader-router.ts";
import { createLocalDatabroker, type LeaderHandle } from "./api/local-databroker.ts";
import { createMergeCheck } from "./api/merge-check.ts";
import { createPageCalls } from "./api/page-calls.ts";
import { createReceiptIssuer } from "./api/receipt-issuer.ts";
import { createSealCheck } from "./api/seal-check.ts";
import { newBrokerCore, step } from "./broker-core.ts";
import { createBrokerStatus } from "./broker-status.ts";
import type { MassChangeLimits } from "./commands/performed.ts";
import { refuseCommand } from "./commands/permissions.ts";
import { openVault } from "./commands/vault.ts";
import type { Duty, DutyContext } from "./core/duty.ts";
import { LeaseMessageRejectedError } from "./core/lease-message-error.ts";
import type {
  BrokerEffect,
  BrokerInput,
  CommandAnswer,
  DutyRun,
  LeaseAnswer,
  PageAnswer,
  ReceiptAnswer,
} from "./core/messages.ts";
import { createWakeTimer, Notifier } from "./core/notifier.ts";
import type { LeaseOptions } from "./core/options.ts";
import { PendingRequests } from "./core/pending-requests.ts";
import { createDutyRunner } from "./leader/duties.ts";
import { leaseMessageIn, ProvenReplacements } from "./leader/lease-messages.ts";
import { epochEnded } from "./leader/pending-commands.ts";
import { rewrapDuty } from "./leader/rewrap-duty.ts";
import { openProfiles } from "./open-profiles.ts";
import { EpochSigners } from "./peers/epoch-signers.ts";
import { createGossip } from "./peers/gossip.ts";
import { nodeOpener } from "./peers/node-opener.ts";
import { OwnEnvelopes } from "./peers/own-envelopes.ts";
import { performLogCall } from "./perform-log-call.ts";
import type { SnapshotService } from "./snapshots/snapshot-service.ts";
import { retentionFloor } from "./snapshots/snapshot-service.ts";

export type BrokerOptions = Readonly<{
  log: EventLog;
  cluster: string;
  brokerId: BrokerId;
  /** Absent: unknown, so that no region counts as this broker's own. */
  region?: string;
  secret: Uint8Array;
  /** While the shared secret is being replaced. */
  previousSecret?: Uint8Array | null;
  fanout: Fanout;
  clock: Clock;
  random: (bytes: number) => Uint8Array;
  lease: LeaseOptions;
  /** Another broker replaces a silent leader within this time. */
  takeoverMs: number;
  /** A leader that is known to be replaced: its silence is not waited for. Null or absent: none. */
  replaced?: Incarnation | null;
  /** Where other brokers and nodes reach this one; null in a single process. */
  advertisedUrl: string | null;
  duties: readonly Duty[];
  logger: Logger;
  /** The version of this build; nodes of another version may fold to another digest. */
  version?: string;
  /** Forwards calls that only the leader can answer; the broker closes it when it stops. */
  leaderClient: LeaderClient;
  /** A write to the log that takes longer is indeterminate. */
  writeTimeoutMs?: number;
  /** How long a command waits for an outcome, a takeover included. */
  commandMs?: number;
  /** The most commands that may wait. */
  commandsMax?: number;
  /** A new log begins at this level, if all brokers that are present can read it. Absent: at level 1. */
  newLogLevel?: number;
  /** From when on a change of memberships is held for an operator. Absent: the defaults. */
  massChange?: MassChangeLimits;
  expirySweepMs?: number;
  commandSweepMs?: number;
  /**
   * Null: the broker takes and serves none, and folds the log from its beginning. The snapshot duty is one of `duties`.
   */
  snapshots?: SnapshotService | null;
  /** Events after this position are needed by something that is not a node; null: nothing more. Absent: nothing. */
  neededAfter?: () => Position | null;
}>;

export function startBroker(options: BrokerOptions): Broker {
  const { log, cluster, brokerId, fanout, clock, logger, leaderClient } = options;
  const secrets: [Uint8Array, ...Uint8Array[]] = [
    options.secret,
    ...(options.previousSecret ? [options.previousSecret] : []),
  ];
  const vaultKeys = secrets.map(vaultKey);
  const wrappingKeys = secrets.map(personKeyWrap);
  const { random, previousSecret } = options;
  const rewrap = previousSecret ? rewrapDuty({ log, secret: options.secret, previousSecret, random, logger }) : null;
  const allDuties = rewrap === null ? options.duties : [...options.duties, rewrap];
  const boot: BootId = parseBootId(Buffer.from(options.random(16)).toString("hex"));
  const signers = new EpochSigners({ cluster, name: brokerId, boot }, options.secret);
  const openNodeEnvelope = nodeOpener(cluster, secrets);
  const provenReplacements = new ProvenReplacements();
  const openBrokerEnvelope = createBrokerOpener({ cluster, secrets });
  /** Notified when the leader may have changed. */
  const leaderChanges = new Notifier();
  /** Our own envelopes: the fan-out brings them back. */
  const published = new OwnEnvelopes();
  const coreStopped = Promise.withResolvers<void>();
  const headReached = Promise.withResolvers<string | null>();
  const wakeTimer = createWakeTimer(() => feed({ type: "woke", at: moment() }));

  let core = newBrokerCore({
    brokerId,
    secrets,
    lease: options.lease,
    takeoverMs: options.takeoverMs,
    replaced: options.replaced ?? null,
    duties: allDuties,
    ...(options.region === undefined ? {} : { region: options.region }),
    brokerUrl: options.advertisedUrl,
    exclusive: log.exclusive,
    writeTimeoutMs: options.writeTimeoutMs ?? 10_000,
    version: options.version ?? "",
    ...(options.newLogLevel === undefined ? {} : { newLogLevel: options.newLogLevel }),
    ...(options.massChange === undefined ? {} : { massChange: options.massChange }),
    expirySweepMs: options.expirySweepMs ?? 30_000,
    commandSweepMs: options.commandSweepMs ?? 3_600_000,
    random: options.random,
    beginsFrom: options.snapshots ? "snapshot" : "log",
    ...(options.commandsMax === undefined ? {} : { commandsMax: options.commandsMax }),
  });

  // --- the loop: an input, a step, its effects

  const inputs: BrokerInput[] = [];
  let stepping = false;

  function moment() {
    return { monotonic: clock.monotonic(), wall: clock.wall() };
  }

  function feed(input: BrokerInput): void {
    inputs.push(input);
    if (stepping) return;
    stepping = true;
    try {
      for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
        const [after, effects] = step(core, next);
        core = after;
        for (const effect of effects) perform(effect);
      }
      if (core.hasReachedHead) headReached.resolve(core.state.unreadable);
    } finally {
      stepping = false;
    }
  }

  function perform(effect: BrokerEffect): void {
    switch (effect.type) {
      case "wake":
        wakeTimer.set(effect.at - clock.monotonic());
        return;
      case "log":
        void performLogCall(log, effect.call, signers).then((outcome) =>
          feed({ type: "logAnswered", at: moment(), id: effect.id, outcome }),
        );
        return;
      case "prepareBatch":
        log.layOut?.(effect.batch);
        return;
      case "commandAnswered":
        commands.answer(effect.id, effect.answer);
        return;
      case "leaseAnswered":
        leases.answer(effect.id, effect.answer);
        return;
      case "receiptAnswered":
        receipts.answer(effect.id, effect.answer);
        return;
      case "pageAnswered":
        pages.answer(effect.id, effect.answer);
        return;
      case "publish":
        publish(effect);
        return;
      case "runDuty":
        duties.run(effect.run);
        return;
      case "endDuty":
        duties.end(effect.run);
        return;
      case "loadSnapshot":
        loadSnapshot(effect);
        return;
      case "sendGossip":
        gossip.sendGossip(effect.presence);
        return;
      case "reassert":
        void reassert(effect);
        return;
      case "leaderChanged":
        leaderChanges.notify();
        return;
      case "reasserted":
        return; // logged and counted already
      case "logger":
        logger[effect.level](effect.fields, effect.message);
        return;
      case "stopped":
        coreStopped.resolve();
        return;
      default:
        unreachable(effect);
    }
  }

  /** Signed once per part, by the epoch's key. */
  function publish({ by, batch }: Extract<BrokerEffect, { type: "publish" }>): void {
    const before = fanout.status().dropped;
    let dropped = false;
    try {
      const signer = signers.signerFor(by);
      for (const part of splitBatch(batch)) {
        const envelope = sealEnvelope(signer, "batch", encodeMessage(part));
        published.add(envelope);
        fanout.publish(envelope);
      }
    } catch (error) {
      logger.error({ err: error }, "could not publish a batch");
      dropped = true;
    }
    dropped ||= fanout.status().dropped > before;
    if (dropped) feed({ type: "publishDropped", at: moment(), last: batch.last });
  }

  function loadSnapshot({ id, first }: Extract<BrokerEffect, { type: "loadSnapshot" }>): void {
    const loading = options.snapshots?.load(first) ?? Promise.resolve(null);
    loading.then(
      (snapshot) => {
        if (snapshot === null)
          feed({ type: "snapshotFailed", at: moment(), id, reason: "no whole snapshot is available" });
        else feed({ type: "snapshotLoaded", at: moment(), id, snapshot });
      },
      (error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        feed({ type: "snapshotFailed", at: moment(), id, reason });
      },
    );
  }

  // --- calls

  const requestNumbers = { next: 1 };
  const commands = new PendingRequests<CommandAnswer>(requestNumbers);
  const leases = new PendingRequests<LeaseAnswer>(requestNumbers);
  const receipts = new PendingRequests<ReceiptAnswer>(requestNumbers);
  const pages = new PendingRequests<PageAnswer>(requestNumbers);
  const page = createPageCalls({ pages, feed, moment });

  function submit(request: CommandRequest, waitMs: number): Promise<CommandAnswer> {
    return commands.request((id) => feed({ type: "submitted", at: moment(), id, request, waitMs }));
  }

  /** Reports lost events to the leader. */
  async function reassert({ id, commandId, events }: Extract<BrokerEffect, { type: "reassert" }>): Promise<void> {
    const caller = { role: "broker", name: brokerId } as const;
    const leader = databrokerFor({ origin: "in-process", hop: "direct", caller });
    const command = { type: "reassertTightenings", events } as const;
    const result = await leader.submit({ commandId, actor: "system", command }).catch((err: unknown) => {
      logger.warn({ err }, "could not report lost revocations to the leader yet; will retry");
    });
    const answer = result === undefined || result.type === "unavailable" ? "failed" : "answered";
    feed({ type: "reassertAnswered", at: moment(), id, answer });
  }

  /** The leader while it is this broker: one object per epoch. */
  let leaderHandle: LeaderHandle | undefined;
  function local(): LeaderHandle | undefined {
    const by = core.leadership;
    if (by === null) leaderHandle = undefined;
    else if (leaderHandle?.epoch !== by.epoch || leaderHandle.incarnation !== by.incarnation)
      leaderHandle = leaderOf(by);
    return leaderHandle;
  }

  function leaderOf(by: NonNullable<typeof core.leadership>): LeaderHandle {
    return {
      ...by,
      async lease(envelope, { origin, through }) {
        const message = leaseMessageIn(openNodeEnvelope(envelope), provenReplacements);
        const answer = await leases.request((id) =>
          feed({ type: "nodeMessage", at: moment(), id, origin, through, message }),
        );
        switch (answer.type) {
          case "granted":
            return sealEnvelope(signers.signerFor(answer.by), "grant", encodeMessage(answer.grant));
          case "taken":
            return null;
          case "refused":
            throw new LeaseMessageRejectedError(answer.refusal);
          case "unavailable":
            throw new BrokerUnavailableError(answer.message);
          default:
            return unreachable(answer);
        }
      },
      async receipt(target, receiptOptions) {
        const answer = await receipts.request((id) =>
          feed({ type: "receiptRequested", at: moment(), id, target, options: receiptOptions }),
        );
        if (answer.type === "unavailable") throw new BrokerUnavailableError(answer.message);
        return answer.receipt;
      },
      standings: () => core.standings(moment()),
      absences: () => status.absences(),
      mismatch: (renew) => core.hasDigestMismatch(renew),
      peers: () => core.peers.map(({ heardAt, ...peer }) => ({ ...peer, heardAgoMs: clock.monotonic() - heardAt })),
    };
  }

  const duties = createDutyRunner(allDuties, {
    context: dutyContext,
    ended: (run, outcome) => feed({ type: "dutyEnded", at: moment(), run, outcome }),
    logger,
  });

  function dutyContext(run: DutyRun, signal: AbortSignal): DutyContext {
    return {
      signal,
      projection: core.state.projection,
      now: clock.wall(),
      tokens: async (sessionId) => openVault(await log.vault(sessionId), vaultKeys),
      profiles: (userIds) => openProfiles(userIds, { log, wrappingKeys, projection: core.state.projection }),
      read: (after, limit) => databroker("broker").read(after, { limit, waitMs: 0 }),
      logBase: () => log.base(),
      storedSignalStream: (receiver) => databroker("broker").storedSignalStream(receiver),
      leads: () => core.leadership?.epoch === run.epoch && core.leadership.incarnation === run.incarnation,
      submitToLeader: (request) => databroker("broker").submit(request),
      clock,
      submit: (request) => submitAsDuty(request, run),
      leadership: { epoch: run.epoch, incarnation: run.incarnation },
      epochs: () => core.state.epochs,
      sealManifest: (manifest) => sealManifest(signers.signerFor(run), manifest),
      neededAfter: () =>
        Math.min(
          retentionFloor(core.standings(moment()), core.state.applied.position),
          options.neededAfter?.() ?? Number.POSITIVE_INFINITY,
        ) as Position,
    };
  }

  async function submitAsDuty(request: CommandRequest, run: DutyRun): Promise<CommandResult> {
    const { commandId } = request;
    const message = refuseCommand("duty", request);
    if (message !== undefined) return { type: "refused", commandId, code: "forbidden", message };
    const answer = await commands.request((id) => feed({ type: "dutySubmitted", at: moment(), id, request, run }));
    return answer.type === "notLeader" ? epochEnded(commandId) : answer;
  }

  // --- the fan-out

  /** Messages of other brokers. */
  const unsubscribe = fanout.subscribe((envelope, reportForgery) => {
    if (published.has(envelope)) return;
    const opened = openBrokerEnvelope(envelope);
    if ("refused" in opened) {
      reportForgery();
      return feed({ type: "forgeryReceived", at: moment(), reason: opened.refused });
    }
    const { epoch, incarnation } = opened.from;
    log.heardOf?.(epoch);
    feed({ type: "brokerSeen", at: moment(), epoch, incarnation });
  });
  const offConnected = fanout.onConnected(() => feed({ type: "fanoutConnected", at: moment() }));

  const gossip = createGossip({
    log,
    leaderClient,
    logger,
    brokerId,
    url: options.advertisedUrl,
    monotonic: clock.monotonic,
    seen: () => ({ epoch: core.observedEpoch, leaderUrl: core.observedLeader?.brokerUrl ?? null }),
    onEpoch: (epoch) => feed({ type: "brokerSeen", at: moment(), epoch, incarnation: "" }),
  });
  const router: RouterDeps<LeaderHandle> = {
    local,
    leaderUrl() {
      const seen = local() === undefined ? core.observedLeader : null;
      return seen === null || seen.brokerUrl === null || seen.brokerUrl === options.advertisedUrl
        ? undefined
        : seen.brokerUrl;
    },
    leaderChanges: leaderChanges,
    monotonic: clock.monotonic,
  };
  const receiptIssuer = createReceiptIssuer({
    cluster,
    brokerId,
    log,
    clock,
    counters: core.counters,
    sign: createReceiptSigner(options.secret),
  });
  const merges = createMergeCheck({
    open: openBrokerEnvelope,
    log,
    head: () => core.state.applied,
    projection: () => core.state.projection,
    counters: core.counters,
    logger: options.logger,
  });
  const refuseSeal = createSealCheck(sealSignersOpener(cluster, secrets));
  const databrokerFor = (callOrigin: CallOrigin): Databroker =>
    createLocalDatabroker(callOrigin, {
      version: options.version ?? "",
      reads: core.reads,
      cluster,
      brokerId,
      log,
      router,
      leaderClient,
      vaultKeys,
      clock,
      turn: () => new Promise((resolve) => createWakeTimer(resolve).set(0)),
      submit,
      pages: page,
      receipts: receiptIssuer,
      merges,
      refuseSeal,
      state: core.state,
      snapshots: options.snapshots ?? null,
      counters: core.counters,
      advertisedUrl: options.advertisedUrl,
      commandMs: options.commandMs ?? 8_000,
      isStoreUnreachable: () => core.isStoreUnreachable,
      takesCommands: () => core.acceptsCommands,
    });

  const databroker = (role: Role): Databroker =>
    databrokerFor({ origin: "in-process", hop: "direct", caller: { role, name: brokerId } });

  const status = createBrokerStatus({ core: () => core, log, leaderClient, gossip, rewrap, moment });

  let stopped: Promise<void> | undefined;
  async function stop(): Promise<void> {
    feed({ type: "stopping", at: moment() });
    await coreStopped.promise;
    unsubscribe();
    offConnected();
    wakeTimer.off();
    await leaderClient.close();
  }

  options.snapshots?.serve(core.state);
  feed({ type: "started", at: moment() });
  return {
    brokerId,
    databroker,
    databrokerFor,
    receiveGossip(presence, message) {
      feed({ type: "presenceReceived", at: moment(), presence });
      return gossip.receiveGossip(message);
    },
    leading: () => core.leadership !== null,
    whenRead: () => headReached.promise,
    ready: status.ready,
    metrics: status.metrics,
    copy: null,
    regions: status.regions,
    stop: () => (stopped ??= stop()),
  };
}

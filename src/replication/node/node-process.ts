/**
 * Node process: one copy of the log in a process, and the right to decide from it.
 *
 * A thin shell around the node core. It performs the core's effects with a databroker, a fan-out, timers and a data
 * folder, and passes every result back as an input. It gives the rest of the process a `Replica`. It decides nothing.
 */

import type { BootId, CommandResult, NodeId } from "../../events/index.ts";
import { noEpoch } from "../../events/index.ts";
import type { Databroker } from "../databroker.ts";
import { openBatch } from "../fanout/batch.ts";
import type { Fanout } from "../fanout/fanout.ts";
import type { HeldLease, Moment } from "../lease/lease-holder.ts";
import type { Freshness, Replica } from "../replica.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/logger.ts";
import { createBrokerOpener } from "../wire/broker-opener.ts";
import { enrolmentRoot } from "../wire/cluster-keys.ts";
import { enrolKey, sealEnvelope } from "../wire/envelope.ts";
import { encodeMessage, type Renew, type SolePathClaim } from "../wire/messages.ts";
import { type NodeKey, nodeKeyFrom } from "../wire/node-key.ts";
import { leaseAnswer, leaseFailure, messageBodyOf, readAnswer, settledBy } from "./broker-answers.ts";
import { ChangeListeners } from "./change-listeners.ts";
import { lockDataFolder, replacementBy } from "./data-folder-lock.ts";
import { createDenialCalls } from "./denial-calls.ts";
import { LostChanges } from "./denials/lost-changes.ts";
import type { DenialsOnDisk } from "./denials/persisted-denials.ts";
import { DeliverySlices, PageSlices } from "./event-slices.ts";
import { openLocalDenialsFile } from "./local-denials-file.ts";
import type {
  FanoutState,
  LeaseMessage,
  LoadedSnapshot,
  NodeEffect,
  NodeInput,
  NodeLeaseAnswer,
  ReadAnswer,
} from "./messages.ts";
import { newNodeCore, step } from "./node-core.ts";
import type { NodeMetrics, Savepoint } from "./node-core-types.ts";
import { createPersonKeys } from "./person-keys.ts";
import type { SnapshotSource } from "./snapshot-source.ts";

export type ReplicaOptions = Readonly<{
  name: NodeId;
  /** The key of this start, for this cluster, role and name. Absent: generated here. */
  key?: NodeKey;
  role: Renew["role"];
  region: string;
  version: string;
  /** The hash of the configuration in force; read at every renew. */
  configHash: () => string;
  cluster: string;
  secret: Uint8Array;
  /** The old shared secret during its replacement: signatures of brokers under it are accepted too. */
  secretPrevious?: Uint8Array | null;
  databroker: Databroker;
  /** Null: the node gets every event by reading. */
  fanout: Fanout | null;
  clock: Clock;
  randomBytes: (size: number) => Uint8Array;
  logger: Logger;
  /** Δ plus the largest `stale_grace` of the configuration in force (ms); read at every renew. */
  windowMs: () => number;
  /** Null: a restart cannot name the boot it replaces, and receipts wait for its window to pass. */
  dataDir: string | null;
  /** Null: the node reads the log from its beginning. */
  snapshots?: SnapshotSource | null;
  /**
   * `none`: grants by age of the previous boot may still count, so receipts must wait for its window.
   */
  replaces?: "last boot" | "none";
  renewMs?: number;
  /** How long a read waits at the head when the fan-out does not deliver. */
  pollMs?: number;
  pageLimit?: number;
  /** A change not enforced within this much running time (ms) counts as failed. */
  enforcingMsMax?: number;
  /** Of a regional broker that may revoke by itself; read at every renew. */
  solePath?: () => Pick<SolePathClaim, "wanted" | "retained">;
  /**
   * The addresses of the brokers that this node uses; its process's own broker has none. Absent: the node keeps no
   * revocations that its region accepts by itself, and the region accepts none while the node holds a lease.
   */
  brokers?: readonly string[];
}>;

export type ReplicaReadiness = Readonly<{ ready: boolean; reasons: readonly string[] }>;

export type ReplicaMetrics = NodeMetrics;

export type ReplicaProcess = Replica &
  Freshness &
  Readonly<{
    node: NodeId;
    boot: BootId;
    /** Signs decision records with the key that this node enrolled, in an envelope of the kind `audit`. */
    sealRecords(payload: Uint8Array): Uint8Array;
    /** Signs a seal of audit records with the same key, in an envelope of the kind `audit-seal`. */
    sealAudit(payload: Uint8Array): Uint8Array;
    /** Whether the node serves, and why not; for /readyz. */
    ready(): ReplicaReadiness;
    /** Whether the cluster has finalized a level that this build cannot read: the node will never be ready. */
    tooOld(): boolean;
    /** @returns whether it became ready within that time; false at once when it is too old */
    whenReady(timeoutMs: number): Promise<boolean>;
    metrics(): ReplicaMetrics;
    /** The data of a snapshot of this node. Read it at once: the projection continues to change. */
    savepoint(): Savepoint;
    /** The lease from which grants by age may be made; null: none. */
    lease(): HeldLease | null;
    /**
     * Time (ms) since the leader last answered a renew of this boot, perhaps through a regional broker. A grant by age
     * is no answer of the leader. Infinity: it has not answered yet.
     */
    leaderSilentMs(): number;
    /** Reads from a broker now, unless a read is in flight. */
    readNow(): void;
    /** Makes the node not ready; it keeps its lease, and open streams continue. */
    drain(): void;
    /**
     * Call this after the last stream is closed: permanently permits nothing more and sends the goodbye, so that
     * receipts do not wait for this boot. @returns whether a broker has accepted it
     */
    goodbye(): Promise<boolean>;
    /** Stops the node. Without a goodbye before, receipts wait for the window to pass. */
    stop(): Promise<void>;
  }>;

const readyPollMs = 10;
const nothingKept: DenialsOnDisk = { retained: [], denials: [] };

/** @throws DataFolderLockedError when another process uses `dataDir`, DataFolderUnusableError */
export function startReplica(options: ReplicaOptions): ReplicaProcess {
  const { clock, cluster, databroker, fanout, logger, name: node, randomBytes, role } = options;
  const key = options.key ?? nodeKeyFrom(randomBytes(32), { cluster, role, name: node });
  const { boot } = key;
  const secrets = [options.secret, ...(options.secretPrevious ? [options.secretPrevious] : [])];
  const openEnvelope = createBrokerOpener({ cluster, secrets });
  const speaker = enrolKey(
    { cluster, role, name: node, boot, epoch: noEpoch, incarnation: "" },
    key.pair,
    enrolmentRoot(options.secret, role),
  );
  const folder = options.dataDir === null ? null : lockDataFolder({ dataDir: options.dataDir, node });
  const keys = createPersonKeys(secrets);
  const keepsLocal = options.brokers !== undefined && options.dataDir !== null;
  const file = keepsLocal ? openLocalDenialsFile({ dataDir: options.dataDir, node, logger }) : null;
  const local = createDenialCalls({
    databroker,
    file,
    logger,
    open: openEnvelope,
    arrive: (fact) => arrive({ ...fact, at: moment() }),
  });
  const listeners = new ChangeListeners();
  const changes = new LostChanges();
  const inputs: NodeInput[] = [];
  const inFlight = new Map<number, AbortController>();
  const awaited = new Map<number, (outcome: "reached" | "behind" | "lost") => void>();
  const left = Promise.withResolvers<boolean>();
  const ending = new AbortController();
  const pages = new PageSlices();
  const deliveries = new DeliverySlices({
    apply: (delivery) => arrive({ type: "delivered", delivery, at: moment() }),
    later: setImmediate,
  });
  let core = newNodeCore({
    ...options,
    node,
    boot,
    ...replacementBy(key, options.replaces === "none" ? null : folder),
    windowMs: options.windowMs(),
    configHash: options.configHash(),
    keys,
    random: randomBytes,
    at: moment(),
  });
  let configured = { windowMs: options.windowMs(), configHash: options.configHash() };
  let reportedFanout: FanoutState = fanoutState();
  let unsubscribe: readonly (() => void)[] = [];
  let timer: NodeJS.Timeout | undefined;
  let waits = 0;
  let started = false;
  /** Keeps the process alive while the goodbye is being sent: it may have nothing else left to wait for. */
  let leaving: NodeJS.Timeout | undefined;
  let stopped = false;

  function moment(): Moment {
    return { monotonic: clock.monotonic(), wall: clock.wall() };
  }

  function fanoutState(): FanoutState {
    return fanout === null ? "none" : fanout.status().healthy ? "up" : "down";
  }

  /** Handles one input at a time; inputs caused meanwhile follow right after it. */
  function feed(input: NodeInput): void {
    inputs.push(input);
    if (inputs.length > 1) return;
    for (let next = inputs[0]; next !== undefined; next = inputs[0]) {
      const [after, effects] = step(core, next);
      core = after;
      for (const effect of effects) perform(effect);
      inputs.shift();
    }
  }

  /** Passes an input from outside, after any change of the fan-out's state. */
  function arrive(input: NodeInput): void {
    const state = fanoutState();
    if (state !== reportedFanout) noteFanout(state);
    feed(input);
  }

  function noteFanout(state: FanoutState): void {
    reportedFanout = state;
    if (started) feed({ type: "fanoutChanged", fanout: state, at: moment() });
  }

  function wake(): void {
    const now = { windowMs: options.windowMs(), configHash: options.configHash() };
    if (now.windowMs !== configured.windowMs || now.configHash !== configured.configHash) {
      configured = now;
      feed({ type: "configured", ...now, at: moment() });
    }
    arrive({ type: "woke", at: moment() });
  }

  function perform(effect: NodeEffect): void {
    switch (effect.type) {
      case "wake":
        clearTimeout(timer);
        if (effect.at === Number.POSITIVE_INFINITY) return;
        timer = setTimeout(wake, Math.max(0, Math.ceil(effect.at - clock.monotonic())));
        timer.unref();
        return;
      case "read":
        void ask(effect.id, (signal) => read(effect, signal)).then((answer) => {
          arrive({ type: "readAnswered", id: effect.id, answer, at: moment() });
        });
        return;
      case "sendLease":
        void say(effect.message).then((answer) => {
          arrive({ type: "leaseAnswered", id: effect.id, answer, at: moment() });
        });
        return;
      case "loadSnapshot":
        void loadSnapshot(effect);
        return;
      case "reassert":
        void submit(effect).then((result) => {
          const answer = result === null || result.type === "unavailable" ? "failed" : "answered";
          const settled = result === null ? undefined : settledBy(result);
          const at = moment();
          arrive({
            type: "reassertAnswered",
            id: effect.id,
            answer,
            ...(settled === undefined ? {} : { settledAt: settled }),
            at,
          });
        });
        return;
      case "cancel":
        inFlight.get(effect.id)?.abort(new Error("given up"));
        local.cancel(effect.id);
        return;
      case "changed":
        noteLost(effect);
        options.snapshots?.persistDenials({
          retained: core.savepoint.retained,
          tightened: core.tightened,
          newest: () => core.denialsToPersist(),
        });
        tell(effect);
        return;
      case "recordBoot":
        keepBoot(() => folder?.record(boot, key.seed));
        return;
      case "clearBoot":
        keepBoot(() => folder?.clear());
        return;
      case "readDenials":
      case "keepLocalDenials":
      case "submitRevocation":
        local.perform(effect);
        return;
      case "replay":
        void replay(effect);
        return;
      case "linkReached":
        awaited.get(effect.id)?.(effect.outcome);
        awaited.delete(effect.id);
        return;
      case "left":
        clearInterval(leaving);
        left.resolve(effect.taken);
        return;
      case "rebuilding":
        return; // the core logs it; decisions check the lease
      case "log":
        logger[effect.level](effect.fields, effect.message);
    }
  }

  /** Reports lost changes once for each history that was left. */
  function noteLost({ link, touched, rebuilt }: Extract<NodeEffect, { type: "changed" }>): void {
    const { epochs } = core.savepoint;
    const lost = rebuilt ? changes.takeLost(epochs) : null;
    changes.record({ link, touched }, epochs);
    if (lost !== null)
      logger.error(
        lost,
        "the log has lost changes that this node had applied; following the log, except that denials stay in force",
      );
  }

  function tell({ id, link, touched, rebuilt, committedAt }: Extract<NodeEffect, { type: "changed" }>): void {
    const facts = listeners.count === 0 ? new Set<never>() : new Set(touched.flat());
    listeners.notify({ link, touched: facts, rebuilt, committedAt }, (outcome) => {
      if (outcome.failed) feed({ type: "enforcementFailed", error: outcome.error, at: moment() });
      else feed({ type: "changeEnforced", id, at: moment() });
    });
  }

  async function ask<T>(id: number, question: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const own = new AbortController();
    inFlight.set(id, own);
    try {
      return await question(own.signal);
    } finally {
      inFlight.delete(id);
    }
  }

  async function read(
    { after, limit, waitMs }: Extract<NodeEffect, { type: "read" }>,
    signal: AbortSignal,
  ): Promise<ReadAnswer> {
    const held = pages.after(after);
    try {
      if (held === undefined) {
        const answer = readAnswer(await databroker.read(after, { limit, waitMs, signal }));
        return decides() ? pages.first(answer) : answer;
      }
      await new Promise((resolve) => setImmediate(resolve));
      return held;
    } catch (error) {
      return { type: "failed", error };
    }
  }

  async function say(spoken: LeaseMessage): Promise<NodeLeaseAnswer> {
    try {
      const envelope = sealEnvelope(speaker, spoken.type, encodeMessage(messageBodyOf(spoken)));
      return leaseAnswer(await databroker.lease(envelope), openEnvelope);
    } catch (error) {
      return leaseFailure(error);
    }
  }

  async function loadSnapshot({ id, first }: Extract<NodeEffect, { type: "loadSnapshot" }>): Promise<void> {
    const source = options.snapshots ?? null;
    if (source === null) {
      feed({ type: "snapshotFailed", id, reason: "none", at: moment() });
      return;
    }
    try {
      const snapshot = await ask(id, (signal) => source.load({ first, signal }));
      if (snapshot === null) arrive({ type: "snapshotFailed", id, reason: "none", at: moment() });
      else arrive({ type: "snapshotLoaded", id, snapshot, at: moment() });
    } catch (error) {
      logger.warn({ err: error }, "could not load a snapshot from a broker");
      arrive({ type: "snapshotFailed", id, reason: "unavailable", at: moment() });
    }
  }

  /** @returns null: no broker answered */
  async function submit({
    commandId,
    events,
  }: Extract<NodeEffect, { type: "reassert" }>): Promise<CommandResult | null> {
    const command = { type: "reassertTightenings", events } as const;
    try {
      const result = await databroker.submit({ commandId, actor: `service:${node}`, command });
      if (result.type === "refused" && settledBy(result) === undefined)
        logger.error({ reason: result.message }, "the leader refused to record lost denials again");
      return result;
    } catch (error) {
      logger.warn({ err: error }, "could not report lost denials to a broker yet");
      return null;
    }
  }

  async function replay({ sinceMs, timeoutMs }: Extract<NodeEffect, { type: "replay" }>): Promise<void> {
    try {
      for (const envelope of (await fanout?.replay?.({ sinceMs, timeoutMs })) ?? []) deliver(envelope);
    } catch (error) {
      logger.debug({ err: error }, "the replay buffer did not answer");
    }
  }

  /** Reports a failed write and continues: without the record, a restart only makes receipts wait longer. */
  function keepBoot(keep: () => void): void {
    try {
      keep();
    } catch (error) {
      logger.error(
        { err: error, dataDir: options.dataDir },
        "could not write the boot id to the data folder; receipts will wait for this boot's window after a crash",
      );
    }
  }

  function deliver(envelope: Uint8Array, reportForgery?: () => void): void {
    const opened = openBatch(envelope, openEnvelope, (last) => core.hasApplied(last));
    if ("refused" in opened && opened.refused === "not-authentic") reportForgery?.();
    const delivery = "refused" in opened ? opened : { ...opened.batch, events: opened.events };
    if ("refused" in delivery || !decides()) {
      deliveries.flush();
      arrive({ type: "delivered", delivery, at: moment() });
    } else deliveries.push(delivery);
  }

  /** A node without a valid lease has nothing to hold up, and is to catch up soon. */
  function decides(): boolean {
    return core.overdueMs(moment()) <= 0;
  }

  async function start(): Promise<void> {
    let snapshot: LoadedSnapshot | null = null;
    try {
      snapshot = (await options.snapshots?.local(ending.signal)) ?? null;
    } catch (error) {
      if (!stopped) logger.warn({ err: error }, "the local snapshot could not be read; starting without it");
    }
    const kept = await options.snapshots?.persistedDenials();
    const localDenials = await local.load();
    if (!stopped) begin({ snapshot, denials: kept ?? nothingKept, localDenials });
  }

  function begin(onDisk: Pick<Extract<NodeInput, { type: "started" }>, "snapshot" | "denials" | "localDenials">): void {
    started = true;
    reportedFanout = fanoutState();
    feed({ type: "started", ...onDisk, fanout: reportedFanout, at: moment() });
    // Subscribe before the first read, so that no event falls between the two.
    if (fanout !== null) unsubscribe = [fanout.subscribe(deliver), fanout.onConnected(() => noteFanout(fanoutState()))];
  }

  const ready = (): ReplicaReadiness => {
    const reasons = core.reasons(moment());
    return { ready: reasons.length === 0, reasons };
  };

  if (options.snapshots || file !== null) void start();
  else begin({ snapshot: null, denials: nothingKept });

  return {
    node,
    boot,
    sealRecords: (payload) => Uint8Array.from(sealEnvelope(speaker, "audit", payload)),
    sealAudit: (payload) => Uint8Array.from(sealEnvelope(speaker, "audit-seal", payload)),
    get projection() {
      return core.projection;
    },
    get places() {
      return core.places;
    },
    get applied() {
      return core.applied;
    },
    get appliedLink() {
      return core.appliedLink;
    },
    get enforced() {
      return core.enforced;
    },
    open: (sealed, userId) => keys.open(sealed, userId),
    behind: () => core.behind(clock.monotonic()),
    openRequestWords: (sealed, about) => keys.openRequestWords(sealed, about),
    isDeniedLocally: (stream) => core.isDeniedLocally(stream),
    isDeniedByRegion: (stream) => core.isDeniedByRegion(stream),
    onChange: (listener) => listeners.add(listener),
    waitFor(link, timeoutMs) {
      if (stopped) return Promise.resolve("behind");
      waits += 1;
      const id = waits;
      return new Promise((resolve) => {
        awaited.set(id, resolve);
        feed({ type: "linkAwaited", id, link, timeoutMs, at: moment() });
      });
    },
    overdueMs: (now, wall = clock.wall()) => core.overdueMs({ monotonic: now, wall }),
    ready,
    tooOld: () => core.tooOld,
    async whenReady(timeoutMs) {
      const giveUpAt = clock.monotonic() + timeoutMs;
      while (!ready().ready) {
        if (stopped || core.tooOld || clock.monotonic() >= giveUpAt) return false;
        await new Promise((resolve) => setTimeout(resolve, readyPollMs));
      }
      return true;
    },
    metrics: () => core.metrics(),
    savepoint: () => core.savepoint,
    lease: () => core.heldLease(moment()),
    leaderSilentMs: () => core.leaderSilentMs(clock.monotonic()),
    readNow: () => feed({ type: "nudged", at: moment() }),
    drain: () => feed({ type: "draining", at: moment() }),
    goodbye() {
      if (stopped) return Promise.resolve(false);
      leaving ??= setInterval(() => {}, 60_000);
      feed({ type: "leaving", at: moment() });
      return left.promise;
    },
    async stop() {
      if (stopped) return;
      stopped = true;
      deliveries.clear();
      ending.abort();
      for (const off of unsubscribe) off();
      feed({ type: "stopped", at: moment() });
      clearTimeout(timer);
      clearInterval(leaving);
      left.resolve(false);
      await options.snapshots?.denialsPersisted();
      folder?.release();
    },
  };
}

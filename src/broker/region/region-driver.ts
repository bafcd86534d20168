/**
 * Region driver: runs the region core of a process. It carries out effects with the brokers of the home region, the age
 * mark, an alarm and the broker's own replica, and feeds every result back. It decides nothing.
 */
import type { CommandOutcome, Link } from "../../events/index.ts";
import { type Fanout, openBatch } from "../../replication/fanout/index.ts";
import type { Clock, Databroker, Logger, PageOutcome } from "../../replication/index.ts";
import { LeaseRefusedError } from "../../replication/lease/index.ts";
import type { ReplicaProcess } from "../../replication/node/index.ts";
import {
  BrokerUnavailableError,
  type EnvelopeOpener,
  encodeMessage,
  type Opened,
  openGrant,
  type RefusedMessage,
  type Role,
  type Signer,
  sealEnvelope,
} from "../../replication/wire/index.ts";
import type { PageRequest } from "../api/local-databroker.ts";
import { LeaseMessageRejectedError } from "../core/lease-message-error.ts";
import { createWakeTimer, waitFor } from "../core/notifier.ts";
import { leaseMessageIn, ProvenReplacements } from "../leader/lease-messages.ts";
import type { AgeMark } from "./age-mark-file.ts";
import type { RegionCopy } from "./region-copy.ts";
import type { RegionCore } from "./region-core.ts";
import { RegionLocal, type RegionLocalParts, type RegionPeerCalls, submitMerge } from "./region-local.ts";
import { RegionLoop } from "./region-loop.ts";
import type { HomeAnswer, HomeQuestion, NodeAnswer, OwnCopy, RegionEffect, RegionFact } from "./region-messages.ts";
import type { RevocationOptions } from "./region-revocations.ts";

/** The broker's own replica. */
export type OwnReplica = Pick<ReplicaProcess, "applied" | "projection" | "lease" | "readNow">;

export type RegionDriverParts = Readonly<{
  copy: RegionCopy;
  mark: AgeMark;
  /** The client of the home region's brokers for a role. */
  home: (role: Role) => Databroker;
  clock: Clock;
  logger: Logger;
  version: string;
  renewMs: number;
  /** Opens envelopes that brokers signed. */
  openBroker: EnvelopeOpener;
  /** Opens envelopes that nodes signed. */
  openNode: (bytes: Uint8Array) => Opened | RefusedMessage;
  signer: Signer;
  /** What it needs to accept revocations by itself. Null: it accepts none. */
  revocations: RegionDriverRevocations | null;
}>;

export type RegionDriverRevocations = Pick<RevocationOptions, "region" | "addresses"> &
  Pick<RegionLocalParts, "cluster" | "file" | "signReceipt"> &
  Readonly<{
    /** Those of `addresses` that may be other brokers. */
    peerAddresses: readonly string[];
    calls: RegionPeerCalls;
  }>;

type Waiter<T> = Readonly<{ resolve: (value: T) => void; reject: (error: unknown) => void }>;
type LeaderReply = Readonly<{ envelope: Uint8Array | null }> | Readonly<{ error: unknown }>;
type PendingNodeMessage = Waiter<Uint8Array | null> & {
  readonly role: Role;
  readonly envelope: Uint8Array;
  reply: LeaderReply | null;
};

/** How often it is checked whether the home region can still answer the questions that wait for it. */
const pendingCheckMs = 100;

export class RegionDriver {
  readonly #parts: RegionDriverParts;
  readonly #loop: RegionLoop;
  readonly #wakeTimer = createWakeTimer(() => this.#feed({ type: "woke" }));
  readonly #ownReads = new Map<number, Waiter<PageOutcome> & Readonly<{ signal: AbortSignal | undefined }>>();
  readonly #reads = new Map<number, Waiter<PageOutcome>>();
  readonly #nodeMessages = new Map<number, PendingNodeMessage>();
  readonly #changes = new Map<number, () => void>();
  readonly #proven = new ProvenReplacements();
  readonly #left = Promise.withResolvers<"say" | "withhold">();
  /** Null: this broker accepts no revocation by itself. */
  readonly local: RegionLocal | null;
  /** Ends each question that waits for the home region. */
  readonly #pendingAsks = new Set<() => void>();
  readonly #askTimer = createWakeTimer(() => this.#checkPendingAsks());
  #isAskTimerSet = false;
  #replica: OwnReplica | null = null;

  constructor(parts: RegionDriverParts) {
    const { copy, mark, version, renewMs, clock } = parts;
    this.#parts = parts;
    this.local = this.#localOf(parts);
    const revocations = revocationOptionsOf(parts);
    this.#loop = new RegionLoop(
      { copy, version, renewMs, revocations, mark: mark.leftBehind ? "on the disk" : "none" },
      {
        moment: () => ({ monotonic: clock.monotonic(), wall: clock.wall() }),
        own: () => this.#own(),
        perform: (effect) => this.#perform(effect),
      },
    );
  }

  #localOf({ signer, openBroker, logger, revocations }: RegionDriverParts): RegionLocal | null {
    if (revocations === null) return null;
    const { cluster, file, signReceipt, calls } = revocations;
    return new RegionLocal({
      cluster,
      file,
      signReceipt,
      signer,
      openBroker,
      logger,
      peers: calls,
      broker: signer.certificate.name,
      feed: (fact) => this.#feed(fact),
      nextId: () => this.#nextId(),
    });
  }

  /** For reading only. */
  get core(): RegionCore {
    return this.#loop.core;
  }

  /** The broker's own replica, once it has been started. */
  setReplica(replica: OwnReplica): void {
    this.#replica = replica;
    if (this.local !== null) this.#feed({ type: "woke" }); // asks the other brokers of the region at once
  }

  /** A read of the broker's own replica. @throws what the home region's client throws */
  readForOwn(after: Link, { limit, waitMs, signal }: PageRequest): Promise<PageOutcome> {
    const id = this.#nextId();
    const { promise, resolve, reject } = Promise.withResolvers<PageOutcome>();
    this.#ownReads.set(id, { resolve, reject, signal });
    this.#feed({ type: "ownReadAsked", id, after, limit, waitMs });
    return promise;
  }

  /** A read of a node of the region. @throws BrokerUnavailableError when the copy has not reached the node's link */
  read(after: Link, { limit, waitMs, signal }: PageRequest): Promise<PageOutcome> {
    const id = this.#nextId();
    const { promise, resolve, reject } = Promise.withResolvers<PageOutcome>();
    this.#reads.set(id, { resolve, reject });
    this.#feed({ type: "readAsked", id, after, limit, waitMs: signal?.aborted === true ? 0 : waitMs });
    if (this.#reads.has(id))
      signal?.addEventListener("abort", () => this.#feed({ type: "readGivenUp", id }), { once: true });
    return promise;
  }

  /** @returns the enveloped grant for a renew, null otherwise @throws LeaseRefusedError, BrokerUnavailableError */
  take(role: Role, envelope: Uint8Array): Promise<Uint8Array | null> {
    const message = leaseMessageIn(this.#parts.openNode(envelope), this.#proven);
    const id = this.#nextId();
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | null>();
    this.#nodeMessages.set(id, { resolve, reject, role, envelope, reply: null });
    this.#feed({ type: "nodeMessage", id, message });
    return promise;
  }

  /** A change of the broker's own replica. @returns undefined: the region already enforces it */
  changed({ link, rebuilt }: Readonly<{ link: Link; rebuilt: boolean }>): Promise<void> | undefined {
    const id = this.#nextId();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changes.set(id, resolve);
    this.#feed({ type: "changed", id, link, rebuilt });
    return this.#changes.has(id) ? promise : undefined;
  }

  /** The fan-out for the broker's own replica. The copy keeps the deliveries that the replica applies. */
  keptFanout(fanout: Fanout): Fanout {
    return {
      ...fanout,
      subscribe: (listener) =>
        fanout.subscribe((envelope, reportForgery) => {
          listener(envelope, reportForgery);
          for (const batch of this.#batchesOf([envelope])) this.#feed({ type: "delivered", batch });
        }),
      replay: async (request) => {
        const envelopes = (await fanout.replay?.(request)) ?? [];
        this.#feed({ type: "replayed", batches: this.#batchesOf(envelopes) });
        return envelopes;
      },
    };
  }

  /** A renew, confirmation or goodbye of the broker's own replica. It is sent even while the home region is away. */
  async leaseForOwn(envelope: Uint8Array): Promise<Uint8Array | null> {
    try {
      const answer = await this.#askRegardless("broker", (home) => home.lease(envelope));
      this.#feed({ type: "leaderAnswered" });
      return answer;
    } catch (error) {
      if (error instanceof LeaseRefusedError) this.#feed({ type: "leaderAnswered" });
      throw error;
    }
  }

  /**
   * Asks even while the home region is away. An answer shows that a broker there can be reached, not that one leads.
   */
  async #askRegardless<T>(role: Role, question: (home: Databroker) => Promise<T>): Promise<T> {
    try {
      const answer = await question(this.#parts.home(role));
      this.#feed({ type: "homeBrokerAnswered" });
      return answer;
    } catch (error) {
      if (isFromHome(error)) this.#feed({ type: "homeBrokerAnswered" });
      throw error;
    }
  }

  /**
   * Fails at once while the home region is out of reach, and as soon as it is while the question is pending.
   * @throws BrokerUnavailableError; with the outcome `none`, nothing was sent
   */
  async ask<T>(role: Role, question: (home: Databroker) => Promise<T>): Promise<T> {
    if (this.#isHomeOutOfReach()) throw homeOutOfReach("none");
    const lost = Promise.withResolvers<never>();
    const onLost = (): void => lost.reject(homeOutOfReach("unknown"));
    this.#pendingAsks.add(onLost);
    this.#watchPendingAsks();
    try {
      return await Promise.race([this.#askRegardless(role, question), lost.promise]);
    } finally {
      this.#pendingAsks.delete(onLost);
    }
  }

  #isHomeOutOfReach(): boolean {
    return this.#loop.core.isHomeOutOfReach(this.#parts.clock.monotonic());
  }

  #watchPendingAsks(): void {
    if (this.#isAskTimerSet) return;
    this.#isAskTimerSet = true;
    this.#askTimer.set(pendingCheckMs);
  }

  #checkPendingAsks(): void {
    this.#isAskTimerSet = false;
    if (this.#isHomeOutOfReach()) for (const onLost of this.#pendingAsks) onLost();
    else if (this.#pendingAsks.size > 0) this.#watchPendingAsks();
  }

  /**
   * @returns undefined: the home region is away, or did not answer in time; a late answer still shows that it is
   * reachable
   */
  async askWithin<T>(ms: number, role: Role, question: (home: Databroker) => Promise<T>): Promise<T | undefined> {
    const answer = this.ask(role, question);
    answer.catch(() => {});
    try {
      return await Promise.race([answer, waitFor(ms).then(() => undefined)]);
    } catch (error) {
      if (error instanceof BrokerUnavailableError) return undefined;
      throw error;
    }
  }

  /** Ends every wait. @returns whether the replica may say goodbye */
  stop(): Promise<"say" | "withhold"> {
    this.#feed({ type: "stopping" });
    this.#wakeTimer.off();
    this.#askTimer.off();
    return this.#left.promise;
  }

  #feed(fact: RegionFact): void {
    this.#loop.feed(fact);
  }

  #own(): OwnCopy | null {
    if (this.#replica === null) return null;
    const { applied, projection } = this.#replica;
    return {
      applied,
      level: projection.level,
      digest: () => projection.digest(),
      projection,
      lease: this.#replica.lease(),
    };
  }

  #perform(effect: RegionEffect): void {
    switch (effect.type) {
      case "wake":
        this.#wakeTimer.set(effect.at - this.#parts.clock.monotonic());
        return;
      case "askHome":
        void this.#askHome(effect.id, effect.question);
        return;
      case "answerOwnRead": {
        const waiter = this.#ownReads.get(effect.id);
        this.#ownReads.delete(effect.id);
        if (effect.answer.type === "failed") waiter?.reject(effect.answer.error);
        else waiter?.resolve(effect.answer);
        return;
      }
      case "answerRead": {
        const waiter = this.#reads.get(effect.id);
        this.#reads.delete(effect.id);
        if (effect.answer.type === "unavailable") waiter?.reject(new BrokerUnavailableError(effect.answer.message));
        else waiter?.resolve(effect.answer);
        return;
      }
      case "answerNode":
        this.#answerNode(effect.id, effect.answer);
        return;
      case "enforced":
        this.#changes.get(effect.id)?.();
        this.#changes.delete(effect.id);
        return;
      case "look":
        this.#replica?.readNow();
        return;
      case "keepMark":
        this.#keepMark();
        return;
      case "clearMark":
        this.#clearMark();
        return;
      case "leave":
        this.#left.resolve(effect.goodbye);
        return;
      case "broken":
        this.#parts.logger.error(
          { err: effect.error },
          "a step of the regional broker failed; its callers get no answer",
        );
        return;
      case "log":
        this.#parts.logger[effect.level](effect.fields, effect.message);
        return;
      default:
        this.local?.perform(effect);
    }
  }

  async #askHome(id: number, question: HomeQuestion): Promise<void> {
    const { home } = this.#parts;
    const pending = question.op === "forward" ? this.#nodeMessages.get(question.messageId) : undefined;
    try {
      if (question.op === "read") {
        const { after, limit, waitMs, reader } = question;
        const signal = reader === null ? undefined : this.#ownReads.get(reader)?.signal;
        const answer = await home("broker").read(after, { limit, waitMs, ...(signal === undefined ? {} : { signal }) });
        this.#feed({ type: "homeAnswered", id, answer });
      } else if (question.op === "merge") {
        this.#feed({ type: "homeAnswered", id, answer: await submitMerge(home("broker"), question) });
      } else if (pending !== undefined) {
        const envelope = await home(pending.role).lease(pending.envelope);
        pending.reply = { envelope };
        this.#feed({
          type: "homeAnswered",
          id,
          answer: envelope === null ? { type: "taken" } : this.#granted(envelope),
        });
      }
    } catch (error) {
      if (pending !== undefined) pending.reply = { error };
      if (error instanceof LeaseRefusedError)
        this.#feed({ type: "homeAnswered", id, answer: { type: "refused", refusal: error.refusal } });
      else {
        const answer: HomeAnswer = !(error instanceof BrokerUnavailableError)
          ? { type: "failed", error }
          : { type: "unavailable", error, ...(isFromHome(error) ? { by: "home" } : {}) };
        this.#feed({ type: "homeAnswered", id, answer });
      }
    }
  }

  /**
   * A grant that this broker cannot read is not passed on, because it does not know for how long it counts.
   * @throws BrokerUnavailableError
   */
  #granted(envelope: Uint8Array): HomeAnswer {
    if (this.local === null) return { type: "granted", windowMs: 0, drift: 0 }; // nothing depends on them
    const grant = openGrant(envelope, this.#parts.openBroker);
    if ("refused" in grant) throw new BrokerUnavailableError(`a grant of the leader was refused: ${grant.detail}`);
    return { type: "granted", windowMs: grant.windowMs, drift: grant.drift };
  }

  #answerNode(id: number, answer: NodeAnswer): void {
    const pending = this.#nodeMessages.get(id);
    this.#nodeMessages.delete(id);
    if (pending === undefined) return;
    switch (answer.type) {
      case "leader":
        this.#answerAsLeader(pending);
        return;
      case "grantByAge":
        pending.resolve(sealEnvelope(this.#parts.signer, "grant-by-age", encodeMessage(answer.grant)));
        return;
      case "taken":
        pending.resolve(null);
        return;
      case "refused":
        pending.reject(new LeaseMessageRejectedError(answer.refusal));
        return;
      case "unavailable":
        pending.reject(new BrokerUnavailableError(answer.message));
    }
  }

  #answerAsLeader({ reply, resolve, reject }: PendingNodeMessage): void {
    if (reply === null) reject(new BrokerUnavailableError("the leader has not answered"));
    else if ("envelope" in reply) resolve(reply.envelope);
    else if (reply.error instanceof LeaseRefusedError)
      reject(new LeaseMessageRejectedError(reply.error.refusal, { cause: reply.error }));
    else reject(reply.error);
  }

  /** Writes the age mark before any lease that depends on it leaves. */
  #keepMark(): void {
    try {
      this.#parts.mark.set();
    } catch (error) {
      this.#parts.logger.error({ err: error }, "the age mark cannot be written; no lease by age is granted");
      this.#feed({ type: "markNotKept", reason: error instanceof Error ? error.message : String(error) });
      return;
    }
    this.#feed({ type: "markKept" });
  }

  #clearMark(): void {
    try {
      this.#parts.mark.clear();
    } catch (error) {
      const consequence = "the age mark cannot be removed; after a restart, receipts wait for the window of this boot";
      this.#parts.logger.error({ err: error }, consequence);
    }
  }

  #batchesOf(envelopes: readonly Uint8Array[]) {
    const { openBroker, copy } = this.#parts;
    return envelopes.flatMap((envelope) => {
      const opened = openBatch(envelope, openBroker, (last) => last.position <= copy.head.position);
      return "refused" in opened ? [] : [opened.batch];
    });
  }

  #nextId(): number {
    return this.#loop.nextId();
  }
}

function revocationOptionsOf({ signer, revocations }: RegionDriverParts): RevocationOptions | null {
  if (revocations === null) return null;
  const { name: broker, boot } = signer.certificate;
  const { region, addresses, peerAddresses: peers, file } = revocations;
  return { broker, boot, region, addresses, peers, stored: file.stored };
}

/** A broker of the home region has answered, without what was asked. */
function isFromHome(error: unknown): boolean {
  return error instanceof BrokerUnavailableError && error.reason === "no-leader";
}

function homeOutOfReach(outcome: CommandOutcome): BrokerUnavailableError {
  return new BrokerUnavailableError("the home region is unreachable", { reason: "home-unreachable", outcome });
}

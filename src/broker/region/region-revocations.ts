/**
 * Region revocations: how a regional broker accepts a command that only tightens while the home region is out of reach,
 * and gives it to the other brokers and the nodes of its region until the log has it (docs/protocol.md §6.4, ADR 0039:
 * a cut-off region revokes locally).
 *
 * - A revocation binds this broker's grants from the moment it is accepted, before any disk has it.
 * - A caller hears `local` only when every broker of the region has it on the disk. Any other answer means "unknown".
 * - A revocation leaves the store only when the log denies, at or past its merge, what it denies.
 *
 * Pure.
 */
import type { BootId, SessionId, UserId } from "../../events/index.ts";
import { fenceAfterMs } from "../../replication/lease/index.ts";
import {
  encodeRevocation,
  isSameChange,
  type LocalRevocation,
  revocationIdsMax,
  revocationKey,
  type SealedRevocation,
  type SolePathClaim,
  type StorePosition,
} from "../../replication/wire/index.ts";
import type { LocalAnswer, LocalRefusal, LocalRequest, PeerQuestion } from "./local-messages.ts";
import { LocalReceipts } from "./local-receipts.ts";
import type { HomeAnswer, RegionFact } from "./region-messages.ts";
import type { RegionNodes } from "./region-nodes.ts";
import { RegionPeers } from "./region-peers.ts";
import type { RegionStepContext } from "./region-step-context.ts";
import { type MergeLinks, RevocationMerges } from "./revocation-merges.ts";
import { RevocationReaders } from "./revocation-readers.ts";
import { RevocationStore, type StoredRevocations } from "./revocation-store.ts";

export type RevocationOptions = Readonly<{
  broker: string;
  boot: BootId;
  region: string;
  /** `broker.urls` and this broker's own address, each as an origin. */
  addresses: readonly string[];
  /** The addresses among them that are not known to be this broker's own. */
  peers: readonly string[];
  stored: StoredRevocations;
}>;

/** How long a caller waits for the other brokers of the region. */
const answerMs = 3_000;
/** Callers that wait at once. */
const waitingMax = 1_000;
/** An envelope adds its certificate and two signatures. */
const envelopeBytes = 3_000;

type Waiting = Readonly<{ id: number; key: string; until: number }>;

export class RegionRevocations {
  readonly store: RevocationStore;
  readonly #context: RegionStepContext;
  readonly #options: RevocationOptions;
  readonly #peers: RegionPeers;
  readonly #readers: RevocationReaders;
  readonly #receipts: LocalReceipts;
  readonly #nodes: RegionNodes;
  readonly #merges: RevocationMerges;
  readonly #leaderAnswers: () => boolean;
  #waiting: Waiting[] = [];
  /** Revocations that wait for their signature, by the number of the effect. */
  readonly #unsigned = new Map<number, Readonly<{ id: number; revocation: LocalRevocation }>>();
  readonly #counts = { localAccepted: 0, localRefused: 0 };
  #ids = 0;
  #closed = false;
  #windowMs: number;
  #drift: number;
  #keptWindowMs: number;
  #keptDrift: number;
  /** When this boot started. */
  #startedAt: number | null = null;

  constructor(
    context: RegionStepContext,
    options: RevocationOptions,
    parts: Readonly<{ nodes: RegionNodes; leaderAnswers: () => boolean } & MergeLinks>,
  ) {
    this.#context = context;
    this.#options = options;
    this.#nodes = parts.nodes;
    this.store = new RevocationStore(options.stored);
    this.#leaderAnswers = parts.leaderAnswers;
    this.#merges = new RevocationMerges(context, { store: this.store, ...parts });
    this.#windowMs = this.#keptWindowMs = options.stored.windowMs;
    this.#drift = this.#keptDrift = options.stored.drift;
    this.#readers = new RevocationReaders(context, this.store);
    this.#peers = new RegionPeers(context, {
      broker: options.broker,
      boot: options.boot,
      peers: options.peers,
      store: this.store,
      stretch: () => (1 + this.#drift) / (1 - this.#drift),
    });
    this.#receipts = new LocalReceipts(context, {
      broker: options.broker,
      store: this.store,
      peers: this.#peers,
      nodes: this.#nodes,
      unknownForMs: () => this.#unknownForMs(),
      mergedAt: (commandId) => this.#merges.mergedAt(commandId),
    });
  }

  get counts(): Readonly<Record<string, number>> {
    const { merged: localMerged } = this.#merges;
    const localAble = Number(this.#isAble());
    return { ...this.#counts, localMerged, localAble, localRevocations: this.store.size, localUnmerged: this.unmerged };
  }
  /** Whether the region could revoke by itself if it were cut off now. */
  #isAble(): boolean {
    if (this.#startedAt === null) return false;
    const { own, now } = this.#context;
    return this.#pathProblem(own.lease?.solePath ?? null) === null && this.#unableNode(now) === null;
  }
  /** Those that the log does not have yet, as far as this broker knows. */
  get unmerged(): number {
    let unmerged = 0;
    for (const { merged } of this.store.entries) if (merged === null) unmerged += 1;
    return unmerged;
  }

  /** Where a node must be before a lease by age counts; null: the log has everything. */
  get tightenedTo(): StorePosition | null {
    return this.store.tightenedTo;
  }

  /** Whether this broker would accept revocations by itself, and whether it holds any that the log may lack. */
  solePathClaim(now: number): Pick<SolePathClaim, "wanted" | "retained"> {
    const retained = this.store.size > 0 || this.#unsigned.size > 0;
    return { wanted: !this.#closed && this.#unableNode(now) === null, retained };
  }

  /** Whether a node that has confirmed this much must get no younger lease from the leader. */
  withholds(confirmed: number): boolean {
    return this.store.retainsAfter(confirmed);
  }

  /**
   * Whether a lease with this window may be passed on: the disk must name the longest window first, so that the next
   * boot knows how long nodes that it never heard of may still decide. A broker that has just started also waits for
   * what the others of its region retain, because its disk may be a new one.
   */
  mayPass({ windowMs, drift }: Readonly<{ windowMs: number; drift: number }>): boolean {
    if (!this.#peers.haveAnswered) return false;
    if (windowMs <= this.#keptWindowMs && drift <= this.#keptDrift) return true;
    if (windowMs > this.#windowMs || drift > this.#drift) {
      this.#windowMs = Math.max(this.#windowMs, windowMs);
      this.#drift = Math.max(this.#drift, drift);
      this.#keep();
    }
    return false;
  }

  /** Called with every input, before it is handled. */
  begin(): void {
    this.#startedAt ??= this.#context.now;
  }

  // --- operators

  /** A command that only tightens, and that home cannot answer. Answered by `answerLocal`. */
  accept({ id, request }: Extract<RegionFact, { type: "localAsked" }>): void {
    const known = this.store.ofCommand(request.commandId);
    if (known.length > 0) {
      // The ids of a repeated command are those of its first acceptance.
      const same = known.find(({ sealed }) => isSameChange(sealed.revocation, request.command));
      if (same !== undefined) this.#addCaller(id, same.key);
      else this.#answer(id, { type: "refused", code: "invalid", message: "this command id names another change" });
      return;
    }
    if (this.#leaderAnswers()) {
      this.#answer(id, this.#unkept(unavailable("local-home-answers", "the leader answers: send it the command")));
      return;
    }
    const revocation = this.#revocationOf(request);
    if ("type" in revocation) {
      this.#answer(id, this.#unkept(revocation));
      return;
    }
    const refusal = this.#refusalFor(revocation);
    if (refusal !== null) {
      this.#answer(id, this.#unkept(refusal));
      return;
    }
    const numbered = { ...revocation, seq: this.store.takeSeq() };
    this.#ids += 1;
    this.#unsigned.set(this.#ids, { id, revocation: numbered });
    this.#context.emit({ type: "signRevocation", id: this.#ids, revocation: numbered });
  }

  signed({ id: number, envelope }: Extract<RegionFact, { type: "revocationSigned" }>): void {
    const unsigned = this.#unsigned.get(number);
    if (unsigned === undefined) return;
    this.#unsigned.delete(number);
    const { id, revocation } = unsigned;
    const entry = this.store.add({ revocation, envelope }, revocation.seq);
    this.#counts.localAccepted += 1;
    this.#waiting.push({ id, key: entry.key, until: this.#context.now + answerMs });
    this.#context.wakeBy(this.#context.now + answerMs);
    this.#peers.retryNow();
    this.#keep();
  }

  /** The disk has everything that the effect of this number named. */
  kept({ keys, windowMs, drift }: Extract<RegionFact, { type: "revocationsKept" }>): void {
    for (const key of keys) this.store.recordKept(key);
    this.#keptWindowMs = Math.max(this.#keptWindowMs, windowMs);
    this.#keptDrift = Math.max(this.#keptDrift, drift);
    this.#peers.stored();
    this.#readers.serve();
    this.#proceed();
  }

  /** The disk rejected them. What is not on the disk is in force nowhere else, and is given up. */
  notKept({ reason }: Extract<RegionFact, { type: "revocationsNotKept" }>): void {
    this.#windowMs = this.#keptWindowMs;
    this.#drift = this.#keptDrift;
    const lost = [...this.store.entries].filter(({ kept }) => !kept).map(({ key }) => key);
    for (const key of lost) this.store.remove(key);
    const message = `this broker's disk did not store the revocation: ${reason}`;
    this.#answerWaiting(({ key }) =>
      lost.includes(key) ? { type: "unavailable", code: "local-not-stored", message } : null,
    );
    this.#peers.notStored(reason);
    this.#readers.serve();
  }

  // --- other brokers of the region

  /** Another broker of the region. Answered by `answerPeer` once everything that it gave is on the disk. */
  peerAsked({ id, question }: Extract<RegionFact, { type: "peerAsked" }>): void {
    this.#adopt(question.sealed);
    this.#peers.asked(id, () => ({
      broker: this.#options.broker,
      boot: this.#options.boot,
      addresses: this.#options.addresses,
      stored: [...this.store.entries].filter(({ kept }) => kept).map(({ key, seq }) => ({ key, seq })),
      merged: this.#merges.knownOf([
        ...question.held,
        ...question.sealed.map(({ revocation }) => revocationKey(revocation)),
      ]),
      lacking: this.#lackingOf(question),
      nodes: this.#nodes.peerNodes(this.#context.now),
      unknownForMs: this.#unknownForMs(),
    }));
    this.#proceed();
  }

  peerAnswered(fact: Extract<RegionFact, { type: "peerAnswered" }>): void {
    const answer = this.#peers.answered(fact);
    if (answer !== null) {
      this.#adopt(fact.lacking);
      for (const { key, link } of answer.merged) this.#merges.learn(key, link);
    }
    this.#proceed();
  }

  /** A node has brought a revocation that its disk holds. One of another region is for the leader alone. */
  nodeBrought({ sealed }: Extract<RegionFact, { type: "revocationBrought" }>): void {
    if (sealed.revocation.region === this.#options.region) this.#adopt([sealed]);
  }

  // --- nodes

  denialsAsked(fact: Extract<RegionFact, { type: "denialsAsked" }>): void {
    this.#readers.ask(fact);
  }

  denialsGivenUp({ id }: Extract<RegionFact, { type: "denialsGivenUp" }>): void {
    this.#readers.giveUp(id);
  }

  receiptAsked(fact: Extract<RegionFact, { type: "localReceiptAsked" }>): void {
    this.#receipts.ask(fact);
  }

  /** A node has confirmed, or a lease has ended. */
  nodesChanged(): void {
    this.#receipts.serve();
  }

  // --- the log

  /** @returns whether the question was a submission of a revocation */
  homeAnswered(question: number, answer: HomeAnswer): boolean {
    const mine = this.#merges.answered(question, answer);
    if (mine) this.logMoved();
    return mine;
  }

  /** The broker's own projection has moved. `rebuilt`: its history may be another one. */
  logMoved({ rebuilt }: Readonly<{ rebuilt: boolean }> = { rebuilt: false }): void {
    if (rebuilt) this.#merges.forgetDropped();
    if (this.#merges.dropMerged() > 0) {
      this.#keep();
      this.#readers.serve();
    }
    this.#receipts.serve();
  }

  /** The copy on the disk has moved: it may hold a merge that the projection has read before. */
  logCopied(): void {
    if (this.#merges.awaitsCopy) this.logMoved();
  }

  woke(): void {
    if (this.#closed) return;
    this.#peers.wake(() => this.#question());
    this.#readers.wake();
    this.#receipts.wake();
    this.#answerOverdue();
    this.#merges.submit();
  }

  close(): void {
    this.#closed = true;
    this.#answerWaiting(() => unavailable("local-broker-unreachable", "this broker is stopping"));
    this.#readers.close();
    this.#receipts.close();
    this.#peers.close();
  }

  /** Begins what is due: questions to the others, submissions, answers. */
  #proceed(): void {
    this.#peers.wake(() => this.#question());
    this.#answerStored();
    this.#receipts.serve();
    this.#merges.submit();
  }

  #question(): Omit<PeerQuestion, "sealed"> {
    return {
      broker: this.#options.broker,
      boot: this.#options.boot,
      addresses: this.#options.addresses,
      held: [...this.store.entries].map(({ key }) => key),
    };
  }

  #adopt(sealed: readonly SealedRevocation[]): void {
    let added = 0;
    for (const each of sealed) {
      const key = revocationKey(each.revocation);
      if (this.store.get(key) !== undefined || this.#merges.isDropped(key)) continue;
      if (!this.store.hasRoomFor(each.envelope.length)) break; // it is not acknowledged, so it is given again
      this.store.add(each, this.store.takeSeq());
      added += 1;
    }
    if (added > 0) this.#keep();
  }

  #keep(): void {
    const entries = [...this.store.entries];
    this.#context.emit({
      type: "keepRevocations",
      stored: {
        store: this.store.id,
        head: this.store.head,
        entries: entries.map(({ seq, sealed }) => ({ seq, sealed })),
        windowMs: this.#windowMs,
        drift: this.#drift,
      },
      keys: entries.map(({ key }) => key),
    });
  }

  #revocationOf({ commandId, actor, command }: LocalRequest): LocalRevocation | LocalAnswer {
    const { own, at } = this.#context;
    const { lease } = own;
    if (command.type === "suspendUser" && command.until !== undefined)
      return unavailable("local-unsupported", "a region cannot accept a suspension with an end: give none");
    const named = this.#idsOf(command);
    if (named === null) return unavailable("local-unknown", unknownHere);
    return {
      ...named,
      commandId,
      actor,
      region: this.#options.region,
      broker: this.#options.broker,
      boot: this.#options.boot,
      seq: 1,
      basis: own.applied,
      // The leader compares it with its own clock, hours later; this machine's may be wrong.
      acceptedAt: lease?.leaderWallMs ?? at.wall,
      command: command.type,
    };
  }

  /** Null: the region knows none of what the command names. */
  #idsOf(
    command: LocalRequest["command"],
  ): Readonly<{ userId: UserId | null; sessionIds: readonly SessionId[]; reason: string }> | null {
    const { projection } = this.#context.own;
    const isActive = (id: SessionId): boolean => projection.sessionStatus(id).status === "active";
    switch (command.type) {
      case "suspendUser":
        if (projection.user(command.userId) === undefined) return null;
        return { userId: command.userId, sessionIds: [], reason: command.reason };
      case "revokeUserSessions": {
        const sessionIds = projection.sessionsOf(command.userId).filter(isActive);
        return sessionIds.length === 0 ? null : { userId: command.userId, sessionIds: sorted(sessionIds), reason: "" };
      }
      case "revokeSession":
      case "revokeSessions": {
        const named = command.type === "revokeSession" ? [command.sessionId] : command.sessionIds;
        if (!named.some((id) => projection.session(id) !== undefined)) return null;
        return { userId: null, sessionIds: sorted(named), reason: "" };
      }
    }
  }

  #refusalFor(revocation: LocalRevocation): LocalAnswer | null {
    const { lease } = this.#context.own;
    if (lease === null)
      return unavailable("local-no-lease", "this regional broker holds no lease, so its nodes permit nothing");
    const pathProblem = this.#pathProblem(lease.solePath ?? null);
    if (pathProblem !== null) return pathProblem;
    if (revocation.sessionIds.length > revocationIdsMax)
      return unavailable("local-full", `it ends more than ${revocationIdsMax} sessions: suspend the person instead`);
    if (this.#waiting.length >= waitingMax) return unavailable("local-full", "too many commands wait");
    if (!this.store.hasRoomFor(encodeRevocation(revocation).length + envelopeBytes))
      return unavailable("local-full", "this region holds as many unmerged revocations as it may");
    return this.#unableNode(this.#context.now);
  }

  /** @param brokers those through which all leases of the region's nodes came, as the leader says; null: not all did */
  #pathProblem(brokers: readonly string[] | null): LocalAnswer | null {
    if (brokers === null) return unavailable("local-node-unable", pastBrokers);
    const known = new Set([this.#options.broker, ...this.#peers.names]);
    const other = brokers.find((name) => !known.has(name));
    return other === undefined
      ? null
      : unavailable(
          "local-brokers-differ",
          `broker.urls of this broker does not name ${other}, which serves this region`,
        );
  }

  /** Every node whose lease may count must be able to keep revocations, and use only the brokers of this region. */
  #unableNode(now: number): LocalAnswer | null {
    const nodes = [...this.#nodes.peerNodes(now), ...this.#peers.nodes(now)];
    for (const { node, brokers, passed } of nodes) {
      if (!passed.some(({ forMs }) => forMs > 0)) continue;
      if (brokers === null) return unavailable("local-node-unable", `node ${node} runs a build that keeps none`);
      const foreign = brokers.find((address) => !this.#options.addresses.includes(address));
      if (foreign !== undefined)
        return unavailable("local-node-unable", `node ${node} uses ${foreign}, which is not a broker of this region`);
    }
    return null;
  }

  // --- answers

  #addCaller(id: number, key: string): void {
    this.#waiting.push({ id, key, until: this.#context.now + answerMs });
    this.#context.wakeBy(this.#context.now + answerMs);
    this.#peers.retryNow();
    this.#proceed();
  }

  #answerStored(): void {
    this.#answerWaiting(({ key }) => {
      const entry = this.store.get(key);
      if (entry === undefined || !entry.kept) return null;
      const differs = this.#peers.differing(this.#options.addresses);
      if (differs !== null)
        return unavailable("local-brokers-differ", `broker.urls of ${differs} differs from this broker's`);
      const problem = this.#peers.problemWith(key);
      if (problem === "waiting") return null;
      if (problem !== null) return unavailable("local-broker-unreachable", problem);
      return this.#unableNode(this.#context.now) ?? { type: "local", revocation: entry.sealed.revocation };
    });
  }

  #answerOverdue(): void {
    const { now } = this.#context;
    this.#answerWaiting(({ key, until }) => {
      if (until > now) {
        this.#context.wakeBy(until);
        return null;
      }
      const problem = this.#peers.problemWith(key);
      const message = problem === null || problem === "waiting" ? "another broker did not answer in time" : problem;
      return unavailable("local-broker-unreachable", message);
    });
  }

  #answerWaiting(answerTo: (waiting: Waiting) => LocalAnswer | null): void {
    this.#waiting = this.#waiting.filter((waiting) => {
      const answer = answerTo(waiting);
      if (answer !== null) this.#answer(waiting.id, answer);
      return answer === null;
    });
  }

  /** Nothing of the command is kept here. A broker of the region that does not answer may have accepted it. */
  #unkept(answer: LocalAnswer): LocalAnswer {
    const isSure = answer.type === "unavailable" && this.#peers.haveAnsweredLast;
    return isSure ? { ...answer, outcome: "none" } : answer;
  }

  #answer(id: number, answer: LocalAnswer): void {
    if (answer.type !== "local") this.#counts.localRefused += 1;
    this.#context.emit({ type: "answerLocal", id, answer });
  }

  #lackingOf({ held }: PeerQuestion): readonly Uint8Array[] {
    const known = new Set(held);
    return [...this.store.entries]
      .filter(({ key, kept, merged }) => kept && merged === null && !known.has(key))
      .map(({ sealed }) => sealed.envelope);
  }

  /** For how long a lease may count that an earlier boot of this broker passed on, or for which there was no room. */
  #unknownForMs(): number {
    const { now } = this.#context;
    const { windowMs, drift } = this.#options.stored;
    const earlier = (this.#startedAt ?? now) + fenceAfterMs(windowMs, drift);
    return Math.max(0, Math.max(earlier, this.#nodes.unrecordedUntil) - now);
  }
}

const pastBrokers =
  "the leader does not say that all nodes of this region get leases through its brokers: name only these in broker.urls of each node";
const unknownHere = "this region knows nothing that the command names; the home region may";

function unavailable(code: LocalRefusal, message: string): LocalAnswer {
  return { type: "unavailable", code, message };
}

function sorted(ids: readonly SessionId[]): readonly SessionId[] {
  return [...new Set(ids)].sort();
}

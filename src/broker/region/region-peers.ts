/**
 * Region peers: the other brokers of the region, to each of which a regional broker gives the revocations that it
 * retains. Pure.
 *
 * - One question to each of them is in flight at most. It is repeated until everything is acknowledged.
 * - An acknowledgement names what that broker has on its disk, and its nodes with the time that their leases may count.
 *   It stays an upper bound: from then on that broker passes on no lease without those revocations.
 * - An address that turns out to be this process's own is left out. Another process under this broker's name is an
 *   error of the operator: it serves nodes that no answer would name, so nothing is accepted while it answers.
 */
import { revocationKey } from "../../replication/wire/index.ts";
import type { PeerAnswer, PeerNode, PeerQuestion } from "./local-messages.ts";
import type { RegionFact } from "./region-messages.ts";
import type { RegionStepContext } from "./region-step-context.ts";
import type { RevocationStore, StoredEntry } from "./revocation-store.ts";

type Heard = Readonly<{ answer: PeerAnswer; at: number }>;
type Peer = {
  readonly address: string;
  isSelf: boolean;
  /** The number of the question in flight. */
  asking: number | null;
  askedAt: number;
  /** The keys of the revocations that the question in flight gives. */
  given: readonly string[];
  /** Not before this time (ms). */
  askAt: number;
  failures: number;
  problem: string | null;
  heard: Heard | null;
  /** What it has acknowledged, with its nodes at that time, by key. */
  readonly stored: Map<string, Readonly<{ seq: number } & Heard>>;
};
type Pending = Readonly<{ id: number; answerOf: () => PeerAnswer }>;

const questionMs = 2_500;
const againMs = { first: 250, max: 5_000 };
/** Without anything to give, the others are asked this often: what they retain may be lacking here. */
const everyMs = 10_000;
const givenBytesMax = 2 * 1024 * 1024;

export class RegionPeers {
  readonly #context: RegionStepContext;
  readonly #broker: string;
  readonly #boot: string;
  readonly #store: RevocationStore;
  readonly #stretch: () => number;
  readonly #peers: readonly Peer[];
  #pending: Pending[] = [];
  #questions = 0;

  constructor(
    context: RegionStepContext,
    options: Readonly<{
      broker: string;
      boot: string;
      peers: readonly string[];
      store: RevocationStore;
      /** The factor by which two clocks may count differently. */
      stretch: () => number;
    }>,
  ) {
    this.#context = context;
    this.#broker = options.broker;
    this.#boot = options.boot;
    this.#store = options.store;
    this.#stretch = options.stretch;
    this.#peers = options.peers.map((address) => ({
      address,
      isSelf: false,
      asking: null,
      askedAt: Number.NEGATIVE_INFINITY,
      given: [],
      askAt: 0,
      failures: 0,
      problem: null,
      heard: null,
      stored: new Map(),
    }));
  }

  get #others(): readonly Peer[] {
    return this.#peers.filter(({ isSelf }) => !isSelf);
  }

  /** Whether each other broker has given what it retains, or cannot be reached. */
  get haveAnswered(): boolean {
    return this.#others.every(({ heard, failures }) => heard !== null || failures > 0);
  }

  /** Whether each other broker has answered the newest question, so that what it has accepted is known here. */
  get haveAnsweredLast(): boolean {
    return this.#others.every(({ heard, failures, asking }) => heard !== null && failures === 0 && asking === null);
  }

  /** What is missing for a revocation to be on the disk of every other broker; null: nothing. */
  problemWith(key: string): string | "waiting" | null {
    const missing = this.#others.filter(({ stored }) => !stored.has(key));
    if (missing.length === 0) return null;
    const failed = missing.find(({ problem }) => problem !== null);
    return failed === undefined ? "waiting" : `the regional broker at ${failed.address} ${failed.problem}`;
  }

  /** The names of the others, as far as they have answered. */
  get names(): readonly string[] {
    return this.#others.flatMap(({ heard }) => (heard === null ? [] : [heard.answer.broker]));
  }

  /** The address of a broker whose `broker.urls` are not these; null: none is known. */
  differing(addresses: readonly string[]): string | null {
    const ours = [...addresses].sort().join(" ");
    const other = this.#others.find(
      ({ heard }) => heard !== null && [...heard.answer.addresses].sort().join(" ") !== ours,
    );
    return other?.address ?? null;
  }

  /** The nodes of the other brokers, as of their newest answers. */
  nodes(now: number): readonly PeerNode[] {
    return this.#others.flatMap(({ heard }) => (heard === null ? [] : this.#nodesNow(heard, now)));
  }

  /**
   * What each other broker knows about a revocation. `seq`: its number there; null: it has not acknowledged it.
   * Nothing newer is needed: see the file comment.
   */
  standings(
    key: string,
    now: number,
  ): readonly Readonly<{ broker: string; seq: number | null; nodes: readonly PeerNode[]; unknownForMs: number }>[] {
    return this.#others.map(({ address, stored, heard }) => {
      const acknowledged = stored.get(key);
      const newest = acknowledged ?? heard;
      return {
        broker: newest?.answer.broker ?? address,
        seq: acknowledged?.seq ?? null,
        nodes: newest === null ? [] : this.#nodesNow(newest, now),
        unknownForMs: newest === null ? 0 : this.#leftOf(newest.answer.unknownForMs, newest, now),
      };
    });
  }

  /** Asks again without waiting for the next turn. */
  retryNow(): void {
    for (const peer of this.#others) {
      peer.askAt = 0;
      peer.problem = null;
    }
  }

  /** Requests answers that are newer than this. */
  refreshAfter(ms: number): void {
    const { now } = this.#context;
    for (const peer of this.#others)
      if (peer.failures === 0) peer.askAt = Math.min(peer.askAt, peer.askedAt + ms, now + ms);
  }

  wake(questionOf: () => Omit<PeerQuestion, "sealed">): void {
    const { now } = this.#context;
    for (const peer of this.#others) {
      if (peer.asking !== null && now >= peer.askedAt + questionMs) this.#failed(peer, "does not answer");
      if (peer.asking !== null) {
        this.#context.wakeBy(peer.askedAt + questionMs);
        continue;
      }
      const given = this.#lackedBy(peer).map(({ sealed }) => sealed);
      if (now < peer.askAt && (given.length === 0 || peer.failures > 0)) {
        this.#context.wakeBy(peer.askAt);
        continue;
      }
      this.#questions += 1;
      peer.asking = this.#questions;
      peer.askedAt = now;
      peer.given = given.map(({ revocation }) => revocationKey(revocation));
      peer.askAt = now + everyMs;
      this.#context.wakeBy(now + questionMs);
      const question = { ...questionOf(), sealed: given };
      this.#context.emit({ type: "askPeer", id: this.#questions, address: peer.address, question });
    }
  }

  /** @returns the answer; null: it is a failure, or late */
  answered({ id, answer }: Extract<RegionFact, { type: "peerAnswered" }>): PeerAnswer | null {
    const peer = this.#peers.find(({ asking }) => asking === id);
    if (peer === undefined) return null;
    if ("failed" in answer) {
      this.#failed(peer, answer.failed);
      return null;
    }
    peer.asking = null;
    peer.failures = 0;
    peer.problem = null;
    if (answer.broker === this.#broker) {
      peer.isSelf = answer.boot === this.#boot;
      if (!peer.isSelf) this.#failed(peer, `has the name ${this.#broker} too: give it a node_name of its own`);
      return null;
    }
    const heard = { answer, at: this.#context.now };
    peer.heard = heard;
    for (const { key, seq } of answer.stored) peer.stored.set(key, { seq, ...heard });
    // A broker that lost its disk no longer has what it once acknowledged, and is given it again.
    const named = new Set([...answer.stored, ...answer.merged].map(({ key }) => key));
    for (const key of peer.stored.keys())
      if (!named.has(key) || this.#store.get(key) === undefined) peer.stored.delete(key);
    this.#checkGiven(peer, answer);
    return answer;
  }

  /** A question of another broker. It is answered once everything here is on the disk. */
  asked(id: number, answerOf: () => PeerAnswer): void {
    this.#pending.push({ id, answerOf });
    this.stored();
  }

  stored(): void {
    if (!this.#store.isKept) return;
    for (const { id, answerOf } of this.#pending.splice(0))
      this.#context.emit({ type: "answerPeer", id, answer: answerOf() });
  }

  notStored(reason: string): void {
    for (const { id } of this.#pending.splice(0))
      this.#context.emit({ type: "answerPeer", id, answer: { failed: `did not store it: ${reason}` } });
  }

  close(): void {
    this.notStored("it is stopping");
  }

  /** It has stored what it was given, or knows that the log has it. */
  #checkGiven(peer: Peer, { merged }: PeerAnswer): void {
    const isMerged = new Set(merged.map(({ key }) => key));
    if (peer.given.every((key) => peer.stored.has(key) || isMerged.has(key))) return;
    this.#failed(peer, "has no room for more revocations");
  }

  /** The oldest revocations that it has not acknowledged, as many as one question may give. */
  #lackedBy({ stored }: Peer): readonly StoredEntry[] {
    const lacking: StoredEntry[] = [];
    let bytes = 0;
    for (const entry of this.#store.entries) {
      if (!entry.kept || entry.merged !== null || stored.has(entry.key)) continue;
      bytes += entry.sealed.envelope.length;
      if (lacking.length > 0 && bytes > givenBytesMax) break;
      lacking.push(entry);
    }
    return lacking;
  }

  #nodesNow({ answer, at }: Heard, now: number): readonly PeerNode[] {
    return answer.nodes.map((node) => ({
      ...node,
      passed: node.passed.map(({ seq, forMs }) => ({ seq, forMs: this.#leftOf(forMs, { at }, now) })),
    }));
  }

  #leftOf(forMs: number, { at }: Pick<Heard, "at">, now: number): number {
    return Math.max(0, at + forMs * this.#stretch() - now);
  }

  #failed(peer: Peer, problem: string): void {
    peer.asking = null;
    peer.failures += 1;
    peer.problem = problem;
    peer.askAt = this.#context.now + Math.min(againMs.max, againMs.first * 2 ** Math.min(peer.failures - 1, 10));
    this.#context.wakeBy(peer.askAt);
  }
}

/**
 * Revocation merges: how a regional broker brings what its region revoked by itself to the log, and when it forgets it.
 * Pure.
 *
 * - Each is submitted under its command id until the leader answers, so the log has one set of events.
 * - It is forgotten only when this broker's own projection is at or past the merge, on the chain, and denies the ids.
 * - If the merge is on another chain, or the command id means another change, it is submitted again.
 * - If the log has another change under its own id too, it is submitted again at intervals: an operator may have ended
 *   at home what it denies. After a refusal it waits for longer, unless its own copy shows what the operator has done.
 */
import { type CommandId, commandIdOfEnvelope, type Link, type UserId } from "../../events/index.ts";
import type { HomeAnswer } from "./region-messages.ts";
import type { RegionStepContext } from "./region-step-context.ts";
import type { RevocationStore, StoredEntry } from "./revocation-store.ts";

const mergeAgainMs = { first: 1_000, max: 30_000 };
/** After a refusal that only an operator can end; also how often a problem of one revocation is logged. */
const operatorMs = 600_000;
const droppedMax = 4_096;

/** Where a link is, as far as the copy of the region knows. */
export type MergeLinks = Readonly<{
  /** Whether it is on the chain. */
  holds: (link: Link) => boolean;
  /** Whether the copy begins after it, and so cannot tell. */
  isForgotten: (link: Link) => boolean;
  /** Whether the copy ends before it: the projection reads a batch first. */
  isAhead: (link: Link) => boolean;
}>;

export class RevocationMerges {
  readonly #context: RegionStepContext;
  readonly #store: RevocationStore;
  readonly #leaderAnswers: () => boolean;
  readonly #links: MergeLinks;
  /**
   * A merge that the leader has named in this step. If the copy begins after it, the leader's word is the evidence that
   * it is on the chain.
   */
  #named: Link | null = null;
  #awaitsCopy = false;
  /** Submissions to the leader, by the number of the question. */
  readonly #asked = new Map<number, Readonly<{ key: string; commandId: CommandId }>>();
  /** Those that the leader has refused: when that was logged, and whether the person was suspended by then. */
  readonly #refused = new Map<string, Readonly<{ loggedAt: number; awaitsSuspension: boolean }>>();
  /** What the log has and this broker has dropped, oldest first. */
  readonly #dropped = new Map<string, Link>();
  #merged = 0;

  constructor(
    context: RegionStepContext,
    parts: Readonly<{ store: RevocationStore; leaderAnswers: () => boolean } & MergeLinks>,
  ) {
    this.#context = context;
    this.#store = parts.store;
    this.#leaderAnswers = parts.leaderAnswers;
    this.#links = parts;
  }

  /** How many were merged so far. */
  get merged(): number {
    return this.#merged;
  }

  /** Whether a merge is in the projection that the copy on the disk does not show yet. */
  get awaitsCopy(): boolean {
    return this.#awaitsCopy;
  }

  /** The log may be another one that lacks the merges, so this broker accepts again what it has dropped. */
  forgetDropped(): void {
    this.#dropped.clear();
  }

  isDropped(key: string): boolean {
    return this.#dropped.has(key);
  }

  /** Null: not all of the command is known to be merged. */
  mergedAt(commandId: CommandId): Link | null {
    let newest: Link | null = null;
    for (const { merged } of this.#store.ofCommand(commandId)) {
      if (merged === null) return null;
      if (newest === null || merged.position > newest.position) newest = merged;
    }
    return newest;
  }

  /** Those of the keys that are known to be merged. */
  knownOf(keys: readonly string[]): readonly Readonly<{ key: string; link: Link }>[] {
    return [...new Set(keys)].flatMap((key) => {
      const link = this.#dropped.get(key) ?? this.#store.get(key)?.merged ?? null;
      return link === null ? [] : [{ key, link }];
    });
  }

  /** Another broker of the region knows that it is merged. */
  learn(key: string, link: Link): void {
    const entry = this.#store.get(key);
    if (entry !== undefined && entry.merged === null) this.#recordMerged(entry, link);
  }

  /** @returns whether the question was a submission */
  answered(question: number, answer: HomeAnswer): boolean {
    const asked = this.#asked.get(question);
    if (asked === undefined) return false;
    this.#asked.delete(question);
    const entry = this.#store.get(asked.key);
    if (entry === undefined) return true;
    if (answer.type === "merged") {
      this.#recordMerged(entry, answer.link);
      this.#named = answer.link;
    } else this.#failed(entry, answer, asked.commandId);
    return true;
  }

  /** Submits what is due, while the leader answers. */
  submit(): void {
    const { now } = this.#context;
    const asking = new Set([...this.#asked.values()].map(({ key }) => key));
    for (const entry of this.#store.entries) {
      if (!entry.kept || entry.merged !== null || asking.has(entry.key)) continue;
      if (entry.mergeAt > now || !this.#leaderAnswers()) {
        this.#context.wakeBy(Math.max(entry.mergeAt, now + mergeAgainMs.first));
        continue;
      }
      const { sealed, mergeId: commandId } = entry;
      const question = { op: "merge", commandId, actor: sealed.revocation.actor, envelope: sealed.envelope } as const;
      this.#asked.set(this.#context.askHome(question), { key: entry.key, commandId });
    }
  }

  #recordMerged(entry: StoredEntry, link: Link): void {
    entry.merged = link;
    entry.mergeFailures = 0;
    this.#merged += 1;
    const { commandId, acceptedAt } = entry.sealed.revocation;
    this.#context.emit({
      type: "log",
      level: "info",
      message: "the log has a revocation that this region had accepted by itself",
      fields: { commandId, acceptedAt, link },
    });
  }

  /** @param askedAs the id under which it was submitted */
  #failed(entry: StoredEntry, answer: HomeAnswer, askedAs: CommandId): void {
    const { now } = this.#context;
    entry.mergeFailures += 1;
    const backoff = Math.min(mergeAgainMs.max, mergeAgainMs.first * 2 ** Math.min(entry.mergeFailures - 1, 10));
    entry.mergeAt = now + backoff;
    if (answer.type === "mergeRefused") {
      const ownId = commandIdOfEnvelope(entry.sealed.envelope);
      if (answer.code === "other-change" && askedAs !== ownId) {
        entry.mergeId = ownId;
        entry.mergeAt = now;
      } else {
        if (answer.code === "refused") entry.mergeAt = now + operatorMs;
        this.#reportRefused(entry, answer.message);
      }
    }
    this.#context.wakeBy(entry.mergeAt);
  }

  #reportRefused({ key, sealed }: StoredEntry, reason: string): void {
    const { now } = this.#context;
    const awaitsSuspension = !this.#isSuspended(sealed.revocation.userId);
    const loggedAt = this.#refused.get(key)?.loggedAt ?? Number.NEGATIVE_INFINITY;
    if (now < loggedAt + operatorMs) {
      this.#refused.set(key, { loggedAt, awaitsSuspension });
      return;
    }
    this.#refused.set(key, { loggedAt: now, awaitsSuspension });
    const message = "the leader does not record a revocation that this region accepted; it stays in force here";
    const { commandId } = sealed.revocation;
    this.#context.emit({ type: "log", level: "error", message, fields: { commandId, reason } });
  }

  #isSuspended(userId: UserId | null): boolean {
    const status = userId === null ? undefined : this.#context.own.projection.user(userId)?.status;
    return status === "suspended" || status === "erased";
  }

  /** An operator has suspended a person at home: a suspension that the leader has refused can be recorded now. */
  #retrySuspended(entry: StoredEntry): void {
    const refused = this.#refused.get(entry.key);
    if (refused?.awaitsSuspension !== true || !this.#isSuspended(entry.sealed.revocation.userId)) return;
    this.#refused.set(entry.key, { ...refused, awaitsSuspension: false });
    entry.mergeAt = this.#context.now;
    this.#context.wakeBy(entry.mergeAt);
  }

  /** Drops what the log denies at or past the merge, on this broker's chain. @returns how many */
  dropMerged(): number {
    const { own, now } = this.#context;
    let dropped = 0;
    const named = this.#named;
    this.#named = null;
    this.#awaitsCopy = false;
    for (const entry of [...this.#store.entries]) {
      const { merged, sealed, key } = entry;
      const { sessionIds, basis } = sealed.revocation;
      if (merged === null) this.#retrySuspended(entry);
      if (merged === null || Math.max(merged.position, basis.position) > own.applied.position) continue;
      if (this.#links.isAhead(merged)) {
        this.#awaitsCopy = true;
        continue;
      }
      const isOnChain = this.#links.holds(merged) || (merged === named && this.#links.isForgotten(merged));
      if (isOnChain && sessionIds.every((id) => own.projection.sessionStatus(id).status !== "active")) {
        this.#store.remove(key);
        this.#refused.delete(key);
        this.#dropped.set(key, merged);
        const oldest = this.#dropped.size > droppedMax ? this.#dropped.keys().next().value : undefined;
        if (oldest !== undefined) this.#dropped.delete(oldest);
        dropped += 1;
        continue;
      }
      // Another history, or another change under this command id.
      if (isOnChain) entry.mergeId = commandIdOfEnvelope(sealed.envelope);
      entry.merged = null;
      entry.mergeAt = now + mergeAgainMs.first;
      this.#context.wakeBy(entry.mergeAt);
    }
    return dropped;
  }
}

/**
 * Local denials: what this node denies because its region revoked it by itself (docs/protocol.md §6.4, ADR 0039: a
 * cut-off region revokes locally).
 *
 * - A denial only removes permits. They grow by union, so order and repetition do not matter.
 * - A denial ends only when the visible projection is at or past the merge, on its own chain, and denies the id there.
 *   That the log denied the id before the merge is not enough: it may have permitted it again since.
 * - Nothing is evicted. What does not fit is refused whole.
 *
 * Pure.
 */
import {
  type CommandId,
  commandIdOfEnvelope,
  type Link,
  linkOf,
  type Projection,
  parseStream,
  type Recorded,
  type Stream,
} from "../../../events/index.ts";
import { type ChainHistory, locateLink } from "../../lease/chain-history.ts";
import { deniedStreams, mergeIdsOf, revocationKey, type SealedRevocation } from "../../wire/local-revocation.ts";

type Denial = {
  readonly sealed: SealedRevocation;
  /** The facts that it still denies here. */
  readonly streams: Set<Stream>;
  /** Null: not known to be merged. */
  merged: Merge | null;
  mergeId: CommandId;
};

/**
 * `leader`: it has answered that the log denies everything at this link. `log`: the newest event of the merge that was
 * folded here. A merge has an event for each session, and a page may end between two of them.
 */
type Merge = Readonly<{ link: Link; by: "leader" | "log" }>;

export const localDenialsMax = 4_096;
/** Of their envelopes; twice what one broker retains. */
export const localDenialBytesMax = 8 * 1024 * 1024;

export class LocalDenials {
  readonly #denials = new Map<string, Denial>();
  /** How many denials name a fact. */
  readonly #denied = new Map<Stream, number>();
  /** By each command id under which one may be recorded. */
  readonly #byCommand = new Map<CommandId, Set<string>>();
  /** What the visible history has denied past its merge, oldest first. A broker may give it once more. */
  readonly #dropped = new Set<string>();
  #bytes = 0;
  #version = 0;

  get size(): number {
    return this.#denials.size;
  }
  /** Grows with every change of what the disk must have. */
  get version(): number {
    return this.#version;
  }
  get all(): readonly SealedRevocation[] {
    return [...this.#denials.values()].map(({ sealed }) => sealed);
  }
  /** Those that are not known to be merged, with the id to submit them under. */
  get unmerged(): readonly Readonly<{ key: string; sealed: SealedRevocation; mergeId: CommandId }>[] {
    return [...this.#denials].flatMap(([key, { sealed, merged, mergeId }]) =>
      merged === null ? [{ key, sealed, mergeId }] : [],
    );
  }

  denies(stream: Stream): boolean {
    return this.#denied.has(stream);
  }

  /** Puts in force what this node's own disk holds. It fitted when it was written, so nothing of it is left out. */
  restore(sealed: readonly SealedRevocation[]): void {
    for (const each of sealed) {
      const key = revocationKey(each.revocation);
      if (!this.#denials.has(key)) this.#insert(key, each);
    }
  }

  /** @returns the facts that are denied from now on; null: they do not all fit, and none was added */
  add(sealed: readonly SealedRevocation[]): readonly Stream[] | null {
    const added = new Map<string, SealedRevocation>();
    for (const each of sealed) {
      const key = revocationKey(each.revocation);
      if (!this.#denials.has(key) && !this.#dropped.has(key)) added.set(key, each);
    }
    const bytes = [...added.values()].reduce((sum, { envelope }) => sum + envelope.length, 0);
    if (this.#bytes + bytes > localDenialBytesMax || this.#denials.size + added.size > localDenialsMax) return null;
    for (const [key, each] of added) this.#insert(key, each);
    if (added.size > 0) this.#version += 1;
    return [...added.values()].flatMap(({ revocation }) => deniedStreams(revocation));
  }

  /** An event was folded into the visible projection. */
  recordApplied(recorded: Recorded): void {
    const keys = recorded.cause === null ? undefined : this.#byCommand.get(recorded.cause);
    if (keys === undefined || recorded.effect !== "tightens") return;
    for (const key of keys) {
      const denial = this.#denials.get(key);
      if (denial === undefined || denial.merged?.by === "leader" || !this.#concerns(denial, recorded)) continue;
      denial.merged = { link: linkOf(recorded), by: "log" };
    }
  }

  /** The leader has answered a submission: the log denies at this link what the revocation denies. */
  recordMerged(key: string, link: Link): void {
    const denial = this.#denials.get(key);
    if (denial !== undefined) denial.merged = { link, by: "leader" };
  }

  /** The command id of the revocation means another change in the log. */
  recordOtherChange(key: string): void {
    const denial = this.#denials.get(key);
    if (denial !== undefined) denial.mergeId = commandIdOfEnvelope(denial.sealed.envelope);
  }

  /** Ends what the visible projection denies at or past the merge. */
  settle(history: ChainHistory, projection: Projection): void {
    for (const [key, denial] of [...this.#denials]) {
      // Behind the basis, a session that the revocation names may not have begun yet.
      const { merged } = denial;
      if (merged === null || history.applied.position < denial.sealed.revocation.basis.position) continue;
      const location = locateLink(history, merged.link);
      if (location === "ahead") continue;
      if (location === "otherChain") {
        denial.merged = null; // the history that had it is lost: it is merged again
        continue;
      }
      for (const stream of [...denial.streams]) {
        if (!deniesAfterMerge(projection, stream)) continue;
        denial.streams.delete(stream);
        this.#release(stream);
      }
      if (denial.streams.size === 0) {
        this.#drop(key, denial);
        continue;
      }
      // The log's events may be only the first of the merge. The leader's answer covers all of them: if the log permits
      // an id there, the command id means another change, and the revocation is submitted under an id of its own.
      denial.merged = null;
      if (merged.by === "leader") this.recordOtherChange(key);
    }
  }

  /** The event under the command id of a suspension may be another one, if a caller has used the id twice. */
  #concerns({ sealed }: Denial, { event }: Recorded): boolean {
    const { command, userId } = sealed.revocation;
    if (command !== "suspendUser") return true;
    return (event.type === "UserSuspended" || event.type === "UserErased") && event.userId === userId;
  }

  #insert(key: string, sealed: SealedRevocation): void {
    const streams = new Set(deniedStreams(sealed.revocation));
    const [mergeId, ownId] = mergeIdsOf(sealed);
    this.#denials.set(key, { sealed, streams, merged: null, mergeId });
    this.#bytes += sealed.envelope.length;
    for (const stream of streams) this.#denied.set(stream, (this.#denied.get(stream) ?? 0) + 1);
    for (const id of [mergeId, ownId]) this.#byCommand.set(id, (this.#byCommand.get(id) ?? new Set()).add(key));
  }

  /** The visible history is another one, which may lack what was dropped. */
  forgetDropped(): void {
    this.#dropped.clear();
  }

  #drop(key: string, { sealed }: Denial): void {
    this.#denials.delete(key);
    this.#dropped.add(key);
    const oldest = this.#dropped.size > localDenialsMax ? this.#dropped.values().next().value : undefined;
    if (oldest !== undefined) this.#dropped.delete(oldest);
    this.#bytes -= sealed.envelope.length;
    this.#version += 1;
    for (const id of mergeIdsOf(sealed)) {
      const keys = this.#byCommand.get(id);
      keys?.delete(key);
      if (keys?.size === 0) this.#byCommand.delete(id);
    }
  }

  #release(stream: Stream): void {
    const count = (this.#denied.get(stream) ?? 0) - 1;
    if (count > 0) this.#denied.set(stream, count);
    else this.#denied.delete(stream);
  }
}

/**
 * Whether the log has denied the fact at or past the merge. A session that is gone has ended. The merge of a suspension
 * records one, so a person who is active now was restored after it.
 */
function deniesAfterMerge(projection: Projection, stream: Stream): boolean {
  const { kind, id } = parseStream(stream);
  return kind === "session" ? projection.sessionStatus(id).status !== "active" : kind === "user";
}

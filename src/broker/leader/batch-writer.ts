/**
 * Batch writer: takes waiting commands, performs them against the broker state at the head, and appends the result.
 * Pure.
 *
 * - One append is in flight at a time. Commands that arrive meanwhile are performed against the same head. Their
 *   batch is sent once the append in flight has committed cleanly, and thrown away after any other outcome
 *   (docs/adr/0027).
 * - The outcome table of docs/protocol.md §3.2: a clean commit is published, folded and answered. A batch that was
 *   surely not written is queued again or rejected. Anything unclear stays unresolved and ends the epoch.
 * - Commands that record no event are answered by pending-conclusions.ts.
 */
import {
  type Link,
  type PersonKey,
  type Stream,
  sameLink,
  sourceOf,
  type UserId,
  unreachable,
  type WrappedKey,
} from "../../events/index.ts";
import type { WriteRound } from "../../replication/lease/index.ts";
import type { AppendBatch, AppendOutcome, LogEntry } from "../../replication/log/index.ts";
import type { AccessSet } from "../commands/access.ts";
import { personOf } from "../commands/catalog.ts";
import type { LostHistory, Tools } from "../commands/performed.ts";
import { NameClaims } from "../commands/provisioned/name-claims.ts";
import type { LeaderEnd, LogCallOwner, OpenedEpoch, QueuedCommand } from "../core/internal-messages.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import { type AcceptedCommand, type BatchBuilder, BatchDraft, type BuiltBatch, batchEventsMax } from "./batch.ts";
import { reopen } from "./epoch.ts";
import type { LeaderParts } from "./leader-parts.ts";
import { epochEnded } from "./pending-commands.ts";
import { answerDone, answerHeld, type PendingConclusions } from "./pending-conclusions.ts";

export type WriteTicket = Readonly<{ number: number; round: WriteRound }>;
export type Committed = Readonly<{ batch: AppendBatch; accepted: readonly AcceptedCommand[] }>;

/** A batch whose append is in flight. */
type InFlight = {
  ticket: WriteTicket;
  readonly batch: AppendBatch;
  readonly accepted: readonly AcceptedCommand[];
  readonly used: AccessSet;
};

/** The next batch. */
type Next = {
  draft: BatchDraft;
  /** All its candidates, in order. */
  readonly commands: QueuedCommand[];
  /** The head against which its commands are performed. */
  readonly head: Link;
  /** Performed while another batch is in flight. */
  readonly isAhead: boolean;
  round: number;
  readonly absent: Set<UserId>;
  readonly locked: Set<UserId>;
  /** Versions or keys that it needs are being loaded. */
  loading: Readonly<{
    requestId: number;
    missing: BuiltBatch["missing"];
    outstanding: Set<"versions" | "keys">;
  }> | null;
  /** Built already: it accepts no more commands. */
  built: BuiltBatch | null;
};

type LoadCall = Extract<LogCallOwner, { of: "versions" | "keys"; to: "leader" }>;

/** The leader's next step. */
export type NextStep =
  /** Nothing is in flight. */
  | "idle"
  | "loading"
  /** Conclusions without a batch wait for a beat that starts now. */
  | "prove"
  | Readonly<{ append: AppendBatch }>;

const loadRoundsMax = 3;
/** A command whose batches failed this often is answered as unavailable. */
const attemptsMax = 4;
/** A batch of this many events is prepared before its turn, and grows no more. */
const preparedFromEvents = 256;

export class BatchWriter {
  readonly #parts: LeaderParts;
  readonly #context: StepContext;
  readonly #opened: OpenedEpoch;
  readonly #leadershipNo: number;
  readonly #about: Pick<Tools, "unreadyFor" | "admittedNodes">;
  readonly #conclusions: PendingConclusions;
  readonly #names: NameClaims;
  #inFlight: InFlight | null = null;
  #next: Next | null = null;
  #loadCount = 0;
  #conflictsInARow = 0;

  /** @param of.unreadyFor, of.admittedNodes see `Tools` */
  constructor(
    parts: LeaderParts,
    of: Readonly<{
      opened: OpenedEpoch;
      leadershipNo: number;
      conclusions: PendingConclusions;
    }> &
      Pick<Tools, "unreadyFor" | "admittedNodes">,
  ) {
    this.#parts = parts;
    this.#context = parts.context;
    this.#opened = of.opened;
    this.#leadershipNo = of.leadershipNo;
    this.#conclusions = of.conclusions;
    this.#names = new NameClaims(of.opened.head.position);
    this.#about = { unreadyFor: of.unreadyFor, admittedNodes: of.admittedNodes };
  }

  /** An append is in flight. */
  get hasInFlight(): boolean {
    return this.#inFlight !== null;
  }
  /** No append can start: one is in flight, or the next batch still loads what it needs. */
  get busy(): boolean {
    return this.hasInFlight || this.#isLoading;
  }
  /** A batch waits for its turn. */
  get hasDraft(): boolean {
    return this.#next !== null;
  }
  /** The next batch accepts more commands. */
  get hasRoom(): boolean {
    const next = this.#next;
    if (next === null) return true;
    return !this.#isLoading && next.built === null && !next.draft.full && next.commands.length < batchEventsMax;
  }
  /** The next batch can be sent as it is. */
  get ready(): boolean {
    return this.#next !== null && !this.#isLoading && this.#next.draft.size > 0;
  }
  get #isLoading(): boolean {
    return this.#next !== null && this.#next.loading !== null;
  }

  /** Starts the drafted batch, or a new one of the waiting commands. @param nextWrite the number of its write */
  begin(nextWrite: number): NextStep {
    if (this.#next?.draft.onlyDefers === true) this.#requeueDeferred(this.#next);
    if (this.#next === null) this.#extend();
    return this.#isLoading ? "loading" : this.#conclude(nextWrite);
  }

  /** The batch in flight had deferred all commands of this draft. It is written, so they can run now. */
  #requeueDeferred({ commands }: Next): void {
    this.#next = null;
    this.#parts.pendingCommands.requeue(commands);
  }

  /** Performs waiting commands while a batch is in flight. */
  extendDraft(): void {
    this.#extend();
  }

  #extend(): void {
    const { pendingCommands, state } = this.#parts;
    const room = batchEventsMax - (this.#next?.commands.length ?? 0);
    const commands = pendingCommands.take(room).filter((queued) => this.#isForThisEpoch(queued));
    if (this.#next === null) {
      const [absent, locked] = [new Set<UserId>(), new Set<UserId>()];
      const draft = this.#draft(absent);
      this.#next = {
        draft,
        commands: [...commands],
        head: state.applied,
        isAhead: this.hasInFlight,
        round: 1,
        absent,
        locked,
        loading: null,
        built: null,
      };
    } else this.#next.commands.push(...commands);
    this.#perform(this.#next, commands);
  }

  /** A duty belongs to an epoch: its commands are not performed in another one. */
  #isForThisEpoch(queued: QueuedCommand): boolean {
    const { onlyIn } = queued;
    const { epoch, incarnation } = this.#opened;
    if (onlyIn === null || (onlyIn.epoch === epoch && onlyIn.incarnation === incarnation)) return true;
    this.#parts.pendingCommands.answer(queued, epochEnded(queued.request.commandId));
    return false;
  }

  #draft(absent: ReadonlySet<UserId>): BatchDraft {
    const inFlight = this.#inFlight;
    const behind = { link: inFlight?.batch.last ?? this.#parts.state.applied, used: inFlight?.used ?? null };
    return new BatchDraft(this.#builder(absent), behind);
  }

  #isLocked({ request }: QueuedCommand, { locked }: Next): boolean {
    const person = locked.size === 0 ? undefined : personOf(request.command, this.#parts.state.projection);
    return person !== undefined && locked.has(person);
  }

  #perform(next: Next, commands: readonly QueuedCommand[]): void {
    const { draft } = next;
    const mayLoad = next.round < loadRoundsMax;
    const candidates = commands.filter((queued) => !this.#isLocked(queued, next));
    try {
      if (mayLoad) draft.noteMissing(candidates);
      // With what is missing, all commands of the draft are performed again.
      if (!mayLoad || !draft.hasMissing) draft.add(candidates, this.#context.at.wall);
    } catch (error) {
      this.#notLoaded(next, error);
      return;
    }
    if (mayLoad && draft.hasMissing) this.#load(next, draft.missing);
    else if (this.hasInFlight && next.draft.size >= preparedFromEvents) this.#prepareBatch(next);
  }

  #prepareBatch(next: Next): void {
    next.built = next.draft.finish();
    if (next.built.batch !== null) this.#context.emit({ type: "prepareBatch", batch: next.built.batch });
  }

  #load(next: Next, missing: BuiltBatch["missing"]): void {
    const { streams, people } = missing;
    this.#loadCount += 1;
    next.loading = { requestId: this.#loadCount, missing, outstanding: new Set() };
    const to = { to: "leader", leadershipNo: this.#leadershipNo, requestId: this.#loadCount } as const;
    if (streams.length > 0) {
      next.loading.outstanding.add("versions");
      this.#context.callLog({ op: "streamVersions", streams }, { ...to, of: "versions" });
    }
    if (people.length > 0) {
      next.loading.outstanding.add("keys");
      this.#context.callLog({ op: "keys", users: people }, { ...to, of: "keys" });
    }
  }

  #conclude(nextWrite: number): NextStep {
    const { pendingCommands, exclusive, counters } = this.#parts;
    const next = this.#next;
    if (next === null) return "idle";
    this.#next = null;
    for (const queued of next.commands) {
      if (this.#isLocked(queued, next))
        pendingCommands.answerUnavailable(queued, "this broker cannot open the person's key");
    }
    const built = next.built ?? next.draft.finish();
    pendingCommands.requeue(built.deferred);
    // Without a batch, conclusions need a beat. An exclusive log has no other writer, so they need none.
    const write = built.batch === null && exclusive ? null : nextWrite;
    for (const concluded of built.concluded) this.#conclusions.add(concluded, { head: next.head, write });
    if (built.batch === null) return built.concluded.length === 0 || exclusive ? "idle" : "prove";
    if (next.isAhead) counters.batchesAhead += 1;
    const { batch, accepted, used } = built;
    this.#inFlight = { ticket: { number: 0, round: noRound }, batch, accepted, used };
    return { append: batch };
  }

  /** The batch that `begin` or `loaded` returned is in flight, under this ticket. */
  appending(ticket: WriteTicket): void {
    if (this.#inFlight !== null) this.#inFlight.ticket = ticket;
  }

  /** Versions or keys have arrived. */
  loaded({ of, requestId }: LoadCall, outcome: LogAnswer, nextWrite: number): NextStep {
    const next = this.#next;
    const loading = next?.loading;
    if (!next || loading?.requestId !== requestId) return "loading"; // that batch was thrown away
    loading.outstanding.delete(of);
    if (of === "versions" && outcome.type === "versions") {
      this.#learnVersions(loading.missing.streams, outcome.versions);
    } else if (of === "keys" && outcome.type === "keys") {
      this.#learnKeys(next, loading.missing.people, outcome.keys);
    } else {
      this.#notLoaded(next, "cause" in outcome ? outcome.cause : outcome.type);
      return this.hasInFlight ? "loading" : "idle";
    }
    if (loading.outstanding.size > 0) return "loading";
    next.loading = null;
    next.round += 1;
    next.draft = this.#draft(next.absent);
    this.#perform(next, next.commands);
    return this.busy ? "loading" : this.#conclude(nextWrite);
  }

  /** Queues the commands of the next batch again: the epoch has ended, or the batch before it was not written. */
  discard(): void {
    if (this.#next === null) return;
    if (this.#next.draft.size > 0) this.#parts.counters.batchesThrownAway += 1;
    this.#parts.pendingCommands.requeue(this.#next.commands);
    this.#next = null;
  }

  /** Versions that were folded meanwhile are newer than this answer. */
  #learnVersions(streams: readonly Stream[], versions: ReadonlyMap<Stream, number>): void {
    const { state } = this.#parts;
    for (const stream of streams)
      if (state.versionOf(stream) === undefined) state.learnVersion(stream, versions.get(stream) ?? 0);
  }

  #learnKeys({ absent, locked }: Next, people: readonly UserId[], wrapped: readonly WrappedKey[]): void {
    const stored = new Set(wrapped.map(({ userId }) => userId));
    const unwrapped = new Set(this.#parts.keys.learn(wrapped).map(({ userId }) => userId));
    for (const userId of people) {
      if (!stored.has(userId)) absent.add(userId);
      else if (!unwrapped.has(userId)) locked.add(userId);
    }
    if (locked.size > 0)
      this.#context.logger(
        "error",
        "some personal keys cannot be opened with this cluster's secret; commands about these people are unavailable",
        {
          people: locked.size,
        },
      );
  }

  #notLoaded({ commands }: Next, error: unknown): void {
    this.#context.logger("warn", "could not load versions or keys for a batch; its commands are unavailable", {
      err: error,
    });
    this.#next = null;
    for (const queued of commands)
      this.#parts.pendingCommands.answerUnavailable(queued, "the event log is not available");
  }

  #builder(absent: ReadonlySet<UserId>): BatchBuilder {
    const { state, keys, random, wrappingKey, vaultKey, massChange } = this.#parts;
    const { epoch, incarnation } = this.#opened;
    const keyOf = (id: UserId): PersonKey | null | undefined => keys.get(id) ?? (absent.has(id) ? null : undefined);
    const lost: LostHistory = {
      holds: (link) => state.locate(link) === "onChain",
      lacks: (link) => ["otherChain", "ahead"].includes(state.locate(link)),
      mayHold: (link) => state.mayHold(link),
      endOfEpoch: (of) => state.endOfEpoch(of),
      restoredAfter: (userId, of) => state.restoredAfter(userId, of),
    };
    return {
      epoch,
      incarnation,
      keyOf,
      projection: state.projection,
      versionOf: (stream) => state.versionOf(stream),
      tools: {
        epoch,
        random,
        wrappingKey,
        vaultKey,
        massChange,
        isNameClaimed: (name, by) => this.#names.isClaimed(name, by),
        lost,
        configOf: (id) => state.configOf(id),
        hasBody: (hash) => state.hasBody(hash),
        ...this.#about,
      },
    };
  }

  /**
   * The outcome of the append. A clean commit must be published, and passed to `foldCommitted`.
   * @returns the ticket of the write, and the clean commit; `end`: the epoch ends with it
   */
  appended(
    outcome: AppendOutcome,
  ): Readonly<{ ticket: WriteTicket; committed: Committed | null; end: LeaderEnd | null }> | undefined {
    const inFlight = this.#inFlight;
    if (inFlight === null) return undefined;
    this.#inFlight = null;
    const { ticket, batch, accepted } = inFlight;
    if (outcome.type === "appended" && sameLink(outcome.last, batch.last)) {
      return { ticket, committed: { batch, accepted }, end: null };
    }
    this.discard(); // the batch before it was not written, or that is unknown
    this.#parts.counters.batchesNotClean += 1;
    const end = this.#notAppended(
      outcome,
      accepted.map(({ queued }) => queued),
    );
    return { ticket, committed: null, end };
  }

  /** Folds and answers a clean commit, which is true even if the epoch has ended meanwhile. */
  foldCommitted({ batch, accepted }: Committed): void {
    const { state, keys, counters } = this.#parts;
    this.#conflictsInARow = 0;
    counters.batches += 1;
    counters.events += batch.entries.length;
    counters.peopleEnded += batch.entries.filter(endsPerson).length;
    keys.put(accepted.flatMap(({ newKeys }) => newKeys));
    this.#context.post({ type: "eventsFolded", events: state.fold(batch.entries) });
    state.learnBodies(batch.configurations);
    for (const { queued, last } of accepted) this.#names.record(queued.request, last.position);
    for (const { queued, last, held } of accepted)
      if (held === null) answerDone(this.#parts, queued, { link: last, changed: true });
      else answerHeld(this.#parts, queued, held);
  }

  #notAppended(outcome: AppendOutcome, commands: readonly QueuedCommand[]): LeaderEnd | null {
    const { pendingCommands, state, counters, duplicateCheck } = this.#parts;
    switch (outcome.type) {
      case "fenced":
        pendingCommands.requeue(commands);
        return { type: "fenced" };
      case "head-moved":
        pendingCommands.requeue(commands);
        return reopen("the head moved unexpectedly");
      case "duplicate-command": {
        const repeated = commands.find(({ request }) => request.commandId === outcome.commandId);
        pendingCommands.requeue(commands.filter((queued) => queued !== repeated));
        if (repeated === undefined) return reopen("the log names a command that was not sent");
        duplicateCheck.answerRepeated(repeated, outcome, this.#leadershipNo);
        return null;
      }
      case "version-conflict": {
        counters.versionConflicts += 1;
        this.#conflictsInARow += 1;
        for (const { stream, actual } of outcome.streams) state.learnVersion(stream, actual);
        pendingCommands.requeue(this.#retryable(commands));
        return this.#conflictsInARow < attemptsMax ? null : reopen("stream versions keep changing");
      }
      case "appended":
      case "indeterminate":
        pendingCommands.markUnresolved(this.#retryable(commands)); // may be committed, may be lost: never success
        return reopen("the outcome of a batch is unknown");
      case "unavailable":
        this.#context.logger("warn", "the event log is not available; rejecting commands", {
          err: outcome.cause,
        });
        for (const queued of commands) pendingCommands.answerUnavailable(queued, "the event log is not available");
        return null;
      default:
        return unreachable(outcome);
    }
  }

  /** The commands that may be tried again; the others are answered as unavailable. */
  #retryable(commands: readonly QueuedCommand[]): readonly QueuedCommand[] {
    const { pendingCommands } = this.#parts;
    return commands.filter((queued) => {
      if (pendingCommands.countAttempt(queued) < attemptsMax) return true;
      pendingCommands.answerUnavailable(queued, "its batch could not be written");
      return false;
    });
  }
}

const endings: ReadonlySet<string> = new Set(["UserSuspended", "UserErased", "UserSessionsRevoked"]);
const endsPerson = ({ recorded: { type, actor } }: LogEntry): boolean => endings.has(type) && sourceOf(actor) !== null;

const noRound: WriteRound = { tickets: [], lessees: [], left: [] };

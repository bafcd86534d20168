/**
 * Batch writer: takes what waits, has it carried out against the ledger at the head, and sees the append through. Pure.
 *
 * The outcome table of reliability.md §1.5: a clean commit is folded, published and answered; a batch that was surely not
 * written goes back to the queue or is turned away; anything unclear is left unresolved and ends the epoch. A refusal, or
 * that there is nothing to do, is a conclusion too: it is answered only once a clean commit has shown that the ledger it was
 * drawn from was still the log's, and after a look whether the command was carried out before, for a retry must never fail
 * because it succeeded.
 */
import {
  type Link,
  type PersonKey,
  type Stream,
  sameLink,
  type UserId,
  unreachable,
  type WrappedKey,
} from "../../events/index.ts";
import type { AppendBatch, AppendOutcome, WriteRound } from "../../replication/index.ts";
import type { LogAnswer } from "../broker-messages.ts";
import { personIn } from "../commands/access.ts";
import type { LostPlaces } from "../commands/performed.ts";
import { isReassertion } from "../commands/reassert-commands.ts";
import type { Work } from "../work.ts";
import { type Accepted, type Built, batchEventsMax, buildBatch, type Desk, type Settled } from "./batch.ts";
import type { Queued } from "./command-queue.ts";
import { type LeaderEnd, type OpenedEpoch, reopen } from "./epoch.ts";
import type { FirstAnswer } from "./first-answers.ts";
import { epochIsOver } from "./inbox.ts";
import type { LeaderParts } from "./leader.ts";

export type WriteTicket = Readonly<{ number: number; round: WriteRound }>;

/** What the writer is at. */
type Stage =
  | { type: "idle" }
  /** What a batch needs is being loaded. */
  | {
      type: "loading";
      taken: readonly Queued[];
      round: number;
      absent: Set<UserId>;
      locked: Set<UserId>;
      missing: Readonly<{ streams: readonly Stream[]; people: readonly UserId[] }>;
      versions: "asked" | "known";
      keys: "asked" | "known";
    }
  | { type: "appending"; ticket: WriteTicket; batch: AppendBatch; accepted: readonly Accepted[] };

/** A conclusion without an event, until it may be answered. */
type Conclusion = {
  readonly settled: Settled;
  readonly head: Link;
  /** The write that has to commit cleanly; null: none has to. */
  readonly write: number | null;
  proof: "awaited" | "clean" | "not-clean" | "unavailable";
  first: "awaited" | "none";
};

/** What the leader does next. */
export type AfterBatch =
  /** Nothing is under way any more. */
  | "idle"
  | "loading"
  /** Conclusions without a batch wait for a beat that begins now. */
  | "prove"
  | Readonly<{ append: AppendBatch }>;

const loadRoundsMax = 3;
/** A command whose batches came to nothing this often is given back to its caller. */
const attemptsMax = 4;

export class BatchWriter {
  readonly #parts: LeaderParts;
  readonly #work: Work;
  readonly #opened: OpenedEpoch;
  readonly #term: number;
  readonly #unreadyFor: (level: number) => readonly string[];
  readonly #conclusions = new Map<Queued, Conclusion>();
  #stage: Stage = { type: "idle" };
  #conflictsInARow = 0;

  /** @param unreadyFor see `Tools` */
  constructor(
    parts: LeaderParts,
    of: Readonly<{ opened: OpenedEpoch; term: number; unreadyFor: (level: number) => readonly string[] }>,
  ) {
    this.#parts = parts;
    this.#work = parts.work;
    this.#opened = of.opened;
    this.#term = of.term;
    this.#unreadyFor = of.unreadyFor;
  }

  get busy(): boolean {
    return this.#stage.type !== "idle";
  }

  /** Takes one batch of what waits. @param nextWrite the number of the write that comes of it */
  begin(nextWrite: number): AfterBatch {
    const { inbox } = this.#parts;
    const taken = inbox.take(batchEventsMax).filter((queued) => this.#isOurs(queued));
    return this.#build({ taken, round: 1, absent: new Set(), locked: new Set() }, nextWrite);
  }

  /** A duty belongs to an epoch: what it asked for in another one is not carried out in this one. */
  #isOurs(queued: Queued): boolean {
    const { onlyIn } = queued;
    const { epoch, incarnation } = this.#opened;
    if (onlyIn === null || (onlyIn.epoch === epoch && onlyIn.incarnation === incarnation)) return true;
    this.#parts.inbox.answer(queued, epochIsOver(queued.request.commandId));
    return false;
  }

  #build(
    load: Readonly<{ taken: readonly Queued[]; round: number; absent: Set<UserId>; locked: Set<UserId> }>,
    nextWrite: number,
  ): AfterBatch {
    const { inbox, ledger } = this.#parts;
    const { taken, round, absent, locked } = load;
    const isLocked = ({ request }: Queued): boolean => {
      const person = personIn(request.command, ledger.projection);
      return person !== undefined && locked.has(person);
    };
    let built: Built;
    try {
      const candidates = locked.size === 0 ? taken : taken.filter((queued) => !isLocked(queued));
      built = buildBatch(candidates, this.#desk(absent));
    } catch (error) {
      return this.#notLoaded(taken, error);
    }
    const { streams, people } = built.missing;
    if ((streams.length > 0 || people.length > 0) && round < loadRoundsMax) {
      this.#stage = {
        ...{ type: "loading", taken, round, absent, locked, missing: built.missing },
        versions: streams.length === 0 ? "known" : "asked",
        keys: people.length === 0 ? "known" : "asked",
      };
      const to = { to: "leader", term: this.#term } as const;
      if (streams.length > 0) this.#work.ask({ op: "streamVersions", streams }, { ...to, of: "versions" });
      if (people.length > 0) this.#work.ask({ op: "keys", users: people }, { ...to, of: "keys" });
      return "loading";
    }
    if (locked.size > 0) {
      for (const queued of taken.filter(isLocked))
        inbox.answerUnavailable(queued, "the person's key does not open here");
    }
    return this.#conclude(built, nextWrite);
  }

  #conclude(built: Built, nextWrite: number): AfterBatch {
    const { inbox, ledger, exclusive, firstAnswers } = this.#parts;
    const head = ledger.applied;
    inbox.giveBack(built.held);
    // Without a batch of its own, what was concluded needs a beat; nobody else writes a log that is exclusively ours.
    const write = built.batch === null && exclusive ? null : nextWrite;
    for (const settled of built.settled) {
      const proof = write === null ? "clean" : "awaited";
      this.#conclusions.set(settled.queued, { settled, head, write, proof, first: "awaited" });
      firstAnswers.look({ queued: settled.queued, why: "settle", term: this.#term });
    }
    this.#stage = { type: "idle" };
    if (built.batch === null) return built.settled.length === 0 || exclusive ? "idle" : "prove";
    const { batch, accepted } = built;
    this.#stage = { type: "appending", ticket: { number: 0, round: noRound }, batch, accepted };
    return { append: batch };
  }

  /** The batch that `begin` or `loaded` made is on its way, under this number. */
  appending(ticket: WriteTicket): void {
    if (this.#stage.type === "appending") this.#stage.ticket = ticket;
  }

  /** Versions or keys have come. */
  loaded(of: "versions" | "keys", outcome: LogAnswer, nextWrite: number): AfterBatch {
    const stage = this.#stage;
    if (stage.type !== "loading") return this.busy ? "loading" : "idle";
    if (of === "versions" && outcome.type === "versions") {
      for (const stream of stage.missing.streams)
        this.#parts.ledger.learnVersion(stream, outcome.versions.get(stream) ?? 0);
      stage.versions = "known";
    } else if (of === "keys" && outcome.type === "keys") {
      this.#learn(stage, outcome.keys);
      stage.keys = "known";
    } else {
      return this.#notLoaded(stage.taken, "cause" in outcome ? outcome.cause : outcome.type);
    }
    if (stage.versions === "asked" || stage.keys === "asked") return "loading";
    return this.#build({ ...stage, round: stage.round + 1 }, nextWrite);
  }

  /** The epoch is over: what was taken waits for the next one. */
  cancelLoading(): void {
    if (this.#stage.type !== "loading") return;
    this.#parts.inbox.giveBack(this.#stage.taken);
    this.#stage = { type: "idle" };
  }

  #learn(stage: Extract<Stage, { type: "loading" }>, wrapped: readonly WrappedKey[]): void {
    const stored = new Set(wrapped.map(({ userId }) => userId));
    const learnt = new Set(this.#parts.keys.learn(wrapped).map(({ userId }) => userId));
    for (const userId of stage.missing.people) {
      if (!stored.has(userId)) stage.absent.add(userId);
      else if (!learnt.has(userId)) stage.locked.add(userId);
    }
    if (stage.locked.size > 0)
      this.#work.journal("error", "keys of people do not open with this cluster's secret", {
        people: stage.locked.size,
      });
  }

  #notLoaded(taken: readonly Queued[], error: unknown): AfterBatch {
    this.#work.journal("warn", "what a batch needs could not be loaded", { err: error });
    for (const queued of taken) this.#parts.inbox.answerUnavailable(queued, "the event log is not available");
    this.#stage = { type: "idle" };
    return "idle";
  }

  #desk(absent: ReadonlySet<UserId>): Desk {
    const { ledger, keys, random, wrappingKey, vaultKey } = this.#parts;
    const { epoch, incarnation } = this.#opened;
    const keyOf = (id: UserId): PersonKey | null | undefined => keys.get(id) ?? (absent.has(id) ? null : undefined);
    const lost: LostPlaces = {
      holds: (link) => ledger.standingOf(link) === "held",
      endOfEpoch: (of) => ledger.endOfEpoch(of),
      restoredAfter: (userId, of) => ledger.restoredAfter(userId, of),
    };
    return {
      ...{ epoch, incarnation, keyOf, ledger: ledger.projection },
      versionOf: (stream) => ledger.versionOf(stream),
      tools: {
        ...{ random, wrappingKey, vaultKey, lost, now: this.#work.at.wall },
        configOf: (id) => ledger.configOf(id),
        unreadyFor: this.#unreadyFor,
      },
    };
  }

  /**
   * What became of the append.
   * @returns the ticket of the write, and the batch when it has committed cleanly; `end`: the epoch ends with it
   */
  appended(
    outcome: AppendOutcome,
  ): Readonly<{ ticket: WriteTicket; committed: AppendBatch | null; end: LeaderEnd | null }> | undefined {
    const stage = this.#stage;
    if (stage.type !== "appending") return undefined;
    this.#stage = { type: "idle" };
    const { ticket, batch, accepted } = stage;
    if (outcome.type === "appended" && sameLink(outcome.last, batch.last)) {
      this.#committed(batch, accepted);
      return { ticket, committed: batch, end: null };
    }
    this.#parts.counters.batchesNotClean += 1;
    const end = this.#notAppended(
      outcome,
      accepted.map(({ queued }) => queued),
    );
    return { ticket, committed: null, end };
  }

  /** Committed cleanly, and true whatever has become of the epoch meanwhile. */
  #committed(batch: AppendBatch, accepted: readonly Accepted[]): void {
    const { ledger, keys, counters } = this.#parts;
    this.#conflictsInARow = 0;
    counters.batches += 1;
    counters.events += batch.entries.length;
    keys.put(accepted.flatMap(({ newKeys }) => newKeys));
    this.#work.note({ type: "folded", events: ledger.fold(batch.entries) });
    this.#parts.relay.publish(batch);
    for (const { queued, last } of accepted) {
      this.#noteReassertion(queued, "appended");
      this.#done(queued, { link: last, changed: "changed" });
    }
  }

  #notAppended(outcome: AppendOutcome, commands: readonly Queued[]): LeaderEnd | null {
    const { inbox, ledger, counters, firstAnswers } = this.#parts;
    switch (outcome.type) {
      case "fenced":
        inbox.giveBack(commands);
        return { type: "fenced" };
      case "head-moved":
        inbox.giveBack(commands);
        return reopen("the head is not where we left it");
      case "duplicate-command": {
        const repeated = commands.find(({ request }) => request.commandId === outcome.commandId);
        inbox.giveBack(commands.filter((queued) => queued !== repeated));
        if (repeated === undefined) return reopen("the log names a command we did not send");
        firstAnswers.repeat(repeated, outcome, this.#term);
        return null;
      }
      case "version-conflict": {
        counters.versionConflicts += 1;
        this.#conflictsInARow += 1;
        for (const { stream, actual } of outcome.streams) ledger.learnVersion(stream, actual);
        inbox.giveBack(this.#again(commands));
        return this.#conflictsInARow < attemptsMax ? null : reopen("versions of streams do not settle");
      }
      case "appended":
      case "indeterminate":
        inbox.giveBackUnresolved(this.#again(commands)); // may be committed, may be lost: never success
        return reopen("a batch's outcome is unknown");
      case "unavailable":
        this.#work.journal("warn", "the event log is not available: commands are turned away", { err: outcome.cause });
        for (const queued of commands) inbox.answerUnavailable(queued, "the event log is not available");
        return null;
      default:
        return unreachable(outcome);
    }
  }

  /** Those that may be tried once more; the others are given back to their callers. */
  #again(commands: readonly Queued[]): readonly Queued[] {
    const { inbox } = this.#parts;
    return commands.filter((queued) => {
      if (inbox.countAttempt(queued) < attemptsMax) return true;
      inbox.answerUnavailable(queued, "its batch could not be written");
      return false;
    });
  }

  // --- conclusions without an event

  /** What a write came to, for those that waited for it. */
  proven(write: number, proof: "clean" | "not-clean" | "unavailable"): void {
    for (const conclusion of this.#conclusions.values()) {
      if (conclusion.write === null || conclusion.write > write || conclusion.proof !== "awaited") continue;
      conclusion.proof = proof;
      this.#answerWhenSure(conclusion);
    }
  }

  /** Whether a command that is to be refused, or has nothing to do, had been carried out before. */
  first(queued: Queued, answer: FirstAnswer): void {
    const conclusion = this.#conclusions.get(queued);
    if (conclusion === undefined) return;
    if (answer !== "none") {
      this.#conclusions.delete(queued); // answered
      return;
    }
    conclusion.first = "none";
    this.#answerWhenSure(conclusion);
  }

  #answerWhenSure(conclusion: Conclusion): void {
    const { settled, head, proof, first } = conclusion;
    if (proof === "awaited" || first === "awaited") return;
    const { queued, performed } = settled;
    const { inbox, counters } = this.#parts;
    this.#conclusions.delete(queued);
    if (proof === "not-clean") return inbox.giveBack([queued]); // decided again at the head, here or by whoever leads
    if (proof === "unavailable") return inbox.answerUnavailable(queued, "the event log is not available");
    if (performed.type === "nothing") {
      this.#noteReassertion(queued, "already-denied");
      return this.#done(queued, { link: head, changed: "unchanged" });
    }
    this.#noteReassertion(queued, "operator");
    counters.commandsRefused += 1;
    const { code, message } = performed;
    inbox.answer(queued, { type: "refused", commandId: queued.request.commandId, code, message });
  }

  #noteReassertion({ request }: Queued, outcome: "appended" | "already-denied" | "operator"): void {
    if (!isReassertion(request) || request.command.type !== "reassertTightenings") return;
    for (const { link, stream, type } of request.command.events)
      this.#parts.reports.settled({ link, stream, type }, outcome);
  }

  #done(queued: Queued, what: Readonly<{ link: Link; changed: "changed" | "unchanged" }>): void {
    const { inbox, counters } = this.#parts;
    counters.commandsDone += 1;
    const { commandId } = queued.request;
    inbox.answer(queued, { type: "done", commandId, link: what.link, changed: what.changed === "changed" });
  }
}

const noRound: WriteRound = { tickets: [], lessees: [], left: [] };

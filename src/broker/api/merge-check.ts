/**
 * Merge check: what a broker of the home region checks of a revocation that a region accepted by itself, before and
 * after the leader records it.
 *
 * - Before: a broker of this cluster has signed it, and it is submitted under one of its two command ids.
 * - After: its command id may have been used for another change, or for a revocation of other sessions. Then the log
 *   does not deny all that it denies, and the answer must not say so.
 * - The leader refuses an old suspension whose command id the log may have forgotten. If this broker finds the
 *   suspension among the person's events, the answer is the link of that event.
 * - A restore that was made here while the region was cut off loses. The operator learns it from the log and a counter.
 */
import {
  type CommandId,
  type CommandRequest,
  type CommandResult,
  decodeEvents,
  type Link,
  linkOf,
  type Position,
  type Projection,
  previousPosition,
  type Recorded,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import { type EventLog, historyDepthMax, readHistory } from "../../replication/log/index.ts";
import {
  type EnvelopeOpener,
  type LocalRevocation,
  mergeIdsOf,
  openRevocation,
  type SealedRevocation,
} from "../../replication/wire/index.ts";
import type { Counters } from "../core/counters.ts";
import { unavailableResult } from "../leader/pending-commands.ts";

export type MergeCheck = Readonly<{
  /** @returns why the command is refused; undefined: it may be submitted, or is another command */
  refuse: (request: CommandRequest) => string | undefined;
  /** Checks the leader's answer to a merge; any other answer is returned as it is. */
  confirm: (request: CommandRequest, result: CommandResult) => Promise<CommandResult>;
}>;

type MergeCheckDeps = Readonly<{
  open: EnvelopeOpener;
  log: Pick<EventLog, "base" | "linkAt" | "read">;
  /** The newest link that this broker has applied. */
  head: () => Link;
  /** At that link. */
  projection: () => Pick<Projection, "sessionStatus" | "user">;
  counters: Pick<Counters, "revocationsMerged" | "restoresOverridden">;
  logger: Logger;
}>;

/** Merges that were reported to the operator, so that each is reported once. */
const reportedMax = 4_096;
const searchedMax = 4_096;
/** Searches that run or wait. */
const searchingMax = 1_000;
/** The number of reads of one search; each covers up to 10,000 positions of the log. */
const scansMax = 50;

/** `missing`: why older events are not among them; null: all are. */
type Found = Readonly<{ events: readonly Recorded[]; missing: string | null }>;

const unanswered = "the log does not answer for these positions yet";
const cannotTell = "cannot tell whether a merged suspension overrides a restore: check it";

export function createMergeCheck(deps: MergeCheckDeps): MergeCheck {
  const { open, log, counters, logger } = deps;
  const reported = new Set<CommandId>();
  /** Up to where suspensions that the leader refuses were searched for and not found, by their own ids. */
  const searched = new Map<CommandId, Link>();
  const { eventsBetween, inTurn, waiting } = createSearches(log);

  function refuse({ commandId, command }: CommandRequest): string | undefined {
    if (command.type !== "mergeRevocation") return undefined;
    const opened = openRevocation(command.envelope, open);
    if (typeof opened === "string") return `the revocation is not authentic: ${opened}`;
    return mergeIdsOf(opened).includes(commandId) ? undefined : "the revocation has another command id";
  }

  async function confirm({ commandId, command }: CommandRequest, result: CommandResult): Promise<CommandResult> {
    if (command.type !== "mergeRevocation") return result;
    const opened = openRevocation(command.envelope, open);
    if (typeof opened === "string") return unavailableResult(commandId, opened);
    const { revocation } = opened;
    const userId = revocation.command === "suspendUser" ? revocation.userId : null;
    if (result.type === "refused" && userId !== null) {
      const found = await findRecorded(opened, userId);
      if (typeof found === "string") return unavailableResult(commandId, found);
      return found === null ? result : { type: "done", commandId, link: found, changed: true };
    }
    if (result.type !== "done") return result;
    const head = deps.head();
    if (head.position < result.link.position) return unavailableResult(commandId, unanswered);
    if (userId !== null && result.changed) {
      const span = { after: previousPosition(result.link.position), upTo: result.link };
      const { events, missing } = await eventsBetween(userId, span);
      if (missing === unanswered) return unavailableResult(commandId, unanswered);
      if (!events.some((event) => isSuspension(event, [commandId]))) return otherChange(commandId);
    } else if (isPermitted(revocation, deps.projection())) return otherChange(commandId);
    if (!result.changed) return { ...result, link: head }; // what has ended may have ended after the answer's link
    void report(revocation, result.link).catch((err: unknown) => {
      reported.delete(revocation.commandId); // the next submission reports it
      logger.error({ err, commandId, userId }, cannotTell);
    });
    return result;
  }

  /**
   * Searches the person's events since the basis for a suspension that the leader refuses, because the log may have
   * recorded it, lifted it and forgotten its command id. What an earlier search has read is not read again.
   * @returns null: it is not there; text: why that is not known yet
   */
  async function findRecorded(sealed: SealedRevocation, userId: UserId): Promise<Link | string | null> {
    if (waiting() > 0) return "another revocation is looked up in the log";
    const ids = mergeIdsOf(sealed);
    const upTo = deps.head();
    const before = searched.get(ids[1]);
    // An epoch only appends, so what it has was read.
    const after = before?.epoch === upTo.epoch ? before.position : sealed.revocation.basis.position;
    const { events, missing } = await inTurn(() => eventsBetween(userId, { after, upTo }));
    const own = events.findLast((event) => isSuspension(event, ids));
    if (own !== undefined) return linkOf(own);
    if (missing === unanswered) return missing;
    searched.delete(ids[1]);
    searched.set(ids[1], upTo);
    if (searched.size > searchedMax) searched.delete(searched.keys().next().value ?? ids[1]);
    return null;
  }

  async function report(revocation: LocalRevocation, link: Link): Promise<void> {
    const { commandId, region, actor, acceptedAt, basis, userId, command } = revocation;
    if (reported.has(commandId)) return;
    reported.add(commandId);
    if (reported.size > reportedMax) reported.delete(reported.values().next().value ?? commandId);
    const isSuspended = command === "suspendUser" && userId !== null;
    const span = { after: basis.position, upTo: link };
    const found = isSuspended ? await inTurn(() => eventsBetween(userId, span)) : null;
    if (found?.missing === unanswered) throw new Error(unanswered);
    counters.revocationsMerged += 1;
    const fields = { commandId, region, actor, acceptedAt, link };
    logger.warn(fields, "recorded a revocation that a region had accepted by itself while it was cut off");
    const restored = found?.events.find(({ event }) => event.type === "UserRestored");
    if (restored === undefined) {
      if (found !== null && found.missing !== null)
        logger.error({ ...fields, userId, reason: found.missing }, cannotTell);
      return;
    }
    counters.restoresOverridden += 1;
    logger.error(
      { ...fields, userId, restoredAt: restored.position },
      "a person was restored here while a cut-off region suspended them; the suspension counts: restore them again if they may sign in",
    );
  }

  return { refuse, confirm };
}

function createSearches(log: MergeCheckDeps["log"]) {
  let searching = 0;
  let lastSearch: Promise<void> = Promise.resolve();

  /** One search runs at a time: it may read half a million events. @throws when too many wait */
  async function inTurn(search: () => Promise<Found>): Promise<Found> {
    if (searching >= searchingMax) throw new Error("too many revocations are looked up in the log");
    searching += 1;
    const found = lastSearch.then(search);
    lastSearch = found.then(
      () => {},
      () => {}, // its caller hears of it
    );
    try {
      return await found;
    } finally {
      searching -= 1;
    }
  }

  /** The events of a person, oldest first. */
  async function eventsBetween(
    userId: UserId,
    { after, upTo: { position } }: Readonly<{ after: Position; upTo: Link }>,
  ): Promise<Found> {
    const streams = [userStream(userId)];
    let events: readonly Recorded[] = [];
    let upTo = position;
    for (let scans = 0; upTo > after; scans += 1) {
      if (scans === scansMax) return { events, missing: "the log has too many events since" };
      const depth = Math.min(historyDepthMax, upTo - after);
      const { at, found, searchedTo, base, damagedAt } = await readHistory(log, { streams, upTo, depth });
      if (at === null) return { events, missing: unanswered };
      events = [...found.flatMap(({ previous, bytes }) => decodeEvents([bytes], previous)), ...events];
      if (damagedAt !== null) return { events, missing: `the log is damaged at position ${damagedAt}` };
      upTo = searchedTo;
      if (upTo <= base && upTo > after) return { events, missing: "the log has dropped the events before" };
    }
    return { events, missing: null };
  }

  return { eventsBetween, inTurn, waiting: () => searching };
}

/**
 * Whether something that it denies is permitted, as far as sessions and erasure say. A person who is suspended may be
 * restored, so only an erased one needs no suspension of its own.
 */
function isPermitted(
  { command, userId, sessionIds }: LocalRevocation,
  projection: Pick<Projection, "sessionStatus" | "user">,
): boolean {
  if (command === "suspendUser") return userId === null || projection.user(userId)?.status !== "erased";
  return sessionIds.some((id) => projection.sessionStatus(id).status === "active");
}

/** Whether an event records a suspension under one of these command ids. */
function isSuspension({ event, cause }: Recorded, ids: readonly CommandId[]): boolean {
  const isOwn = cause !== null && ids.includes(cause);
  return isOwn && (event.type === "UserSuspended" || event.type === "UserErased");
}

function otherChange(commandId: CommandId): CommandResult {
  const message = "the log has another change under this command id";
  return { type: "refused", commandId, code: "conflict", message };
}

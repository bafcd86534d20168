/**
 * Merge check: what a broker of the home region checks of a revocation that a region accepted by itself, before and
 * after the leader records it.
 *
 * - Before: a broker of this cluster has signed it, and it is submitted under one of its two command ids.
 * - After: the command id of a suspension may have been used for another change. Then the log does not deny what the
 *   suspension denies, and the answer must not say so.
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
  counters: Pick<Counters, "revocationsMerged" | "restoresOverridden">;
  logger: Logger;
}>;

/** Merges that were reported to the operator, so that each is reported once. */
const reportedMax = 4_096;
/** The number of reads of one search; each covers up to 10,000 positions of the log. */
const scansMax = 50;

export function createMergeCheck(deps: MergeCheckDeps): MergeCheck {
  const { open, log, counters, logger } = deps;
  const reported = new Set<CommandId>();

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
      const link = await findRecorded(opened, userId);
      return link === null ? result : { type: "done", commandId, link, changed: true };
    }
    if (result.type !== "done" || !result.changed) return result;
    if (userId !== null) {
      const events = await eventsBetween(userId, { after: previousPosition(result.link.position), upTo: result.link });
      if (events === null) return unavailableResult(commandId, "the recorded revocation cannot be read yet");
      if (!events.some((event) => isSuspension(event, [commandId]))) return otherChange(commandId);
    }
    void report(revocation, result.link).catch((err: unknown) => {
      reported.delete(commandId); // the next submission reports it
      logger.error({ err, commandId, userId }, "cannot tell whether a merged suspension overrides a restore: check it");
    });
    return result;
  }

  /**
   * Searches the person's events since the basis for a suspension that the leader refuses, because the log may have
   * recorded it, lifted it and forgotten its command id. Null: it is not there, or the store does not answer yet.
   */
  async function findRecorded(sealed: SealedRevocation, userId: UserId): Promise<Link | null> {
    const events = await eventsBetween(userId, { after: sealed.revocation.basis.position, upTo: deps.head() });
    const own = events?.findLast((event) => isSuspension(event, mergeIdsOf(sealed)));
    return own === undefined ? null : linkOf(own);
  }

  /**
   * The events of a person, oldest first; those before the beginning of the log, or before the last scan, are left out.
   * Null: the store does not answer for these positions yet.
   */
  async function eventsBetween(
    userId: UserId,
    { after, upTo: { position } }: Readonly<{ after: Position; upTo: Link }>,
  ): Promise<readonly Recorded[] | null> {
    const streams = [userStream(userId)];
    let events: readonly Recorded[] = [];
    let upTo = position;
    for (let scans = 0; scans < scansMax && upTo > after; scans += 1) {
      const depth = Math.min(historyDepthMax, upTo - after);
      const { at, found, searchedTo, base } = await readHistory(log, { streams, upTo, depth });
      if (at === null) return null;
      events = [...found.flatMap(({ previous, bytes }) => decodeEvents([bytes], previous)), ...events];
      if (searchedTo <= base) break;
      upTo = searchedTo;
    }
    return events;
  }

  async function report(revocation: LocalRevocation, link: Link): Promise<void> {
    const { commandId, region, actor, acceptedAt, basis, userId, command } = revocation;
    if (reported.has(commandId)) return;
    reported.add(commandId);
    if (reported.size > reportedMax) reported.delete(reported.values().next().value ?? commandId);
    const isSuspended = command === "suspendUser" && userId !== null;
    const events = isSuspended ? await eventsBetween(userId, { after: basis.position, upTo: link }) : null;
    counters.revocationsMerged += 1;
    const fields = { commandId, region, actor, acceptedAt, link };
    logger.warn(fields, "recorded a revocation that a region had accepted by itself while it was cut off");
    const restored = events?.find(({ event }) => event.type === "UserRestored");
    if (restored === undefined) return;
    counters.restoresOverridden += 1;
    logger.error(
      { ...fields, userId, restoredAt: restored.position },
      "a person was restored here while a cut-off region suspended them; the suspension counts: restore them again if they may sign in",
    );
  }

  return { refuse, confirm };
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

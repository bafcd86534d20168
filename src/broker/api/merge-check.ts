/**
 * Merge check: what a broker of the home region checks of a revocation that a region accepted by itself, before and
 * after the leader records it.
 *
 * - Before: a broker of this cluster has signed it, and it is submitted under one of its two command ids.
 * - After: the command id of a suspension may have been used for another change. Then the log does not deny what the
 *   suspension denies, and the answer must not say so.
 * - A restore that was made here while the region was cut off loses. The operator learns it from the log and a counter.
 */
import {
  type CommandId,
  type CommandRequest,
  type CommandResult,
  decodeEvents,
  type Link,
  type Recorded,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import { type EventLog, historyDepthMax, readHistory } from "../../replication/log/index.ts";
import { type EnvelopeOpener, type LocalRevocation, mergeIdsOf, openRevocation } from "../../replication/wire/index.ts";
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
  counters: Pick<Counters, "revocationsMerged" | "restoresOverridden">;
  logger: Logger;
}>;

/** Merges that were reported to the operator, so that each is reported once. */
const reportedMax = 4_096;

export function createMergeCheck(deps: MergeCheckDeps): MergeCheck {
  const { open, log, counters, logger } = deps;
  const reported = new Set<CommandId>();

  function refuse({ commandId, command }: CommandRequest): string | undefined {
    if (command.type !== "mergeRevocation") return undefined;
    const opened = openRevocation(command.envelope, open);
    if (typeof opened === "string") return `the revocation is not authentic: ${opened}`;
    return mergeIdsOf(opened).includes(commandId) ? undefined : "the revocation has another command id";
  }

  /** Null: the store does not answer for this position yet. */
  async function eventsOf(userId: UserId, upTo: Link): Promise<readonly Recorded[] | null> {
    const request = { streams: [userStream(userId)], upTo: upTo.position, depth: historyDepthMax };
    const { at, found } = await readHistory(log, request);
    if (at === null) return null;
    return found.flatMap(({ previous, bytes }) => decodeEvents([bytes], previous));
  }

  async function confirm({ commandId, command }: CommandRequest, result: CommandResult): Promise<CommandResult> {
    if (command.type !== "mergeRevocation" || result.type !== "done" || !result.changed) return result;
    const opened = openRevocation(command.envelope, open);
    if (typeof opened === "string") return unavailableResult(commandId, opened);
    const { revocation } = opened;
    if (revocation.command !== "suspendUser" || revocation.userId === null) {
      report(revocation, result.link, []);
      return result;
    }
    const events = await eventsOf(revocation.userId, result.link);
    if (events === null) return unavailableResult(commandId, "the recorded revocation cannot be read yet");
    const own = events.find(({ position, cause }) => position === result.link.position && cause === commandId);
    if (own === undefined) return otherChange(commandId);
    if (own.event.type !== "UserSuspended" && own.event.type !== "UserErased") return otherChange(commandId);
    report(revocation, result.link, events);
    return result;
  }

  function report(revocation: LocalRevocation, link: Link, events: readonly Recorded[]): void {
    const { commandId, region, actor, acceptedAt, basis, userId } = revocation;
    if (reported.has(commandId)) return;
    reported.add(commandId);
    if (reported.size > reportedMax) reported.delete(reported.values().next().value ?? commandId);
    counters.revocationsMerged += 1;
    const fields = { commandId, region, actor, acceptedAt, link };
    logger.warn(fields, "recorded a revocation that a region had accepted by itself while it was cut off");
    const restored = events.find(({ event, position }) => event.type === "UserRestored" && position > basis.position);
    if (restored === undefined) return;
    counters.restoresOverridden += 1;
    logger.error(
      { ...fields, userId, restoredAt: restored.position },
      "a person was restored here while a cut-off region suspended them; the suspension counts: restore them again if they may sign in",
    );
  }

  return { refuse, confirm };
}

function otherChange(commandId: CommandId): CommandResult {
  const message = "the log has another change under this command id";
  return { type: "refused", commandId, code: "conflict", message };
}

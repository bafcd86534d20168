/**
 * Losses: what the promotion of a lagging standby lost, and how that changes the promises.
 *
 * Pure. A change may be lost only if it was in flight while the primary waited for no standby, and no receipt of it
 * said
 * `synchronous`. Anything else that is missing from the log at the end is a violation (check-log.ts).
 *
 * - A lost revocation, of a session or of all sessions of a person, stays in force: the nodes that applied it record it
 *   again.
 * - A lost removal from a group, a lost addition and a lost restoration are undone, and a lost session is gone.
 */
import type { Ending, FaultEntry, History, LoggedEvents, Ns, SessionEntry } from "./history.ts";
import type { Operation } from "./promises.ts";

export type Losses = Readonly<{
  /** The operations that may be lost. */
  operations: ReadonlySet<string>;
  /** Sessions that the log no longer has, or may not have. */
  sessions: ReadonlySet<string>;
  /** The start of the time whose acknowledged changes may be lost; Infinity: none. */
  from: Ns;
}>;

export const nothingLost: Losses = { operations: new Set(), sessions: new Set(), from: Number.POSITIVE_INFINITY };

export function lossesOf(history: History, operations: readonly Operation[], ending: Ending): Losses {
  const promotion = history.fault.find(({ what }) => what === "promote-lagging-standby");
  const { log } = ending;
  if (promotion === undefined || log === null) return nothingLost;
  const synchronous = new Set(
    history.receipt.filter(({ durability }) => durability === "synchronous").map(({ op }) => op),
  );
  const lost = operations.filter(
    (each) => !isHeld(each.link, log) && mayBeLost(each, promotion) && !synchronous.has(each.op),
  );
  const sessions = history.session.filter((entry) => !isHeld(entry, log) && mayBeLost(entry, promotion));
  return {
    operations: new Set(lost.map(({ op }) => op)),
    sessions: new Set(sessions.map(({ session }) => session)),
    from: promotion.begin,
  };
}

function isHeld(link: Readonly<{ epoch: number; position: number }> | null, log: LoggedEvents): boolean {
  return link === null || link.position === 0 || log[link.position - 1]?.epoch === link.epoch;
}

/** Whether it was in flight during the fault. A command without an answer names no position and is not checked. */
function mayBeLost({ begin, end }: Pick<Operation | SessionEntry, "begin" | "end">, promotion: FaultEntry): boolean {
  return begin <= promotion.end && end !== null && end >= promotion.begin;
}

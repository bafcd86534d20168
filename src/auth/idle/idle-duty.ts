/**
 * Idle duty: the leader ends sessions that no route accepts any more because they are idle. Pure, except for its
 * dependencies.
 *
 * - Nodes refuse such sessions by themselves before. The duty makes them leave the log's state, with a reason.
 * - It waits a while after an idle lifetime, and after the begin of an epoch: reports may be under way.
 * - An idle lifetime of a route alone ends no session, because it continues on other routes.
 */
import { type IdleLifetimes, reportedEvery } from "../../config/index.ts";
import {
  activityFrom,
  type CommandId,
  type CommandRequest,
  type CommandResult,
  type Epoch,
  type Projection,
  type SessionId,
  type UnixMs,
} from "../../events/index.ts";

export type IdleDutyContext = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  projection: Projection;
  now: UnixMs;
  clock: Readonly<{ monotonic(): number; wall(): UnixMs }>;
  signal: AbortSignal;
  leadership: Readonly<{ epoch: Epoch }>;
}>;

/** Longer than a report waits, is retried and is under way. */
export const reportMsMax = 120_000;
const endedAtOnce = 256;
const commandsMax = 40;

export function createIdleDuty(deps: {
  lifetimes: () => IdleLifetimes | null;
  uuid: () => string;
}): (context: IdleDutyContext) => Promise<void> {
  let leading: Readonly<{ epoch: Epoch; since: number }> | null = null;

  return async ({ submit, projection, clock, signal, leadership }) => {
    const { epoch } = leadership;
    if (leading?.epoch !== epoch) leading = { epoch, since: clock.monotonic() };
    const lifetimes = deps.lifetimes();
    const isSettled = clock.monotonic() - leading.since >= reportMsMax;
    if (lifetimes === null || !isSettled || projection.level < activityFrom) return;
    for (let command = 0; command < commandsMax && !signal.aborted; command++) {
      const sinceOf = (idpId: string): UnixMs => unusedSince(lifetimes, idpId, clock.wall());
      const found = projection.uses.unused(sinceOf, endedAtOnce);
      const bySince = Map.groupBy(found, (sessionId) => sinceOfSession(projection, sessionId, sinceOf));
      const [first] = bySince;
      if (first === undefined) return;
      const [since, sessionIds] = first;
      const result = await submit({
        commandId: deps.uuid() as CommandId,
        actor: "system",
        command: { type: "endIdleSessions", sessionIds, unusedSince: since },
      });
      if (result.type !== "done" || !result.changed) return;
    }
  };
}

/** 0: sessions of the provider are never idle everywhere. */
function unusedSince(lifetimes: IdleLifetimes, idpId: string, now: UnixMs): UnixMs {
  const idleMs = lifetimes.everywhere(idpId);
  return (idleMs === 0 ? 0 : now - idleMs - idleMs / reportedEvery - reportMsMax) as UnixMs;
}

function sinceOfSession(projection: Projection, sessionId: SessionId, sinceOf: (idpId: string) => UnixMs): UnixMs {
  const session = projection.session(sessionId);
  return session?.status === "active" ? sinceOf(session.idpId) : (0 as UnixMs);
}

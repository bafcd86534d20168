/**
 * Commands that concern no one person: the expiry sweep, which configuration a node runs, the cluster's level. Pure.
 */
import type {
  ActivateConfiguration,
  ExpireSessions,
  FinalizeUpgrade,
  Projection,
  RecordSnapshot,
} from "../../events/index.ts";
import { changed, nothing, type Performed, refused, type Tools } from "./performed.ts";

/** One event stays far below what a message may hold; the sweep asks again for the rest. */
export const expiredAtOnceMax = 2_000;

/** Only what is really past its own expiry leaves the projection, whatever was asked. */
export function expireSessions(projection: Projection, command: ExpireSessions, tools: Tools): Performed {
  const isOver = (expiresAt: number | null | undefined) => typeof expiresAt === "number" && expiresAt <= tools.now;
  const sessionIds = [...new Set(command.sessionIds)]
    .filter((id) => isOver(projection.session(id)?.expiresAt))
    .slice(0, expiredAtOnceMax);
  if (sessionIds.length === 0) return changed([]);
  return changed([{ type: "SessionsExpired", sessionIds }], { vaultRemoved: sessionIds });
}

/** Recorded again where it brings a body that may not be kept yet: what is stored is stored with the event that names it. */
export function activateConfiguration(command: ActivateConfiguration, tools: Tools): Performed {
  const { nodeId, configHash } = command;
  const body = tools.hasBody(configHash) ? undefined : command.body;
  if (body === undefined && tools.configOf(nodeId) === configHash) return changed([]);
  const configurations = body === undefined ? [] : [{ configHash, body, recordedAt: tools.now }];
  return changed([{ type: "ConfigurationActivated", nodeId, configHash }], { configurations });
}

/** Refused while somebody who is there could not read what may be written from then on. */
export function finalizeUpgrade(projection: Projection, { level }: FinalizeUpgrade, tools: Tools): Performed {
  if (level <= projection.level) return nothing;
  const unready = tools.unreadyFor(level);
  if (unready.length > 0) return refused("conflict", `level ${level} is not finalized: ${unready.join("; ")}`);
  return changed([{ type: "UpgradeFinalized", level }]);
}

export function recordSnapshot({ position, manifestHash }: RecordSnapshot): Performed {
  return changed([{ type: "SnapshotTaken", position, manifestHash }]);
}

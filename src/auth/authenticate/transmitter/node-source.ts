/** Signal source of a node: reads the log from a broker, and names people by this node's own projection. */
import type { UserId } from "../../../events/index.ts";
import type { Identity, SignalSource } from "./pending-signals.ts";
import type { TransmitterDeps } from "./transmitter-context.ts";

export function sourceOf({
  databroker,
  replica,
  restored,
}: Pick<TransmitterDeps, "databroker" | "replica" | "restored">): SignalSource {
  return {
    read: (after, limit) => databroker.read(after, { limit, waitMs: 0 }),
    applied: () => replica.projection.applied.position,
    userOf: (sessionId) => replica.projection.session(sessionId)?.userId ?? null,
    identities: (users) => openIdentities(replica, users),
    stillBarred: (users, identities) => restored.stillBarred(users, identities),
  };
}

export async function openIdentities(
  replica: TransmitterDeps["replica"],
  users: readonly UserId[],
): Promise<ReadonlyMap<UserId, Identity>> {
  const found = new Map<UserId, Identity>();
  for (const userId of users) {
    const sealed = replica.projection.user(userId)?.profile;
    const profile = sealed === undefined || sealed === null ? undefined : replica.open(sealed, userId);
    if (profile !== undefined) found.set(userId, profile);
  }
  return found;
}

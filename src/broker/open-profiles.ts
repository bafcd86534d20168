/** Open profiles: reads what the log has sealed about people, for a duty. Keys are not kept. */
import {
  type PersonKey,
  type Profile,
  type Projection,
  type UserId,
  unwrapKey,
  type WrappedKey,
} from "../events/index.ts";
import type { EventLog } from "../replication/log/index.ts";
import { openProfile } from "./commands/profile-seal.ts";
import { profilesMax } from "./core/duty.ts";

export async function openProfiles(
  userIds: readonly UserId[],
  from: Readonly<{
    log: Pick<EventLog, "keys">;
    wrappingKeys: readonly Uint8Array[];
    projection: Pick<Projection, "user">;
  }>,
): Promise<ReadonlyMap<UserId, Profile>> {
  const opened = new Map<UserId, Profile>();
  for (const wrapped of await from.log.keys(userIds.slice(0, profilesMax))) {
    const person = unwrapWith(wrapped, from.wrappingKeys);
    const profile = person && openProfile(from.projection.user(wrapped.userId)?.profile, person);
    if (profile !== undefined) opened.set(wrapped.userId, profile);
  }
  return opened;
}

function unwrapWith(wrapped: WrappedKey, wrappingKeys: readonly Uint8Array[]): PersonKey | undefined {
  for (const wrappingKey of wrappingKeys) {
    try {
      return unwrapKey(wrapped, wrappingKey);
    } catch {
      // wrapped under another secret: the next one may open it
    }
  }
  return undefined;
}

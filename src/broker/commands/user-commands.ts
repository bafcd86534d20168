/**
 * Commands about one user: cut all sessions, suspend, restore, erase. Pure. Erasure is final, and so is every cut: a restore
 * brings back the person, not the old sessions.
 */
import type {
  EraseUser,
  Projection,
  RestoreUser,
  RevokeUserSessions,
  SessionId,
  SuspendUser,
  UserId,
} from "../../events/index.ts";
import { changed, nothing, type Performed, refused } from "./performed.ts";

export function revokeUserSessions(projection: Projection, { userId, reason }: RevokeUserSessions): Performed {
  if (projection.user(userId) === undefined) return unknownUser;
  const live = projection.sessionsOf(userId).some((id) => projection.sessionStatus(id).status === "active");
  if (!live) return nothing;
  return changed([{ type: "UserSessionsRevoked", userId, upTo: null, reason }], {
    vaultRemoved: allOf(projection, userId),
  });
}

export function suspendUser(projection: Projection, { userId, reason }: SuspendUser): Performed {
  switch (projection.user(userId)?.status) {
    case undefined:
      return unknownUser;
    case "erased":
      return erasedUser;
    case "suspended":
      return nothing;
    case "active":
      return changed([{ type: "UserSuspended", userId, reason }], { vaultRemoved: allOf(projection, userId) });
  }
}

export function restoreUser(projection: Projection, { userId }: RestoreUser): Performed {
  switch (projection.user(userId)?.status) {
    case undefined:
      return unknownUser;
    case "erased":
      return erasedUser;
    case "active":
      return nothing;
    case "suspended":
      return changed([{ type: "UserRestored", userId }]);
  }
}

export function eraseUser(projection: Projection, { userId }: EraseUser): Performed {
  const user = projection.user(userId);
  if (user === undefined) return unknownUser;
  if (user.status === "erased") return nothing;
  return changed([{ type: "UserErased", userId }], { erasedKeys: [userId], vaultRemoved: allOf(projection, userId) });
}

const unknownUser = refused("not-found", "there is no such user");
const erasedUser = refused("erased", "the user is erased");

function allOf(projection: Projection, userId: UserId): readonly SessionId[] {
  return projection.sessionsOf(userId);
}

/** Session selection: the named sessions, or those that match a filter in this node's projection. Pure. */
import type { z } from "zod";
import {
  type GroupId,
  parseGroupId,
  parseSessionId,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../events/index.ts";
import type { Replica } from "../../replication/index.ts";
import { type OperatorApiDeps, tryParse } from "./operator-route.ts";
import { type filterSchema, sessionsAtOnceMax } from "./operator-schemas.ts";

export type SessionFilter = z.infer<typeof filterSchema>;

export type SessionSelection =
  | Readonly<{ sessionIds: readonly SessionId[]; more: boolean }>
  | Readonly<{ error: string }>;

export function sessionsNamed(names: readonly string[]): SessionSelection {
  const ids = names.map((name) => tryParse(parseSessionId, name));
  const bad = ids.indexOf(undefined);
  if (bad >= 0) return { error: `sessionIds[${bad}] is not a session id` };
  return { sessionIds: [...new Set(ids.filter((id) => id !== undefined))], more: false };
}

export function sessionsMatching(
  { replica, now }: Pick<OperatorApiDeps, "replica" | "now">,
  filter: SessionFilter,
): SessionSelection {
  const { group, idpId, issuedBefore, all } = filter;
  if (group === undefined && idpId === undefined && issuedBefore === undefined && all !== true)
    return { error: "a filter needs group, idpId or issuedBefore, or all for every session" };
  const groupId = group === undefined ? undefined : tryParse(parseGroupId, group);
  if (group !== undefined && groupId === undefined) return { error: "not a group id" };
  const members = groupId === undefined ? undefined : new Set(replica.projection.membersOf(groupId));
  const before = issuedBefore === undefined ? Number.POSITIVE_INFINITY : Date.parse(issuedBefore);
  const at = now();
  const sessionIds: SessionId[] = [];
  for (const session of replica.projection.sessions()) {
    if (session.status !== "active" || session.expiresAt <= at || session.issuedAt >= before) continue;
    if (idpId !== undefined && session.idpId !== idpId) continue;
    if (members !== undefined && !isMemberOf(replica, session.userId, { members, groupId, at })) continue;
    if (replica.projection.sessionStatus(session.sessionId).status !== "active") continue;
    if (sessionIds.length >= sessionsAtOnceMax) return { sessionIds, more: true };
    sessionIds.push(session.sessionId);
  }
  return { sessionIds, more: false };
}

function isMemberOf(
  { projection }: Replica,
  userId: UserId,
  { members, groupId, at }: Readonly<{ members: ReadonlySet<UserId>; groupId: GroupId | undefined; at: UnixMs }>,
): boolean {
  return groupId !== undefined && members.has(userId) && projection.groupsOf(userId, at).has(groupId);
}

/**
 * Expire access requests: records that no decision came in time, and that access has reached its end, whatever the
 * caller requested. Pure.
 *
 * Nodes enforce the end of access by their own clocks before this event.
 */
import {
  type AccessRequest,
  accessRequestStream,
  type CardeaEvent,
  groupStream,
  type Projection,
  parseCommandId,
  type UnixMs,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { listIn, MalformedCommandError } from "../fields.ts";
import { recordChanges } from "../performed.ts";

const requestsAtOnceMax = 1_000;

export const expireAccessRequests: CommandDefinition<"expireAccessRequests"> = {
  schema(fields) {
    const requestIds = listIn(fields, "requestIds").map(parseCommandId);
    if (requestIds.length > requestsAtOnceMax) throw new MalformedCommandError("too many access requests");
    return { type: "expireAccessRequests", requestIds };
  },
  permission: ["duty"],
  access: ({ requestIds }, { accessRequests }) => ({
    reads: [],
    writes: [
      accessRequestStream,
      ...requestIds.flatMap((requestId) => {
        const request = accessRequests.get(requestId);
        return request === undefined ? [] : [groupStream(request.groupId)];
      }),
    ],
  }),
  perform(projection, { requestIds }, { now }) {
    const all = [...new Set(requestIds)].map((requestId) => projection.accessRequests.get(requestId));
    return recordChanges(all.flatMap((request) => (request === undefined ? [] : endsOf(projection, request, now))));
  },
};

function endsOf(projection: Projection, request: AccessRequest, now: UnixMs): readonly CardeaEvent[] {
  const { requestId, userId, groupId, status, expiresAt, until } = request;
  const ended = { type: "AccessRequestEnded", requestId, userId } as const;
  if (status === "pending") return expiresAt <= now ? [{ ...ended, outcome: "lapsed" }] : [];
  if (status !== "approved" || until === null || until > now) return [];
  const isBehind = projection.membership(userId, groupId)?.requested?.requestId === requestId;
  const expired: readonly CardeaEvent[] = isBehind
    ? [{ type: "MembershipsExpired", groupId, userIds: [userId], at: now }]
    : [];
  return [...expired, { ...ended, outcome: "expired" }];
}

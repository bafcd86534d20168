/**
 * Request access: a person asks for a route that refuses them. It gives nothing: an approver decides. Pure.
 *
 * A person has at most one request about a route that waits, so a form that is sent twice changes nothing.
 */
import {
  accessMsMax,
  accessMsMin,
  accessRequestStream,
  openRequestsMax,
  type Projection,
  parseCommandId,
  parseGroupId,
  parseSessionId,
  parseUserId,
  type RequestAccess,
  requestedByPersonMax,
  sessionStream,
  type UnixMs,
  undecidedMsMax,
  userStream,
  waitingByPersonMax,
  waitingByRouteMax,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { type Fields, integerOf, MalformedCommandError, textOf } from "../fields.ts";
import { nothing, type Performed, recordChanges, refuseCommand } from "../performed.ts";
import { belowRequestLevel, isSignedIn, sealWords, wordsIn } from "./request-parts.ts";

const routeIdPattern = /^[\x21-\x7e]{1,200}$/;
const refusalPattern = /^[\x21-\x7e]{1,100}$/;
const dayMs = 24 * 3_600_000;

export const requestAccess: CommandDefinition<"requestAccess"> = {
  schema: (fields) => ({
    type: "requestAccess",
    requestId: parseCommandId(fields["requestId"]),
    userId: parseUserId(fields["userId"]),
    sessionId: parseSessionId(fields["sessionId"]),
    routeId: plainIn(fields, "routeId", routeIdPattern),
    groupId: parseGroupId(fields["groupId"]),
    durationMs: integerOf(fields, "durationMs", { min: accessMsMin, max: accessMsMax }),
    reason: wordsIn(fields, "reason"),
    refusal: fields["refusal"] === null ? null : plainIn(fields, "refusal", refusalPattern),
  }),
  permission: ["authenticate"],
  isOwn: ({ userId }, actor) => actor === `user:${userId}`,
  access: ({ userId, sessionId }) => ({
    reads: [userStream(userId), sessionStream(sessionId)],
    writes: [accessRequestStream],
  }),
  person: ({ userId }) => userId,
  perform(projection, command, tools) {
    const { requestId, userId, routeId, groupId, durationMs, refusal } = command;
    const below = belowRequestLevel(projection);
    if (below !== undefined) return below;
    if (!isSignedIn(projection, command, tools.now))
      return refuseCommand("forbidden", "your session has ended, or your account is suspended: sign in again");
    const waiting = [...projection.accessRequests.of(userId)].filter(({ status }) => status === "pending");
    if (waiting.some((request) => request.routeId === routeId)) return nothing;
    if (projection.accessRequests.get(requestId) !== undefined)
      return refuseCommand("conflict", "this request was made before, and has ended");
    const refused = refuseTooMany(projection, command, { now: tools.now, waiting: waiting.length });
    if (refused !== undefined) return refused;
    const { sealed: reason, newKeys } = sealWords(command.reason, command, tools);
    const expiresAt = (tools.now + undecidedMsMax) as UnixMs;
    return recordChanges(
      [{ type: "AccessRequested", requestId, userId, routeId, groupId, durationMs, reason, refusal, expiresAt }],
      { newKeys },
    );
  },
};

function refuseTooMany(
  { accessRequests }: Projection,
  { userId, routeId }: RequestAccess,
  { now, waiting }: Readonly<{ now: UnixMs; waiting: number }>,
): Performed | undefined {
  if (waiting >= waitingByPersonMax)
    return refuseCommand("conflict", `${waiting} of your requests wait for a decision: withdraw one first`);
  const recent = [...accessRequests.of(userId)].filter(({ requestedAt }) => requestedAt > now - dayMs);
  if (recent.length >= requestedByPersonMax)
    return refuseCommand("conflict", `you have made ${recent.length} requests within a day: try again tomorrow`);
  if (accessRequests.openCount >= openRequestsMax)
    return refuseCommand("conflict", `${openRequestsMax} access requests wait or are in force: that is the limit`);
  let aboutRoute = 0;
  for (const request of accessRequests.open())
    if (request.status === "pending" && request.routeId === routeId) aboutRoute += 1;
  if (aboutRoute < waitingByRouteMax) return undefined;
  return refuseCommand("conflict", `${aboutRoute} requests for this route wait for a decision: that is the limit`);
}

function plainIn(fields: Fields, name: string, pattern: RegExp): string {
  const text = textOf(fields, name);
  if (!pattern.test(text)) throw new MalformedCommandError(`${name} is not an id`);
  return text;
}

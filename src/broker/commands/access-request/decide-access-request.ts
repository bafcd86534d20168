/**
 * Decide access request: approves or denies a request that waits. An approval records the decision and the membership
 * in one batch: neither is recorded without the other. Pure.
 *
 * - The decider's right is checked at the head, so a session, account or membership that has ended meanwhile decides
 *   nothing.
 * - No person decides about their own request. That they have a second account cannot be seen here.
 * - An exclusion by an operator outranks an approval.
 */
import {
  type AccessRequest,
  accessMsMax,
  type CardeaEvent,
  type DecideAccessRequest,
  type Projection,
  parseCommandId,
  parseUnixMs,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { MalformedCommandError } from "../fields.ts";
import { type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";
import { iso } from "../time-box.ts";
import {
  accessOfDecision,
  belowRequestLevel,
  isOwnDecider,
  parseDecider,
  refuseDecider,
  sealWords,
  unknownRequest,
  wordsIn,
} from "./request-parts.ts";

export const decideAccessRequest: CommandDefinition<"decideAccessRequest"> = {
  schema(fields) {
    const { decision, until } = fields;
    if (decision !== "approved" && decision !== "denied")
      throw new MalformedCommandError("decision is neither approved nor denied");
    if ((decision === "denied") !== (until === null))
      throw new MalformedCommandError("an approval has an end, and a denial has none");
    return {
      type: "decideAccessRequest",
      requestId: parseCommandId(fields["requestId"]),
      by: parseDecider(fields["by"]),
      decision,
      until: until === null ? null : parseUnixMs(until),
      note: wordsIn(fields, "note"),
    };
  },
  permission: ["authenticate", "operator"],
  isPermitted: (role, { by }) => by.type !== "operator" || role === "operator",
  isOwn: ({ by }, actor) => isOwnDecider(by, actor),
  access: (command, projection) => accessOfDecision(command, projection),
  person: ({ requestId }, projection) => projection.accessRequests.get(requestId)?.userId,
  perform(projection, command, tools) {
    const { requestId, by, decision, until } = command;
    const below = belowRequestLevel(projection);
    if (below !== undefined) return below;
    const request = projection.accessRequests.get(requestId);
    if (request === undefined || by.type === "requester") return unknownRequest;
    const refused =
      refuseDecider(projection, { by, request }, tools) ??
      refuseOwn(command, request) ??
      refuseDecided(request, tools) ??
      (decision === "approved" ? refuseApproval(projection, { request, until }, tools) : undefined);
    if (refused !== undefined) return refused;
    const { userId } = request;
    const { sealed: note, newKeys } = sealWords(command.note, request, tools);
    const decided = { type: "AccessRequestDecided", requestId, userId, decision, until, note } as const;
    return recordChanges([...approvalOf(projection, request, until), decided], { newKeys });
  },
};

function approvalOf(
  projection: Projection,
  { requestId, userId, groupId }: AccessRequest,
  until: DecideAccessRequest["until"],
): readonly CardeaEvent[] {
  if (until === null) return [];
  const earlier = projection.accessRequests.inForce(userId, groupId);
  const replaced: readonly CardeaEvent[] =
    earlier === undefined
      ? []
      : [{ type: "AccessRequestEnded", requestId: earlier.requestId, userId, outcome: "replaced" }];
  return [
    ...replaced,
    { type: "GroupMembersChanged", groupId, source: "request", added: [userId], removed: [], until, requestId },
  ];
}

function refuseOwn({ by }: DecideAccessRequest, { userId }: AccessRequest): Performed | undefined {
  return by.userId === userId
    ? refuseCommand("forbidden", "you cannot decide about your own request: another approver has to")
    : undefined;
}

function refuseDecided(
  { status, expiresAt, until }: AccessRequest,
  { now }: Pick<Tools, "now">,
): Performed | undefined {
  if (status !== "pending") {
    const end = status === "approved" && until !== null ? `, until ${iso(until)}` : "";
    return refuseCommand("conflict", `the request is no longer pending: it is ${status}${end}`);
  }
  return expiresAt > now ? undefined : refuseCommand("conflict", "the request has lapsed: no decision came in time");
}

function refuseApproval(
  projection: Projection,
  { request: { userId, groupId }, until }: Readonly<{ request: AccessRequest; until: DecideAccessRequest["until"] }>,
  { now }: Pick<Tools, "now">,
): Performed | undefined {
  const user = projection.user(userId);
  if (user === undefined) return refuseCommand("not-found", "there is no such user");
  if (user.status === "suspended")
    return refuseCommand("suspended", "the person is suspended: restore them first, or deny the request");
  if (user.status === "erased") return refuseCommand("erased", "the person is erased");
  if (projection.membership(userId, groupId)?.excluded === true)
    return refuseCommand(
      "conflict",
      `an operator has taken the person out of ${groupId}, which an approval does not undo: add them with \`cardea groups add\``,
    );
  if (until === null || until <= now)
    return refuseCommand("invalid", `the end has passed: the leader's clock says ${iso(now)}`);
  if (until > now + accessMsMax) return refuseCommand("invalid", "access is given for at most 90 days");
  return undefined;
}

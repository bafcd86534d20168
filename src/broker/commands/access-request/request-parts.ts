/** What the commands about access requests share: the level, the deciders, sealed words and the end of access. Pure. */
import {
  type AccessDecider,
  type AccessRequest,
  accessRequestStream,
  accessRequestsFrom,
  type CardeaEvent,
  groupStream,
  type Projection,
  parseGroupId,
  parseSessionId,
  parseUserId,
  requestWordsMax,
  type Sealed,
  type SessionId,
  type Stream,
  sealRequestWords,
  sessionStream,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { Access } from "../access.ts";
import { type Fields, fieldsOf, MalformedCommandError, textOf } from "../fields.ts";
import { type NewKey, type Performed, refuseCommand, type Tools } from "../performed.ts";
import { sealerFor } from "../profile-seal.ts";

export function parseDecider(value: unknown): AccessDecider {
  const fields = fieldsOf(value, "by");
  const { type } = fields;
  if (type === "operator") return { type, userId: fields["userId"] === null ? null : parseUserId(fields["userId"]) };
  const own = { userId: parseUserId(fields["userId"]), sessionId: parseSessionId(fields["sessionId"]) };
  if (type === "group") return { type, ...own, groupId: parseGroupId(fields["groupId"]) };
  if (type === "named" || type === "requester") return { type, ...own };
  throw new MalformedCommandError("by is not an operator, an approver or the requester");
}

/** An operator's token has a number sign in its name, and no id of a person has one. */
export function isOwnDecider(by: AccessDecider, actor: string): boolean {
  if (by.type !== "operator") return actor === `user:${by.userId}`;
  return by.userId === null ? /^operator:[^#]*#/.test(actor) : actor === `operator:${by.userId}`;
}

export function wordsIn(fields: Fields, name: string): string {
  const text = textOf(fields, name);
  if (text.length > requestWordsMax)
    throw new MalformedCommandError(`${name} is longer than ${requestWordsMax} characters`);
  return text;
}

export function belowRequestLevel({ level }: Projection): Performed | undefined {
  if (level >= accessRequestsFrom) return undefined;
  return refuseCommand(
    "conflict",
    `the cluster is at level ${level}, and access can be requested from level ${accessRequestsFrom} on: ` +
      "run `cardea cluster finalize` once every process runs this version",
  );
}

/** The streams that deciding about a request reads and writes. */
export function accessOfDecision(
  { requestId, by }: Readonly<{ requestId: AccessRequest["requestId"]; by: AccessDecider }>,
  projection: Projection,
): Access {
  const request = projection.accessRequests.get(requestId);
  const about = request === undefined ? [] : [userStream(request.userId)];
  return {
    reads: [...about, ...streamsOfDecider(by)],
    writes: [accessRequestStream, ...(request === undefined ? [] : [groupStream(request.groupId)])],
  };
}

function streamsOfDecider(by: AccessDecider): readonly Stream[] {
  if (by.type === "operator") return [];
  const own = [userStream(by.userId), sessionStream(by.sessionId)];
  return by.type === "group" ? [...own, groupStream(by.groupId)] : own;
}

/** Why the decider may not, at the head; undefined: they may. */
export function refuseDecider(
  projection: Projection,
  { by, request }: Readonly<{ by: AccessDecider; request: AccessRequest }>,
  { now }: Pick<Tools, "now">,
): Performed | undefined {
  if (by.type === "operator") return undefined;
  if (!isSignedIn(projection, by, now))
    return refuseCommand("forbidden", "your session has ended, or your account is suspended: sign in again");
  if (by.type === "requester" && by.userId !== request.userId)
    return refuseCommand("not-found", "there is no such access request");
  if (by.type === "group" && !projection.groupsOf(by.userId, now).has(by.groupId))
    return refuseCommand("forbidden", "you are no longer a member of a group that decides about this request");
  return undefined;
}

export function isSignedIn(
  projection: Projection,
  { userId, sessionId }: Readonly<{ userId: UserId; sessionId: SessionId }>,
  now: number,
): boolean {
  const found = projection.sessionStatus(sessionId);
  return found.status === "active" && found.session.userId === userId && found.session.expiresAt > now;
}

export const unknownRequest = refuseCommand("not-found", "there is no such access request");

/** What a person wrote, sealed under the key of the person who made the request. */
export function sealWords(
  text: string,
  { requestId, userId }: Pick<AccessRequest, "requestId" | "userId">,
  tools: Tools,
): Readonly<{ sealed: Sealed | null; newKeys: readonly NewKey[] }> {
  if (text.trim() === "") return { sealed: null, newKeys: [] };
  const { person, newKeys } = sealerFor(userId, tools);
  return { sealed: sealRequestWords(text, { requestId, person, nonce: tools.random(12) }), newKeys };
}

/** Ends what an approved request gives, if the membership still comes from it. */
export function accessEnd(
  projection: Projection,
  { requestId, userId, groupId }: AccessRequest,
): readonly CardeaEvent[] {
  if (projection.membership(userId, groupId)?.requested?.requestId !== requestId) return [];
  return [{ type: "GroupMembersChanged", groupId, source: "request", added: [], removed: [userId], requestId }];
}

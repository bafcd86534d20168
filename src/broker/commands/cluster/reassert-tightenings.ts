/**
 * Reassert tightenings: records again the final denials that a process remembers and the log has lost (docs/protocol.md
 * §4.3). Pure.
 *
 * - Each event is its own command, under an id that follows from its hash: a thousand nodes that report it make one
 *   command.
 * - A report is the word of one process, so it only tightens and never destroys a key. A lost erasure returns as a
 *   suspension.
 * - What the surviving log has decided since about the same fact wins: the reassertion is refused, for an operator to
 *   decide.
 */
import {
  type CardeaEvent,
  type CommandRequest,
  isSuspendedUntil,
  type LostTightening,
  type Position,
  type Projection,
  parseEpoch,
  parseHash,
  parsePosition,
  parseStream,
  parseUnixMs,
  parseUserId,
  type ReassertTightenings,
  type SessionId,
  type Stream,
  type UserId,
  uuidOfHash,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { fieldsOf, listIn, MalformedCommandError, textOf } from "../fields.ts";
import { type Changes, nothing, type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";
import { parseUntil } from "../time-box.ts";

const restoredSince = refuseCommand(
  "conflict",
  "the person was restored after the log lost this event: an operator must decide",
);

/** One command per event, under its own id. */
export function reassertionsIn(command: ReassertTightenings): readonly CommandRequest[] {
  const distinct = new Map(command.events.map((event) => [event.link.hash, event]));
  return [...distinct.values()].map((event) => ({
    commandId: uuidOfHash(event.link.hash),
    actor: "system",
    command: { type: "reassertTightenings", events: [event] },
  }));
}

/** True for a command that stands for one event, as `reassertionsIn` makes them. */
export function isReassertion({ commandId, command }: CommandRequest): boolean {
  if (command.type !== "reassertTightenings" || command.events.length !== 1) return false;
  return command.events.every(({ link }) => uuidOfHash(link.hash) === commandId);
}

export const reassertTightenings: CommandDefinition<"reassertTightenings"> = {
  schema: (fields) => ({ type: "reassertTightenings", events: listIn(fields, "events").map(parseLost) }),
  permission: ["proxy", "authorize", "authenticate", "broker"],
  tightens: true,
  access: ({ events }) => ({ reads: [], writes: events.map(({ stream }) => stream) }),
  perform(projection, { events }, tools) {
    const [lost] = events;
    if (lost === undefined) return nothing;
    if (events.length > 1) return refuseCommand("invalid", "each lost event needs a command of its own");
    if (tools.lost.holds(lost.link)) return nothing;
    const { kind, id } = parseStream(lost.stream);
    switch (lost.type) {
      case "SessionRevoked":
        return kind === "session" ? revoked(projection, lost, id) : denied(projection, lost, tools);
      case "UserSessionsRevoked":
      case "UserSuspended":
      case "UserErased":
        return kind === "user" ? ofPerson(projection, { lost, userId: id }, tools) : denied(projection, lost, tools);
      case "DeviceRemoved":
      case "ServiceAccountRevoked":
        return ofCredential(projection, lost, tools);
      default:
        return denied(projection, lost, tools);
    }
  },
};

const streamPattern = /^(session|user|device|service-account|group|configuration|cluster):./;

function parseLost(value: unknown): LostTightening {
  const event = fieldsOf(value, "event");
  const link = fieldsOf(event["link"], "link");
  const stream = textOf(event, "stream");
  if (!streamPattern.test(stream)) throw new MalformedCommandError("unknown stream");
  return {
    link: {
      epoch: parseEpoch(link["epoch"]),
      position: parsePosition(link["position"]),
      hash: parseHash(link["hash"]),
    },
    stream: stream as Stream,
    type: textOf(event, "type"),
    userId: event["userId"] === null ? null : parseUserId(event["userId"]),
    recordedAt: parseUnixMs(event["recordedAt"]),
    ...parseUntil(event),
  };
}

function revoked(projection: Projection, { userId }: LostTightening, sessionId: SessionId): Performed {
  const session = projection.session(sessionId);
  if (projection.sessionStatus(sessionId).status === "revoked") return nothing; // alone, or with all of its person
  const whose = session?.userId ?? userId ?? ("" as UserId);
  return recordChanges([{ type: "SessionRevoked", sessionId, userId: whose, reason: "reasserted" }], {
    vaultRemoved: [sessionId],
  });
}

function ofPerson(
  projection: Projection,
  { lost, userId }: Readonly<{ lost: LostTightening; userId: UserId }>,
  tools: Tools,
): Performed {
  const user = projection.user(userId);
  if (user?.status === "erased") return nothing;
  if (lost.type === "UserErased") {
    // Nothing here proves the erasure, and a destroyed key cannot be restored: suspend the person; an operator erases
    // again.
    if (isSuspendedUntil(user, undefined)) return nothing;
    return recordChanges([{ type: "UserSuspended", userId, reason: "reasserted" }], vaultOf(projection, userId));
  }
  if (lost.type === "UserSessionsRevoked") {
    // An older build hands back the cut itself. It ended what stood before it; positions behind it mean other sessions
    // here.
    const upTo = Math.min(tools.lost.endOfEpoch(lost.link.epoch), lost.link.position - 1) as Position;
    if (user !== undefined && user.sessionsRevokedBelow > upTo) return nothing;
    return recordChanges([{ type: "UserSessionsRevoked", userId, upTo, reason: "reasserted" }]);
  }
  if (tools.lost.restoredAfter(userId, lost.link.epoch)) return restoredSince;
  // One whose end has passed is recorded too: it ended sessions. The sweep lifts it at once.
  const { until } = lost;
  if (isSuspendedUntil(user, until)) return nothing;
  const end = until === undefined ? {} : { until };
  return recordChanges([{ type: "UserSuspended", userId, reason: "reasserted", ...end }], vaultOf(projection, userId));
}

function ofCredential(projection: Projection, lost: LostTightening, tools: Tools): Performed {
  const { kind, id } = parseStream(lost.stream);
  const userId = lost.userId ?? ("" as UserId);
  if (kind === "device" && lost.type === "DeviceRemoved") {
    return projection.device(id)?.removed === true
      ? nothing
      : recordChanges([{ type: "DeviceRemoved", deviceId: id, userId }]);
  }
  if (kind === "service-account" && lost.type === "ServiceAccountRevoked") {
    if (projection.serviceAccount(id)?.revoked === true) return nothing;
    return recordChanges([{ type: "ServiceAccountRevoked", serviceAccountId: id, userId, reason: "reasserted" }]);
  }
  return denied(projection, lost, tools);
}

/** A kind of event that this build does not know: obeyed by its effect, as every copy obeyed it. */
function denied(projection: Projection, { stream, type, link }: LostTightening, tools: Tools): Performed {
  const { kind, id } = parseStream(stream);
  const event: CardeaEvent = { type: "TighteningReasserted", subject: stream, of: type, lost: link.hash };
  if (kind === "session") return projection.session(id)?.status === "revoked" ? nothing : recordChanges([event]);
  if (kind === "device") return projection.device(id)?.removed === true ? nothing : recordChanges([event]);
  if (kind === "service-account")
    return projection.serviceAccount(id)?.revoked === true ? nothing : recordChanges([event]);
  if (kind !== "user") return refuseCommand("invalid", "the event is about no credential: an operator must decide");
  if (tools.lost.restoredAfter(id, link.epoch)) return restoredSince;
  const user = projection.user(id);
  return user?.status === "erased" || isSuspendedUntil(user, undefined) ? nothing : recordChanges([event]);
}

function vaultOf(projection: Projection, userId: UserId): Pick<Changes, "vaultRemoved"> {
  return { vaultRemoved: projection.sessionsOf(userId) };
}

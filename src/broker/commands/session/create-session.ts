/**
 * Create session: a sign-in, under an id that was never used before. Whatever became of an id, it is never created
 * again. Pure.
 */
import {
  type CardeaEvent,
  groupStream,
  logoutsFrom,
  type Projection,
  parsePosition,
  parseSessionId,
  parseUnixMs,
  parseUserId,
  type SessionId,
  sessionStream,
  userStream,
  withKnownReplaced,
} from "../../../events/index.ts";
import { suspensionEnd } from "../cluster/expire-time-boxes.ts";
import type { CommandDefinition, CommandOf } from "../definition.ts";
import {
  type Fields,
  integerOf,
  linkAt,
  parseGroupIds,
  parseProfileFields,
  parseTokenFields,
  textOf,
} from "../fields.ts";
import { recordChanges, refuseCommand, type Tools } from "../performed.ts";
import { openProfile, sameSubject, sealerFor, withKnownName } from "../profile-seal.ts";
import {
  findProvisioned,
  parseProvisionedIds,
  provisionedReads,
  replaceProvisionedGroups,
} from "../provisioned/provisioned-parts.ts";
import { logoutsConcerning, parseProviderSession, refuseLoggedOut } from "./record-logout.ts";
import {
  obtainedNow,
  parseSignalRecords,
  profileUpsert,
  providerGroupsOf,
  refuseDisabled,
  refuseUser,
  replaceGroups,
  reusableSeal,
  vaultEntry,
} from "./session-parts.ts";

const sessionsPerUserMax = 1_000_000;
/** A limit that was lowered far is reached over several sign-ins. */
const revokedAtOnceMax = 256;

export const createSession: CommandDefinition<"createSession"> = {
  schema: (fields) => ({
    type: "createSession",
    sessionId: parseSessionId(fields["sessionId"]),
    userId: parseUserId(fields["userId"]),
    idpId: textOf(fields, "idpId"),
    issuedAt: parseUnixMs(fields["issuedAt"]),
    expiresAt: parseUnixMs(fields["expiresAt"]),
    profile: parseProfileFields(fields["profile"]),
    tokens: parseTokenFields(fields["tokens"]),
    groupIds: parseGroupIds(fields["groupIds"]),
    maxSessionsPerUser: integerOf(fields, "maxSessionsPerUser", { min: 1, max: sessionsPerUserMax }),
    ...parseProvisionedIds(fields),
    ...parseOrigin(fields),
    ...parseSignalRecords(fields),
    ...(fields["keepsName"] === true ? { keepsName: true } : {}),
  }),
  permission: ["authenticate"],
  access(command, projection) {
    const { sessionId, userId, groupIds, maxSessionsPerUser, provisioned, signalRecords } = command;
    const groups = groupIds === null ? [] : [...groupIds, ...providerGroupsOf(projection, userId)].map(groupStream);
    const others = projection.sessionsOf(userId);
    const counted = others.length >= maxSessionsPerUser ? others.map(sessionStream) : [];
    return {
      reads: [
        ...groups,
        ...counted,
        ...provisionedReads(provisioned, userId, projection),
        ...logoutsConcerning(command).map(sessionStream),
        ...(signalRecords ?? []).map(userStream),
      ],
      writes: [sessionStream(sessionId), userStream(userId)],
    };
  },
  person: ({ userId }) => userId,
  perform(projection, command, tools) {
    const { sessionId, userId } = command;
    const user = projection.user(userId);
    const barred = refuseUser(user, tools.now) ?? refuseDisabled(projection, command.signalRecords);
    if (barred !== undefined) return barred;
    const directory = findProvisioned(projection, command.provisioned, tools);
    if (directory.barred !== undefined) return directory.barred;
    const loggedOut = refuseLoggedOut(projection, command, tools);
    if (loggedOut !== undefined) return loggedOut;
    const stream = sessionStream(sessionId);
    if (projection.session(sessionId) !== undefined || tools.versionOf(stream) > 0) {
      return refuseCommand("conflict", "a session with this id exists or has existed");
    }
    if (command.expiresAt <= tools.now) return refuseCommand("invalid", "the session would expire before it begins");
    const sealer = sealerFor(userId, tools);
    const known = openProfile(user?.profile, sealer.person);
    if (known !== undefined && !sameSubject(known, command.profile))
      return refuseCommand("forbidden", "the user id belongs to another person");
    const { idpId, issuedAt, expiresAt, providerSession } = command;
    const named = command.keepsName === true ? withKnownName(command.profile, known) : command.profile;
    const profile = withKnownReplaced(named, known);
    const sealed = reusableSeal(user, known, profile) ?? sealer.seal(profile);
    const events: CardeaEvent[] = [
      ...suspensionEnd(projection, userId, tools.now),
      ...(sealed === user?.profile ? [] : [profileUpsert(userId, sealed)]),
      {
        type: "SessionCreated",
        sessionId,
        userId,
        idpId,
        issuedAt,
        expiresAt,
        profile: sealed,
        ...(providerSession === undefined || projection.level < logoutsFrom ? {} : { providerSession }),
      },
      ...replaceGroups(projection, userId, command.groupIds),
      ...replaceProvisionedGroups(projection, userId, directory.groups),
    ];
    const beyondLimit = sessionsBeyondLimit(projection, command, tools);
    for (const old of beyondLimit)
      events.push({ type: "SessionRevoked", sessionId: old, userId, reason: "session-limit" });
    return recordChanges(events, {
      newKeys: sealer.newKeys,
      vault: [vaultEntry(sessionId, obtainedNow(command.tokens, tools), tools)],
      vaultRemoved: beyondLimit,
    });
  },
};

type Origin = Pick<CommandOf<"createSession">, "providerSession" | "begunAt" | "begunLink">;

function parseOrigin(fields: Fields): Origin {
  const { providerSession, begunAt, begunLink } = fields;
  const parsed = providerSession === undefined ? null : parseProviderSession(providerSession);
  return {
    ...(parsed === null ? {} : { providerSession: parsed }),
    ...(begunAt === undefined ? {} : { begunAt: parsePosition(begunAt) }),
    ...(begunLink === undefined ? {} : { begunLink: linkAt(begunLink, begunAt) }),
  };
}

/** The sessions that make room for a new one, oldest first. */
function sessionsBeyondLimit(projection: Projection, command: CommandOf<"createSession">, tools: Tools): SessionId[] {
  const live: Readonly<{ sessionId: SessionId; createdAt: number }>[] = [];
  for (const id of projection.sessionsOf(command.userId)) {
    const at = projection.sessionStatus(id);
    if (at.status === "active" && at.session.expiresAt > tools.now) live.push(at.session);
  }
  const surplus = live.length + 1 - command.maxSessionsPerUser;
  if (surplus <= 0) return [];
  return live
    .sort((a, b) => a.createdAt - b.createdAt)
    .slice(0, Math.min(surplus, revokedAtOnceMax))
    .map(({ sessionId }) => sessionId);
}

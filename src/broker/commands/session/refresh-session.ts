/**
 * Refresh session: what the identity provider says of the person now. A refresh never revives a session and never
 * changes its person. Pure.
 */
import {
  type CardeaEvent,
  groupStream,
  parseSessionId,
  parseUnixMs,
  sessionStream,
  userStream,
  withKnownReplaced,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { parseGroupIds, parseProfileFields, parseTokenFields, tokenVersionOf } from "../fields.ts";
import { recordChanges, refuseCommand } from "../performed.ts";
import { openProfile, sameSubject, sealerFor, withKnownName } from "../profile-seal.ts";
import {
  findProvisioned,
  parseProvisionedIds,
  provisionedReads,
  replaceProvisionedGroups,
} from "../provisioned/provisioned-parts.ts";
import {
  obtainedNow,
  parseSignalRecords,
  profileUpsert,
  providerGroupsOf,
  refuseDisabled,
  refuseUser,
  replaceGroups,
  reusableSeal,
  tokensChanged,
  vaultEntry,
} from "./session-parts.ts";

export const refreshSession: CommandDefinition<"refreshSession"> = {
  schema: (fields) => ({
    type: "refreshSession",
    sessionId: parseSessionId(fields["sessionId"]),
    profile: parseProfileFields(fields["profile"]),
    tokens: parseTokenFields(fields["tokens"]),
    groupIds: parseGroupIds(fields["groupIds"]),
    refreshedAt: parseUnixMs(fields["refreshedAt"]),
    ...(fields["tokenVersion"] === undefined ? {} : { tokenVersion: tokenVersionOf(fields) }),
    ...parseProvisionedIds(fields),
    ...parseSignalRecords(fields),
    ...(fields["keepsName"] === true ? { keepsName: true } : {}),
  }),
  permission: ["authenticate", "duty"],
  access({ sessionId, groupIds, provisioned, signalRecords }, projection) {
    const userId = projection.session(sessionId)?.userId ?? undefined;
    if (userId === undefined) return { reads: [], writes: [sessionStream(sessionId)] };
    const held = groupIds === null ? [] : providerGroupsOf(projection, userId);
    return {
      reads: [
        ...[...(groupIds ?? []), ...held].map(groupStream),
        ...provisionedReads(provisioned, userId, projection),
        ...(signalRecords ?? []).map(userStream),
      ],
      writes: [sessionStream(sessionId), userStream(userId)],
    };
  },
  person: ({ sessionId }, projection) => projection.session(sessionId)?.userId ?? undefined,
  perform(projection, command, tools) {
    const { sessionId, refreshedAt } = command;
    const session = projection.session(sessionId);
    if (session === undefined) return refuseCommand("not-found", "there is no such session");
    if (session.status === "revoked") return refuseCommand("conflict", "the session is revoked");
    const { userId } = session;
    const barred = refuseUser(projection.user(userId), tools.now) ?? refuseDisabled(projection, command.signalRecords);
    if (barred !== undefined) return barred;
    const directory = findProvisioned(projection, command.provisioned, tools);
    if (directory.barred !== undefined) return directory.barred;
    if (projection.sessionStatus(sessionId).status !== "active")
      return refuseCommand("conflict", "the session is revoked");
    if (session.expiresAt <= tools.now) return refuseCommand("conflict", "the session has expired");
    if (command.tokenVersion !== undefined && tools.versionOf(sessionStream(sessionId)) !== command.tokenVersion)
      return refuseCommand("conflict", tokensChanged);
    const sealer = sealerFor(userId, tools);
    const before = openProfile(session.profile, sealer.person);
    if (before !== undefined && !sameSubject(before, command.profile)) {
      return refuseCommand("forbidden", "the identity provider answered for another person");
    }
    const user = projection.user(userId);
    const known = openProfile(user?.profile, sealer.person);
    const named = command.keepsName === true ? withKnownName(command.profile, known) : command.profile;
    const profile = withKnownReplaced(named, known);
    const sealed = reusableSeal(user, known, profile) ?? sealer.seal(profile);
    const events: CardeaEvent[] = [
      { type: "SessionRefreshed", sessionId, userId, profile: sealed, refreshedAt },
      ...(sealed === user?.profile ? [] : [profileUpsert(userId, sealed)]),
      ...replaceGroups(projection, userId, command.groupIds),
      ...replaceProvisionedGroups(projection, userId, directory.groups),
    ];
    return recordChanges(events, {
      newKeys: sealer.newKeys,
      vault: [vaultEntry(sessionId, obtainedNow(command.tokens, tools), tools)],
    });
  },
};

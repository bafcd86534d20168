/**
 * Correlate user: gives a person who signed in before a SCIM client or a directory named them what it says: groups, and
 * the end of access. A sign-in and a refresh do the same by themselves. Pure.
 */
import { parseUserId, provisionedFrom, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { MalformedCommandError } from "../fields.ts";
import { recordChanges } from "../performed.ts";
import { erasedUser, unknownUser } from "../user/refusals.ts";
import {
  findProvisioned,
  parseProvisionedIds,
  provisionedReads,
  replaceProvisionedGroups,
} from "./provisioned-parts.ts";
import { belowLevel, endSessions } from "./write-provisioned-user.ts";

export const correlateUser: CommandDefinition<"correlateUser"> = {
  schema(fields) {
    const { provisioned } = parseProvisionedIds(fields);
    if (provisioned === undefined) throw new MalformedCommandError("provisioned is missing");
    return { type: "correlateUser", userId: parseUserId(fields["userId"]), provisioned };
  },
  permission: ["authenticate"],
  access: ({ userId, provisioned }, projection) => ({
    reads: provisionedReads(provisioned, userId, projection),
    writes: [userStream(userId)],
  }),
  perform(projection, { userId, provisioned }, tools) {
    if (projection.level < provisionedFrom) return belowLevel(projection.level, "");
    const user = projection.user(userId);
    if (user === undefined) return unknownUser;
    if (user.status === "erased") return erasedUser;
    const { barred, groups } = findProvisioned(projection, provisioned, tools);
    const ended = barred === undefined ? [] : endSessions(projection, userId);
    return recordChanges([...ended, ...replaceProvisionedGroups(projection, userId, groups)], {
      vaultRemoved: ended.length === 0 ? [] : projection.sessionsOf(userId),
    });
  },
};

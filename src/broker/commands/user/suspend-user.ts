/** Suspend user: bars a person from signing in, and ends all sessions. Pure. */
import { isSuspendedUntil, parseUserId, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { MalformedCommandError, textOf } from "../fields.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";
import { iso, parseUntil, refuseEnd, timeBoxReasonMax, timeBoxStream } from "../time-box.ts";
import { erasedUser, unknownUser } from "./refusals.ts";

export const suspendUser: CommandDefinition<"suspendUser"> = {
  schema: (fields) => {
    const [reason, end] = [textOf(fields, "reason"), parseUntil(fields)];
    if (end.until !== undefined && reason.length > timeBoxReasonMax)
      throw new MalformedCommandError(`reason is longer than ${timeBoxReasonMax} characters`);
    return { type: "suspendUser", userId: parseUserId(fields["userId"]), reason, ...end };
  },
  permission: ["operator"],
  tightens: true,
  access: ({ userId, until }) => ({
    reads: [],
    writes: [userStream(userId), ...(until === undefined ? [] : [timeBoxStream])],
  }),
  perform(projection, { userId, reason, until }, { now }) {
    const user = projection.user(userId);
    if (user === undefined) return unknownUser;
    if (user.status === "erased") return erasedUser;
    const added = user.suspension === undefined ? 1 : 0;
    const refusal = until === undefined ? undefined : refuseEnd(projection, { until, now, added });
    if (refusal !== undefined) return refusal;
    if (isSuspendedUntil(user, until)) {
      const stands = user.suspension?.until;
      if (stands === until) return nothing;
      // An earlier end would lift the suspension early, and only an explicit restore does that.
      const end = stands === undefined ? "without an end" : `until ${iso(stands)}`;
      return refuseCommand("conflict", `the user is suspended ${end} already; restore the user to end that earlier`);
    }
    const end = until === undefined ? {} : { until };
    return recordChanges([{ type: "UserSuspended", userId, reason, ...end }], {
      vaultRemoved: projection.sessionsOf(userId),
    });
  },
};

/**
 * Merge revocation: records what a region revoked by itself while it was cut off (docs/protocol.md §6.4, ADR 0039: a
 * cut-off region revokes locally). Pure.
 *
 * - It only tightens. The caller has checked the signature of the broker that accepted it.
 * - Sessions that have ended since are skipped: the log denies them already.
 * - A suspension is always recorded, even over a suspension, so that its command id is in the log and a repetition
 *   cannot suspend the person again after a later restore. It wins over a restore made while the region was cut off.
 * - A suspension whose command id the log may have forgotten is recorded only if the state shows that it never was: the
 *   person's sessions were not cut since its basis, and each suspension cuts them.
 */
import {
  type CardeaEvent,
  type MergeRevocation,
  newUser,
  type Projection,
  sessionStream,
  userStream,
} from "../../../events/index.ts";
import { type LocalRevocation, revocationIn } from "../../../replication/wire/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { MalformedCommandError } from "../fields.ts";
import { nothing, type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";

/** An hour less than the log keeps command ids (replication/log/log-rules.ts). */
const suspensionMsMax = 23 * 60 * 60 * 1_000;

export const mergeRevocation: CommandDefinition<"mergeRevocation"> = {
  schema: (fields) => ({ type: "mergeRevocation", envelope: envelopeOf(fields["envelope"]) }),
  permission: ["broker", "proxy", "authorize", "authenticate"],
  tightens: true,
  access: ({ envelope }) => {
    const { userId, command, sessionIds } = revocationIn(envelope);
    return {
      reads: [],
      writes: command === "suspendUser" && userId ? [userStream(userId)] : sessionIds.map(sessionStream),
    };
  },
  perform(projection, { envelope }: MergeRevocation, tools) {
    const revocation = revocationIn(envelope);
    return revocation.command === "suspendUser"
      ? suspended(projection, revocation, tools)
      : revoked(projection, revocation);
  },
};

function revoked(projection: Projection, { sessionIds }: LocalRevocation): Performed {
  const events: CardeaEvent[] = [];
  for (const sessionId of sessionIds) {
    const at = projection.sessionStatus(sessionId);
    if (at.status !== "active") continue;
    events.push({ type: "SessionRevoked", sessionId, userId: at.session.userId, reason: "operator" });
  }
  return recordChanges(events, { vaultRemoved: sessionIds });
}

function suspended(projection: Projection, revocation: LocalRevocation, { now, lost }: SuspensionTools): Performed {
  const { userId, reason, acceptedAt, basis } = revocation;
  if (userId === null) return refuseCommand("invalid", "the suspension names no person");
  const { status, sessionsRevokedBelow } = projection.user(userId) ?? newUser(userId);
  if (status === "erased") return nothing;
  const mayBeForgotten = now - acceptedAt > suspensionMsMax;
  const mayBeLifted = status === "active" && (sessionsRevokedBelow > basis.position || lost.lacks(basis));
  if (mayBeForgotten && mayBeLifted) return undecidable;
  return recordChanges([{ type: "UserSuspended", userId, reason }], { vaultRemoved: projection.sessionsOf(userId) });
}

type SuspensionTools = Pick<Tools, "now" | "lost">;

const undecidable = refuseCommand(
  "invalid",
  "this suspension is over 23 hours old, and the log has cut the person's sessions since: it may have been recorded and lifted. Suspend the person to end it; restore the person when the region has reported that the log has it",
);

/** The shape is checked here; the signature where the command arrives. */
function envelopeOf(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new MalformedCommandError("envelope is not bytes");
  revocationIn(value);
  return value;
}

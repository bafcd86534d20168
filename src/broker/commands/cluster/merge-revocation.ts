/**
 * Merge revocation: records what a region revoked by itself while it was cut off (docs/protocol.md §6.4, ADR 0039: a
 * cut-off region revokes locally). Pure.
 *
 * - It only tightens. The caller has checked the signature of the broker that accepted it.
 * - Sessions that have ended since are skipped: the log denies them already.
 * - A suspension is always recorded, even over a suspension, so that its command id is in the log and a repetition
 *   cannot suspend the person again after a later restore. It wins over a restore made while the region was cut off.
 * - A suspension so old that the log may have forgotten its command id is recorded no more.
 */
import {
  type CardeaEvent,
  type MergeRevocation,
  type Projection,
  sessionStream,
  userStream,
} from "../../../events/index.ts";
import { type LocalRevocation, revocationIn } from "../../../replication/wire/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { MalformedCommandError } from "../fields.ts";
import { nothing, type Performed, recordChanges, refuseCommand } from "../performed.ts";

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
  perform(projection, { envelope }: MergeRevocation, { now }) {
    const revocation = revocationIn(envelope);
    return revocation.command === "suspendUser"
      ? suspended(projection, revocation, now - revocation.acceptedAt)
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

function suspended(projection: Projection, { userId, reason }: LocalRevocation, ageMs: number): Performed {
  if (userId === null) return refuseCommand("invalid", "the suspension names no person");
  const status = projection.user(userId)?.status ?? "active";
  if (status === "erased") return nothing;
  if (ageMs > suspensionMsMax) return status === "suspended" ? nothing : tooOld;
  return recordChanges([{ type: "UserSuspended", userId, reason }], { vaultRemoved: projection.sessionsOf(userId) });
}

const tooOld = refuseCommand(
  "invalid",
  "this suspension was accepted so long ago that it may have been recorded and lifted since: an operator must decide",
);

/** The shape is checked here; the signature where the command arrives. */
function envelopeOf(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new MalformedCommandError("envelope is not bytes");
  revocationIn(value);
  return value;
}

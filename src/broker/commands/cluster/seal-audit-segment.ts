/**
 * Seal audit segment: records the root of a boot's audit records (docs/adr/0057). Pure.
 *
 * - The broker at which the command arrived has checked the signatures.
 * - A seal must continue the boot's previous one: same size and root. So a boot has one history in the log, whatever is
 *   sent twice, late, or by another process.
 * - A boot that the projection does not know begins at 0, unless the projection has forgotten boots.
 */
import {
  type AuditSealHead,
  auditSealCodesFrom,
  auditSealHeadsMax,
  auditSealsFrom,
  auditStream,
  emptyRoot,
  type Hash,
  type SealAuditSegment,
} from "../../../events/index.ts";
import { readAuditSeal } from "../../../replication/wire/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { MalformedCommandError } from "../fields.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";

export const sealAuditSegment: CommandDefinition<"sealAuditSegment"> = {
  schema: (fields) => ({ type: "sealAuditSegment", envelope: envelopeOf(fields["envelope"]) }),
  permission: ["proxy", "authorize", "authenticate"],
  access: () => ({ reads: [], writes: [auditStream] }),
  perform(projection, { envelope }: SealAuditSegment) {
    const { level, auditSeals } = projection;
    if (level < auditSealsFrom)
      return refuseCommand(
        "conflict",
        `the cluster is at level ${level}, and seals of audit records need level ${auditSealsFrom}: run cardea cluster finalize`,
      );
    const { node, boot, previous, size, root: rootBytes, final, code } = readAuditSeal(envelope);
    if (code !== null && level < auditSealCodesFrom)
      return refuseCommand(
        "conflict",
        `the cluster is at level ${level}, and seals of version 2 need level ${auditSealCodesFrom}: run cardea cluster finalize`,
      );
    const root = rootBytes.toString("hex") as Hash;
    const head = auditSeals.head(node, boot);
    if (head?.last === size && head.root === root && (head.final || !final)) return nothing; // a repetition
    if (head?.final === true) return refuseCommand("conflict", `${boot} of ${node} has ended: its seals are final`);
    const mayBeForgotten = head === undefined && auditSeals.count >= auditSealHeadsMax;
    if (!mayBeForgotten && !continues(head, previous))
      return refuseCommand(
        "conflict",
        `the records of ${boot} of ${node} are sealed up to ${head?.last ?? 0}, and this seal continues another history`,
      );
    const event = { type: "AuditSegmentSealed", nodeId: node, bootId: boot, first: previous.size + 1 } as const;
    return recordChanges([{ ...event, last: size, root, ...(final ? { final } : {}), seal: envelope }]);
  },
};

function continues(head: AuditSealHead | undefined, { size, root }: Readonly<{ size: number; root: Buffer }>): boolean {
  if (head === undefined) return size === 0 && root.equals(emptyRoot);
  return head.last === size && head.root === root.toString("hex");
}

/** The shape is checked here; the signatures where the command arrives. */
function envelopeOf(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new MalformedCommandError("envelope is not bytes");
  readAuditSeal(value);
  return value;
}

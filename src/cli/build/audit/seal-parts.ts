/** Seals of audit records: signed with the node's key, and sent to the leader as commands. */
import type { SealPort, SubmittedSeal } from "../../../audit/index.ts";
import { auditSealCodesFrom, auditSealsFrom, commandIdOfEnvelope, type NodeId } from "../../../events/index.ts";
import type { Databroker, Logger } from "../../../replication/index.ts";
import type { ReplicaProcess } from "../../../replication/node/index.ts";
import { systemClock } from "../../../replication/runtime/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";

export function sealPortOf(
  parts: Readonly<{
    node: NodeId;
    replica: Pick<ReplicaProcess, "projection" | "overdueMs" | "sealAudit">;
    databroker: Pick<Databroker, "submit">;
    logger: Logger;
  }>,
): SealPort {
  const { node, replica, databroker, logger } = parts;
  return {
    sign: (payload) => replica.sealAudit(payload),
    headOf(boot) {
      const head = replica.projection.auditSeals.head(node, boot);
      return head && { size: head.last, root: Buffer.from(head.root, "hex"), final: head.final };
    },
    isCoded: () => replica.projection.level >= auditSealCodesFrom,
    isReady: () => replica.projection.level >= auditSealsFrom && replica.overdueMs(systemClock.monotonic()) <= 0,
    async submit(envelope): Promise<SubmittedSeal> {
      const commandId = commandIdOfEnvelope(envelope);
      const command = { type: "sealAuditSegment", envelope } as const;
      try {
        const result = await databroker.submit({ commandId, actor: "system", command });
        if (result.type !== "refused") return result.type;
        logger.warn({ code: result.code }, `the log does not accept a seal of audit records now: ${result.message}`);
        return "refused";
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError))
          logger.error({ err: error }, "could not send a seal of audit records; trying again");
        return "unavailable";
      }
    },
  };
}

/**
 * Seal check: what every broker at which a seal of audit records arrives checks before the leader records it: its size,
 * its signatures, and that a process of the node that it names has signed it. Pure.
 */
import { type CommandRequest, commandIdOfEnvelope } from "../../events/index.ts";
import { type EnvelopeOpener, openAuditSeal } from "../../replication/wire/index.ts";

/** @returns why the command is refused; undefined: it may be submitted, or is another command */
export type SealCheck = (request: CommandRequest) => string | undefined;

export function createSealCheck(open: EnvelopeOpener): SealCheck {
  return ({ commandId, command }) => {
    if (command.type !== "sealAuditSegment") return undefined;
    const seal = openAuditSeal(command.envelope, open);
    if (typeof seal === "string") return `the seal is not authentic: ${seal}`;
    return commandIdOfEnvelope(command.envelope) === commandId ? undefined : "the seal has another command id";
  };
}

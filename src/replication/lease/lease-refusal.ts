/**
 * Lease refusal: a leader has heard a node and will not grant it a lease. Some of its reasons call for an act of the node.
 */
import { CodedError } from "../../events/index.ts";

/**
 * The words for a node whose projection differs at the same link: it has to build a new one (docs/protocol.md §5.2).
 */
export const digestMismatch = "its projection differs from the leader's at the same place";

const tooOldPattern = /^the cluster has finalized level \d+, and this build reads level \d+/;

/** The words for a node whose build cannot read what may be written now. */
export function tooOld(of: Readonly<{ finalized: number; reads: number }>): string {
  return `the cluster has finalized level ${of.finalized}, and this build reads level ${of.reads}: start a newer one`;
}

const tooManyPattern = /^too many nodes\b/;

/** The words for a node that would exceed the number of nodes that an operator admits in its role. */
export function tooManyNodes(of: Readonly<{ role: string; nodesMax: number }>): string {
  return (
    `too many nodes: ${of.nodesMax} in the role ${of.role} hold a lease. ` +
    `To admit more, raise broker.max_nodes.${of.role} on every broker`
  );
}

export function saysTooManyNodes(reason: string): boolean {
  return tooManyPattern.test(reason);
}

const ofTheMoment: ReadonlySet<string> = new Set(["repeated", "too many renews are waiting"]);

/** Whether a refusal says something of the boot that was refused, and not of this one message, or of a leader with too much to do. */
export function saysOfTheBoot(reason: string): boolean {
  return !ofTheMoment.has(reason) && !saysTooManyNodes(reason);
}

export function saysTooOld(reason: string): boolean {
  return tooOldPattern.test(reason);
}

/** Asking again with the same will not help. */
export class LeaseRefusedError extends CodedError<"ERR_REPLICATION_LEASE_REFUSED"> {
  override readonly code = "ERR_REPLICATION_LEASE_REFUSED";
  readonly reason: string;
  constructor(reason: string, options?: ErrorOptions) {
    super(`no lease: ${reason}`, options);
    this.reason = reason;
  }
}

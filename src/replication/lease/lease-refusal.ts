/**
 * Lease refusal: a leader has heard a node and will not grant it a lease. Some of its reasons call for an act of the node.
 */

/** The words for a node whose projection differs at the same link: it has to build a new one (ARCHITECTURE §4). */
export const digestMismatch = "its projection differs from the leader's at the same place";

const tooOldPattern = /^the cluster has finalized level \d+, and this build reads level \d+/;

/** The words for a node whose build cannot read what may be written now. */
export function tooOld(of: Readonly<{ finalized: number; reads: number }>): string {
  return `the cluster has finalized level ${of.finalized}, and this build reads level ${of.reads}: start a newer one`;
}

const ofTheMoment: ReadonlySet<string> = new Set(["repeated", "too many nodes", "too many renews are waiting"]);

/** Whether a refusal says something of the boot that was refused, and not of this one message, or of a leader with too much to do. */
export function saysOfTheBoot(reason: string): boolean {
  return !ofTheMoment.has(reason);
}

export function saysTooOld(reason: string): boolean {
  return tooOldPattern.test(reason);
}

/** Asking again with the same will not help. */
export class LeaseRefusedError extends Error {
  readonly code = "ERR_REPLICATION_LEASE_REFUSED";
  readonly reason: string;
  constructor(reason: string, options?: ErrorOptions) {
    super(`no lease: ${reason}`, options);
    this.name = "LeaseRefusedError";
    this.reason = reason;
  }
}

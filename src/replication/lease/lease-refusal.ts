/**
 * Lease refusal: why a broker grants a node no lease, as a code for programs and a sentence for people.
 *
 * - A node acts on two codes: `digest-mismatch` (it rebuilds its projection) and `level-too-old` (it permits nothing).
 * - The sentence never decides anything.
 */
import { CodedError } from "../../events/index.ts";

export type LeaseRefusalCode =
  /** The projection differs from the leader's at the same link (docs/protocol.md §5.2). */
  | "digest-mismatch"
  /** The build cannot read the level that the cluster has finalized. */
  | "level-too-old"
  /** The broker has handled this message, or a newer one, before. */
  | "repeated"
  /** As many nodes hold a lease, or as many renews are queued, as the broker admits. */
  | "too-many"
  /** The boot has said goodbye or was replaced. */
  | "left"
  /** The node's monotonic clock runs at another rate. */
  | "clock-drift"
  /** The message is not signed by the node that it names. */
  | "not-authentic"
  /** The nodes of this region get leases only through its own brokers. Another broker may grant one. */
  | "past-region"
  | "other";

export type LeaseRefusal = Readonly<{ code: LeaseRefusalCode; message: string }>;

export const digestMismatch: LeaseRefusal = {
  code: "digest-mismatch",
  message: "its projection differs from the leader's at the same place",
};

export const repeatedMessage: LeaseRefusal = { code: "repeated", message: "repeated" };

export const bootHasLeft: LeaseRefusal = { code: "left", message: "this boot has left" };

export const tooManyRenews: LeaseRefusal = { code: "too-many", message: "too many renews are waiting" };

export function levelTooOld({ finalized, reads }: Readonly<{ finalized: number; reads: number }>): LeaseRefusal {
  const message = `the cluster has finalized level ${finalized}, and this build reads level ${reads}: start a newer one`;
  return { code: "level-too-old", message };
}

/** @param of.broker a broker of the region that may revoke by itself, or holds revocations that the log lacks */
export function pastRegion({ region, broker }: Readonly<{ region: string; broker: string }>): LeaseRefusal {
  const message = `nodes of region ${region} get leases through its own brokers, such as ${broker}: name them in broker.urls`;
  return { code: "past-region", message };
}

/** One more node would exceed the number that an operator admits in its role. */
export function tooManyNodes({ role, nodesMax }: Readonly<{ role: string; nodesMax: number }>): LeaseRefusal {
  const message =
    `too many nodes: ${nodesMax} in the role ${role} hold a lease. ` +
    `To admit more, raise broker.max_nodes.${role} on every broker`;
  return { code: "too-many", message };
}

/** Whether a refusal concerns the boot itself, and not only this one message or a leader that is overloaded. */
export function concernsBoot({ code }: LeaseRefusal): boolean {
  return code !== "repeated" && code !== "too-many";
}

/** A broker grants no lease. Sending the same renew again does not help. */
export class LeaseRefusedError extends CodedError<"ERR_REPLICATION_LEASE_REFUSED"> {
  override readonly code = "ERR_REPLICATION_LEASE_REFUSED";
  readonly refusal: LeaseRefusal;
  constructor(refusal: LeaseRefusal, options?: ErrorOptions) {
    super(`no lease: ${refusal.message}`, options);
    this.refusal = refusal;
  }
}

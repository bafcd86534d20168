/** The leader rejected a lease message: the node gets no lease. */
import { CodedError } from "../../events/index.ts";
import type { LeaseRefusal } from "../../replication/lease/index.ts";

export class LeaseMessageRejectedError extends CodedError<"ERR_BROKER_LEASE_REFUSED"> {
  override readonly code = "ERR_BROKER_LEASE_REFUSED";
  readonly refusal: LeaseRefusal;
  constructor(refusal: LeaseRefusal, options?: ErrorOptions) {
    super(`no lease: ${refusal.message}`, options);
    this.refusal = refusal;
  }
}

/** A node that asked for a lease gets none. */
import { CodedError } from "../../events/index.ts";

export class LeaseMessageRejectedError extends CodedError<"ERR_BROKER_LEASE_REFUSED"> {
  override readonly code = "ERR_BROKER_LEASE_REFUSED";
  readonly reason: string;
  constructor(reason: string, options?: ErrorOptions) {
    super(`no lease: ${reason}`, options);
    this.reason = reason;
  }
}

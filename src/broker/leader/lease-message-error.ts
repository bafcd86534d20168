/** A node that asked for a lease gets none. */

export class LeaseMessageRejectedError extends Error {
  readonly code = "ERR_BROKER_LEASE_REFUSED";
  readonly reason: string;
  constructor(reason: string, options?: ErrorOptions) {
    super(`no lease: ${reason}`, options);
    this.name = "LeaseMessageRejectedError";
    this.reason = reason;
  }
}

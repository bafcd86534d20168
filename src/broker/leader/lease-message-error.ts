/** A node that asked for a lease gets none. */

export class LeaseRefusedError extends Error {
  readonly code = "ERR_BROKER_LEASE_REFUSED";
  readonly reason: string;
  constructor(reason: string, options?: ErrorOptions) {
    super(`no lease: ${reason}`, options);
    this.name = "LeaseRefusedError";
    this.reason = reason;
  }
}

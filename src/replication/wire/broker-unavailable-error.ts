import { CodedError } from "../../events/index.ts";

/** No broker answered, or none leads. Safe to retry. */
export class BrokerUnavailableError extends CodedError<"ERR_REPLICATION_BROKER_UNAVAILABLE"> {
  override readonly code = "ERR_REPLICATION_BROKER_UNAVAILABLE";
}

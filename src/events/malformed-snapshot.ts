import { CodedError } from "./coded-error.ts";

/** What is read is not a snapshot, or not one that this build can read. Nothing of it was taken. */
export class MalformedSnapshotError extends CodedError<"ERR_EVENTS_MALFORMED_SNAPSHOT"> {
  override readonly code = "ERR_EVENTS_MALFORMED_SNAPSHOT";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed snapshot: ${problem}`, options);
  }
}

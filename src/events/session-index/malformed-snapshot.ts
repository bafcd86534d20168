import { CodedError } from "../coded-error.ts";

/** The bytes are not a snapshot, or not one that this build can read. Nothing of them was loaded. */
export class MalformedSnapshotError extends CodedError<"ERR_EVENTS_MALFORMED_SNAPSHOT"> {
  override readonly code = "ERR_EVENTS_MALFORMED_SNAPSHOT";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed snapshot: ${problem}`, options);
  }
}

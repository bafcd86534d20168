import { CodedError } from "./coded-error.ts";

/** The bytes are not an event, or not a value that an event may hold. */
export class MalformedEventError extends CodedError<"ERR_EVENTS_MALFORMED"> {
  override readonly code = "ERR_EVENTS_MALFORMED";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed event: ${problem}`, options);
  }
}

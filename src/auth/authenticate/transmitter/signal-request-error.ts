/** Signal request error: a refusal of the stream management API or of the poll endpoint. Pure. */
import { CodedError } from "../../../events/index.ts";

export type SignalRequestErrorName =
  | "invalid_request"
  | "invalid_token"
  | "insufficient_scope"
  | "invalid_client"
  | "invalid_scope"
  | "unsupported_grant_type"
  | "access_denied"
  | "not_found"
  | "conflict"
  | "payload_too_large"
  | "too_many_requests"
  | "temporarily_unavailable";

const statuses: Readonly<Record<SignalRequestErrorName, number>> = {
  invalid_request: 400,
  invalid_token: 401,
  insufficient_scope: 403,
  invalid_client: 401,
  invalid_scope: 400,
  unsupported_grant_type: 400,
  access_denied: 403,
  not_found: 404,
  conflict: 409,
  payload_too_large: 413,
  too_many_requests: 429,
  temporarily_unavailable: 503,
};

export class SignalRequestError extends CodedError<"ERR_AUTH_SIGNAL_TRANSMITTER"> {
  override readonly code = "ERR_AUTH_SIGNAL_TRANSMITTER";
  readonly error: SignalRequestErrorName;
  /** Seconds; null: none is named. */
  readonly retryAfterS: number | null;
  constructor(
    error: SignalRequestErrorName,
    message: string,
    options: ErrorOptions & Readonly<{ retryAfterS?: number }> = {},
  ) {
    super(message, options);
    this.error = error;
    this.retryAfterS = options.retryAfterS ?? null;
  }

  get status(): number {
    return statuses[this.error];
  }
}

export const badRequest = (message: string): SignalRequestError => new SignalRequestError("invalid_request", message);
export const noStream = (): SignalRequestError => new SignalRequestError("not_found", "there is no such stream");
export const unavailable = (message: string): SignalRequestError =>
  new SignalRequestError("temporarily_unavailable", message, { retryAfterS: 1 });

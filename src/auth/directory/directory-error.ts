import { CodedError } from "../../events/index.ts";

/**
 * - `limited`: the directory wants fewer requests; `retryAfterMs` says for how long.
 * - `unreachable`: no answer in time, a broken connection, or a 5xx. A later attempt may succeed.
 * - `unauthorized`: the directory refuses our credentials. `forbidden`: they lack a permission.
 * - `malformed`: the answer was cut, is no JSON, lacks what the source needs, or is too large.
 * - `deltaExpired`: the directory no longer has the changes since the earlier run, or no longer knows the cursor.
 */
export type DirectoryErrorKind =
  | "limited"
  | "unreachable"
  | "unauthorized"
  | "forbidden"
  | "malformed"
  | "deltaExpired";

/** DirectoryError: a directory could not be read. The message names no person, credential or query. Pure. */
export class DirectoryError extends CodedError<"ERR_AUTH_DIRECTORY"> {
  override readonly code = "ERR_AUTH_DIRECTORY";
  readonly kind: DirectoryErrorKind;
  /** How long to wait; null: the directory did not say, or the kind is not `limited`. */
  readonly retryAfterMs: number | null;
  constructor(message: string, facts: ErrorOptions & Readonly<{ kind: DirectoryErrorKind; retryAfterMs?: number }>) {
    super(message, facts);
    this.kind = facts.kind;
    this.retryAfterMs = facts.retryAfterMs ?? null;
  }
}

import { CodedError, type CommandOutcome, type UnavailableCode } from "../../events/index.ts";

export type UnansweredReason =
  /** A broker has answered, but no broker leads at present, or the leader did not answer in time: try again soon. */
  | "no-leader"
  /** No broker has answered: try again soon. */
  | "no-answer"
  /** A call for the home region was answered only by a broker of another region. */
  | "not-home"
  | UnavailableCode;

/** No broker answered, or none leads. Safe to retry; `reason` says whether a retry may soon succeed. */
export class BrokerUnavailableError extends CodedError<"ERR_REPLICATION_BROKER_UNAVAILABLE"> {
  override readonly code = "ERR_REPLICATION_BROKER_UNAVAILABLE";
  readonly reason: UnansweredReason;
  /** `none`: no broker that could act on the call has received it. */
  readonly outcome: CommandOutcome;

  constructor(
    message: string,
    options: ErrorOptions & Readonly<{ reason?: UnansweredReason; outcome?: CommandOutcome }> = {},
  ) {
    const { reason = "no-leader", outcome = "unknown", ...cause } = options;
    super(message, cause);
    this.reason = reason;
    this.outcome = outcome;
  }
}

import { CodedError } from "../../../events/index.ts";

/**
 * ProviderError: the identity provider refused, could not be reached, or said something that does not check out. Pure.
 */
export class ProviderError extends CodedError<"ERR_AUTH_PROVIDER"> {
  override readonly code = "ERR_AUTH_PROVIDER";
  /**
   * `silent`: it did not answer, or not in a way that is an answer. `refused`: it said no, in a word of OAuth
   * (`error`).
   * `untrue`: its answer does not check out (signature, issuer, audience, nonce, subject).
   */
  readonly kind: "silent" | "refused" | "untrue";
  /** The provider's own error word (`access_denied`, `invalid_grant` …); "" unless it refused. */
  readonly error: string;
  readonly errorDescription: string;
  constructor(
    message: string,
    facts: Readonly<{ kind: ProviderError["kind"]; error?: string; errorDescription?: string }>,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.kind = facts.kind;
    this.error = facts.error ?? "";
    this.errorDescription = (facts.errorDescription ?? "").slice(0, 300);
  }
}

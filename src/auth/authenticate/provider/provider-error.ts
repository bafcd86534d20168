import { CodedError } from "../../../events/index.ts";

/** ProviderError: a refusal by the identity provider, a failure to reach it, or an invalid response. Pure. */
export class ProviderError extends CodedError<"ERR_AUTH_PROVIDER"> {
  override readonly code = "ERR_AUTH_PROVIDER";
  /**
   * `silent`: no response, or not a usable one. `refused`: an OAuth error (`error`).
   * `untrue`: the response failed verification (signature, issuer, audience, nonce, subject).
   */
  readonly kind: "silent" | "refused" | "untrue";
  /** The provider's error code (`access_denied`, `invalid_grant` …); "" unless it refused. */
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

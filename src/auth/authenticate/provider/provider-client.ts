/**
 * Provider client: our client at one identity provider, whatever protocol it speaks. OpenID Connect (oidc-client.ts),
 * GitHub (github-client.ts).
 */
import type { Fact, Profile, ProviderTokens } from "../../../events/index.ts";
import type { VerifiedToken } from "../credentials/issuers.ts";
import type { LogoutToken } from "./logout-token.ts";
import type { ProviderError } from "./provider-error.ts";
import type { ProviderStatus } from "./provider-health.ts";

export type SignInSecrets = Readonly<{ nonce: string; verifier: string }>;

export type ProviderIdentity = Readonly<{ profile: Profile; tokens: ProviderTokens }>;

/** Outcome of one presentation of a refresh token. */
export type RefreshOutcome =
  /**
   * Keep these tokens whatever else fails: the old refresh token may be used up. `problem`: the response's ID token
   * failed verification; null: it did not.
   */
  | Fact<"tokens", { tokens: ProviderTokens; problem: ProviderError | null }>
  /** The request was not sent, or the provider refused it before it checked the token. */
  | Fact<"not-used", { error: ProviderError }>
  | Fact<"refused", { error: ProviderError }>
  | Fact<"unknown", { error: ProviderError }>;

export type ProviderDescription = Readonly<{
  profile: Profile;
  /** Whether the claim is from the current userinfo. Other claims are as old as the ID token. */
  isFromUserinfo(claim: string): boolean;
}>;

export type ProviderClient = Readonly<{
  /** Whether the provider answers, by the last requests to it. */
  status(): ProviderStatus;
  /**
   * Asks the provider for its public metadata, so that `status` is known without a sign-in. Rarely more than a read of
   * the cache.
   * @throws ProviderError
   */
  check(): Promise<void>;
  /**
   * The URL to send the browser to. `stateOf` makes the state from the new secrets.
   * @throws ProviderError
   */
  begin(
    stateOf: (secrets: SignInSecrets) => Promise<string>,
    options: Readonly<{
      /** `again`: the person authenticates anew, and the ID token says when (`auth_time`), where the provider can. */
      account: "current" | "another" | "again";
      /** Whether this sign-in may cause a request to the provider; called at most once. Absent: it may. */
      mayPush?: () => boolean;
    }>,
  ): Promise<URL>;
  /**
   * @param query the query of the provider's redirect
   * @param expected.givenName the name in a form of the provider, which no one has signed
   * @throws ProviderError
   */
  finish(
    query: string,
    expected: SignInSecrets & Readonly<{ state: string; givenName?: string }>,
  ): Promise<ProviderIdentity>;
  /** Presents the refresh token: one request, never repeated. A failure is an outcome too. */
  refresh(tokens: ProviderTokens): Promise<RefreshOutcome>;
  /**
   * Checks that the token endpoint answers, with a refresh token that no provider has issued.
   * @throws ProviderError when it does not
   */
  probe(): Promise<void>;
  /**
   * Fetches the current claims of the person.
   * @throws ProviderError
   */
  describe(tokens: ProviderTokens): Promise<ProviderDescription>;
  /**
   * Verifies an ID token that a caller presents as a credential; it must be issued for this client.
   * @throws ProviderError
   */
  verifyIdentityToken(token: string): Promise<VerifiedToken>;
  /**
   * Verifies an access token that a caller presents as a credential; the provider names its subject.
   * @param audiences it must be a signed token that names one of these; null: any token that the provider accepts
   * @throws ProviderError
   */
  verifyAccessToken(token: string, audiences: readonly string[] | null): Promise<VerifiedToken>;
  /** Verifies logout tokens of the provider for this client; null: the provider sends none. */
  logouts: Readonly<{
    /** As configured. */
    issuer: URL;
    clientId: string;
    /** @throws ProviderError */
    verify(token: string): Promise<LogoutToken>;
  }> | null;
  /**
   * True: an access token without a refresh token is as good as one, so the claims of its session are fetched again
   * with it. `describe` then fails with the refusal `invalid_grant` only if the provider has withdrawn the token.
   */
  describesAgain?: boolean;
  /** Shortest time (ms) between two refreshes of a session that the provider allows. Absent: any. */
  refreshMsMin?: number;
  /** The provider states a name only at a person's first sign-in: later profiles without one keep it. */
  namesOnce?: boolean;
  /** Null: the provider has no end-session endpoint. */
  logoutUrl(options: Readonly<{ idToken: string | null; returnTo: URL | null }>): Promise<URL | null>;
  /** Revokes the tokens if the provider supports it. Ignores failures. */
  revoke(tokens: ProviderTokens): Promise<void>;
}>;

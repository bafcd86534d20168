/**
 * Token grants: requests to a provider's token endpoint, above all the presentation of a refresh token, which is sent
 * once and never repeated (refresh-rules.ts).
 */
import { AsyncLocalStorage } from "node:async_hooks";
import * as openid from "openid-client";
import type { ProviderTokens, UnixMs } from "../../../events/index.ts";
import { type IssuerFetch, readAnswer } from "./issuer-fetch.ts";
import type { LocalFetch } from "./local-fetch.ts";
import type { RefreshOutcome } from "./provider-client.ts";
import { ProviderError } from "./provider-error.ts";
import { type HealthRecord, observedFetch } from "./provider-health.ts";
import { presentationMsMax } from "./refresh-rules.ts";

/** Errors of RFC 6749 §5.2 and rate limits that a provider returns before it uses the refresh token. */
const tokenUnusedErrors: ReadonlySet<string> = new Set([
  "invalid_client",
  "unauthorized", // a challenge without an error: the client did not authenticate
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_request",
  "invalid_scope",
  "temporarily_unavailable",
  "slow_down",
]);

/** One presentation of a refresh token, as the fetch sees it. */
type RefreshAttempt = { left: "no" | "maybe"; received: Readonly<Record<string, unknown>> | null };
export class AnotherPersonError extends ProviderError {
  constructor() {
    super("the refreshed ID token names another person", { kind: "refused", error: "subject_changed" });
  }
}

type TokenResponse = openid.TokenEndpointResponse & openid.TokenEndpointResponseHelpers;

export type TokenGrants = Readonly<{
  /** The fetch of an openid-client configuration. */
  fetch: LocalFetch["fetch"];
  refresh(tokens: ProviderTokens): Promise<RefreshOutcome>;
  /** @param before the session's previous tokens; null: a sign-in */
  tokensOf(response: TokenResponse, before: ProviderTokens | null): ProviderTokens;
}>;

export function createTokenGrants(
  options: Readonly<{
    local: LocalFetch;
    bounded: IssuerFetch;
    health: HealthRecord;
    nowMs: () => number;
    configuration: () => Promise<openid.Configuration>;
    /** @throws ProviderError or AnotherPersonError */
    checkRefreshed: (response: openid.TokenEndpointResponse, before: ProviderTokens) => Promise<void>;
    refreshMsMax: number | undefined;
  }>,
): TokenGrants {
  const attempts = new AsyncLocalStorage<RefreshAttempt>();

  /**
   * Sends the token request of a presentation once, on its own connection, and records the response before any check.
   */
  const fetchFor: LocalFetch["fetch"] = async (input, init) => {
    const exchange = attempts.getStore();
    const presents = init?.body instanceof URLSearchParams && init.body.get("grant_type") === "refresh_token";
    if (exchange === undefined || !presents) return options.bounded.fetch(input, init);
    const onSend = (): void => {
      exchange.left = "maybe";
    };
    const timeoutMs = options.refreshMsMax ?? presentationMsMax;
    const sendOnce = async () => readAnswer(await options.local.fetchOnce(input, init, { timeoutMs, onSend }));
    const answer = await observedFetch(sendOnce, options.health)(input);
    if (answer.status === 200) exchange.received = await readTokenResponse(answer.clone());
    return answer;
  };

  async function present(tokens: ProviderTokens, exchange: RefreshAttempt): Promise<RefreshOutcome> {
    try {
      const config = await options.configuration();
      if (tokens.refreshToken === null) throw new TypeError("there is no refresh token");
      const response = await openid.refreshTokenGrant(config, tokens.refreshToken);
      await options.checkRefreshed(response, tokens);
      return { type: "tokens", tokens: tokensOf(response, tokens), problem: null };
    } catch (cause) {
      if (cause instanceof AnotherPersonError) return { type: "refused", error: cause };
      const error = providerError("the identity provider did not refresh the session", cause);
      if (exchange.received !== null)
        return { type: "tokens", tokens: tokensReceived(exchange.received, tokens), problem: error };
      if (exchange.left === "no" || tokenUnusedErrors.has(error.error)) return { type: "not-used", error };
      return { type: error.kind === "refused" ? "refused" : "unknown", error };
    }
  }

  /** The tokens of a response that failed verification; the previous ID token and its claims stay. */
  function tokensReceived(received: RefreshAttempt["received"] & object, before: ProviderTokens): ProviderTokens {
    const text = (name: string): string | null => (typeof received[name] === "string" ? received[name] : null);
    return {
      accessToken: text("access_token"),
      refreshToken: text("refresh_token") ?? before.refreshToken,
      idToken: before.idToken,
      accessTokenExpiresAt: options.nowMs() as UnixMs, // not used to ask for claims
    };
  }

  function tokensOf(
    response: openid.TokenEndpointResponse & openid.TokenEndpointResponseHelpers,
    before: ProviderTokens | null,
  ): ProviderTokens {
    return {
      accessToken: response.access_token,
      refreshToken: response.refresh_token ?? before?.refreshToken ?? null,
      idToken: response.id_token ?? before?.idToken ?? null,
      accessTokenExpiresAt:
        response.expires_in === undefined
          ? null
          : (Math.floor(options.nowMs() + response.expires_in * 1_000) as UnixMs),
    };
  }

  return {
    fetch: fetchFor,
    refresh(tokens) {
      const exchange: RefreshAttempt = { left: "no", received: null };
      return attempts.run(exchange, () => present(tokens, exchange));
    },
    tokensOf,
  };
}

/** The tokens in a response of the token endpoint; null: none. */
async function readTokenResponse(
  answer: Awaited<ReturnType<LocalFetch["fetch"]>>,
): Promise<RefreshAttempt["received"]> {
  try {
    const said: unknown = await answer.json();
    if (typeof said !== "object" || said === null || !("access_token" in said)) return null;
    return said as Readonly<Record<string, unknown>>;
  } catch {
    return null; // the checks that follow say what is wrong with it
  }
}

/** Codes of openid-client for a response that arrived and failed verification. */
const untrueCodes: ReadonlySet<string> = new Set([
  "OAUTH_INVALID_RESPONSE",
  "OAUTH_INVALID_SIGNATURE",
  "OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED",
  "OAUTH_JWT_CLAIM_COMPARISON_FAILED",
  "OAUTH_JWT_TIMESTAMP_CHECK_FAILED",
  "OAUTH_KEY_SELECTION_FAILED",
  "OAUTH_MISSING_SERVER_METADATA",
  "OAUTH_UNSUPPORTED_OPERATION",
]);

export function providerError(message: string, cause: unknown): ProviderError {
  if (cause instanceof ProviderError) return cause;
  if (cause instanceof openid.ResponseBodyError || cause instanceof openid.AuthorizationResponseError) {
    const facts = { kind: "refused", error: cause.error, errorDescription: cause.error_description ?? "" } as const;
    return new ProviderError(message, facts, { cause });
  }
  if (cause instanceof openid.WWWAuthenticateChallengeError) {
    const error = cause.cause.map(({ parameters }) => parameters["error"]).find((word) => word !== undefined);
    return new ProviderError(message, { kind: "refused", error: error ?? "unauthorized" }, { cause });
  }
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
  return new ProviderError(message, { kind: untrueCodes.has(code) ? "untrue" : "silent" }, { cause });
}

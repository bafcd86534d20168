/**
 * OIDC client: the identity provider's operations (openid-client): authorization code with PKCE, state and nonce;
 * refresh; logout.
 *
 * - Discovery runs at first use and is retried after a failure. A provider that is down only makes sign-in fail, with a
 *   clear error.
 * - ID tokens are verified with the provider's keys, even if TLS already authenticates the sender.
 * - Claims are the ID token's, then userinfo's, flattened.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { decodeJwt, type JWTPayload, jwtVerify } from "jose";
import * as openid from "openid-client";
import { flattenClaims, type ProviderTokens, type UnixMs } from "../../../events/index.ts";
import { tokenError } from "../credentials/issuers.ts";
import { createKeySet, type KeySet } from "../credentials/key-set.ts";
import { issuedAtOf, unverifiedClaims } from "../credentials/token-text.ts";
import { issuerFetch, readAnswer } from "./issuer-fetch.ts";
import type { LocalFetch } from "./local-fetch.ts";
import { verifyLogoutToken } from "./logout-token.ts";
import { profileOf } from "./oidc-profile.ts";
import type { ProviderClient, ProviderDescription, RefreshOutcome } from "./provider-client.ts";
import { ProviderError } from "./provider-error.ts";
import { presentationMsMax } from "./refresh-rules.ts";

export type ProviderSettings = Readonly<{
  issuer: URL;
  clientId: string;
  clientSecret: string;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
  /** `https://<authenticate host>/oauth2/callback` */
  redirectUri: URL;
  /** Timeout of each request to the provider (seconds). */
  timeoutS?: number;
  /** Timeout of the response to a presented refresh token (ms). */
  refreshMsMax?: number;
}>;

const timeoutS = 10;
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
/** Accepted algorithms of presented tokens: public keys only. A holder of a shared secret could forge a token. */
const signatures = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

export function createOidcClient(settings: ProviderSettings, local: LocalFetch, nowMs: () => number): ProviderClient {
  const bounded = issuerFetch(local);
  const attempts = new AsyncLocalStorage<RefreshAttempt>();
  let discovered: Promise<openid.Configuration> | undefined;
  let keys: KeySet | undefined;

  function configuration(): Promise<openid.Configuration> {
    discovered ??= discover().catch((cause: unknown) => {
      discovered = undefined;
      throw providerError("the identity provider's discovery document could not be read", cause);
    });
    return discovered;
  }

  async function discover(): Promise<openid.Configuration> {
    // The configuration allows plain HTTP for loopback hosts, or by an explicit setting.
    const insecure = settings.issuer.protocol === "http:";
    return openid.discovery(settings.issuer, settings.clientId, undefined, clientAuth(settings.clientSecret), {
      timeout: settings.timeoutS ?? timeoutS,
      [openid.customFetch]: fetchFor as unknown as openid.CustomFetch,
      execute: [openid.enableNonRepudiationChecks, ...(insecure ? [openid.allowInsecureRequests] : [])],
    });
  }

  /**
   * Sends the token request of a presentation once, on its own connection, and records the response before any check.
   */
  const fetchFor: LocalFetch["fetch"] = async (input, init) => {
    const exchange = attempts.getStore();
    const presents = init?.body instanceof URLSearchParams && init.body.get("grant_type") === "refresh_token";
    if (exchange === undefined || !presents) return bounded.fetch(input, init);
    const onSend = (): void => {
      exchange.left = "maybe";
    };
    const answer = await readAnswer(
      await local.fetchOnce(input, init, { timeoutMs: settings.refreshMsMax ?? presentationMsMax, onSend }),
    );
    if (answer.status === 200) exchange.received = await readTokenResponse(answer.clone());
    return answer;
  };

  async function present(tokens: ProviderTokens, exchange: RefreshAttempt): Promise<RefreshOutcome> {
    try {
      const config = await configuration();
      if (tokens.refreshToken === null) throw new TypeError("there is no refresh token");
      const response = await openid.refreshTokenGrant(config, tokens.refreshToken);
      const before = claimsOf(tokens.idToken)["sub"];
      const after = response.claims()?.sub;
      if (after === undefined || before === undefined || after === before)
        return { type: "tokens", tokens: tokensOf(response, tokens), problem: null };
      const facts = { kind: "refused", error: "subject_changed" } as const;
      return { type: "refused", error: new ProviderError("the refreshed ID token names another person", facts) };
    } catch (cause) {
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
      accessTokenExpiresAt: nowMs() as UnixMs, // not used to ask for claims
    };
  }

  function keySet(config: openid.Configuration): KeySet {
    const uri = config.serverMetadata().jwks_uri;
    if (uri === undefined) throw new ProviderError("the identity provider publishes no keys", { kind: "silent" });
    keys ??= createKeySet(new URL(uri), bounded);
    return keys;
  }

  /** @throws ProviderError unless the provider signed it for one of the audiences */
  async function verifyAudience(
    token: string,
    config: openid.Configuration,
    audiences: readonly string[],
  ): Promise<JWTPayload & Readonly<{ sub: string }>> {
    const rules = { issuer: config.serverMetadata().issuer, audience: [...audiences], requiredClaims: ["sub", "exp"] };
    try {
      const { payload } = await jwtVerify(token, keySet(config), {
        ...rules,
        algorithms: signatures,
        currentDate: new Date(nowMs()),
      });
      return { ...payload, sub: payload.sub ?? "" };
    } catch (cause) {
      throw tokenError("the access token could not be verified", cause);
    }
  }

  async function withConfiguration<T>(message: string, job: (config: openid.Configuration) => Promise<T>): Promise<T> {
    const config = await configuration();
    try {
      return await job(config);
    } catch (cause) {
      throw providerError(message, cause);
    }
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
        response.expires_in === undefined ? null : (Math.floor(nowMs() + response.expires_in * 1_000) as UnixMs),
    };
  }

  async function describe(config: openid.Configuration, tokens: ProviderTokens): Promise<ProviderDescription> {
    const idClaims = claimsOf(tokens.idToken);
    const subject = idClaims["sub"];
    if (typeof subject !== "string" || subject === "")
      throw new ProviderError("the identity provider sent no ID token that names a subject", { kind: "untrue" });
    const asksUserinfo = config.serverMetadata().userinfo_endpoint !== undefined && tokens.accessToken !== null;
    const userinfo = asksUserinfo ? await openid.fetchUserInfo(config, tokens.accessToken ?? "", subject) : {};
    const claims = { ...idClaims, ...userinfo, ...protocolClaims(idClaims) };
    return {
      profile: profileOf(config.serverMetadata().issuer, subject, claims),
      isFromUserinfo: (claim) => Object.hasOwn(flattenClaims(userinfo), claim),
    };
  }

  return {
    begin: (stateOf, { account }) =>
      withConfiguration("sign-in at the identity provider could not be started", async (config) => {
        const secrets = { nonce: openid.randomNonce(), verifier: openid.randomPKCECodeVerifier() };
        return openid.buildAuthorizationUrl(config, {
          ...(account === "another" ? { prompt: "login" } : {}),
          ...settings.requestParams,
          redirect_uri: settings.redirectUri.href,
          scope: settings.scopes.join(" "),
          state: await stateOf(secrets),
          nonce: secrets.nonce,
          code_challenge: await openid.calculatePKCECodeChallenge(secrets.verifier),
          code_challenge_method: "S256",
        });
      }),

    finish: (query, expected) =>
      withConfiguration("sign-in at the identity provider did not complete", async (config) => {
        const callback = new URL(settings.redirectUri);
        callback.search = query;
        const response = await openid.authorizationCodeGrant(config, callback, {
          expectedState: expected.state,
          expectedNonce: expected.nonce,
          pkceCodeVerifier: expected.verifier,
          idTokenExpected: true,
        });
        const tokens = tokensOf(response, null);
        const { profile } = await describe(config, tokens);
        return { tokens, profile };
      }),

    refresh(tokens) {
      const exchange: RefreshAttempt = { left: "no", received: null };
      return attempts.run(exchange, () => present(tokens, exchange));
    },

    probe: () =>
      withConfiguration("the identity provider's token endpoint does not answer", async (config) => {
        try {
          await openid.refreshTokenGrant(config, openid.randomState());
        } catch (cause) {
          if (!(cause instanceof openid.ResponseBodyError) || cause.status >= 500) throw cause;
        }
      }),

    describe: (tokens) =>
      withConfiguration("the identity provider did not return the person's claims", (config) =>
        describe(config, tokens),
      ),

    async verifyIdentityToken(token) {
      const config = await configuration();
      const { issuer } = config.serverMetadata();
      try {
        const { payload, protectedHeader } = await jwtVerify(token, keySet(config), {
          issuer,
          audience: settings.clientId,
          requiredClaims: ["sub", "exp", "iat"],
          algorithms: signatures,
          currentDate: new Date(nowMs()),
        });
        // Tokens of other kinds are signed with the same keys, and may name the same audience (RFC 9068, Logout
        // Tokens).
        const another = !/^(?:jwt)?$/i.test(protectedHeader.typ ?? "") || payload["events"] !== undefined;
        if (another || (payload["azp"] !== undefined && payload["azp"] !== settings.clientId))
          throw new ProviderError("the token is not an ID token for this client", { kind: "untrue" });
        const tokens = { accessToken: null, refreshToken: null, idToken: token, accessTokenExpiresAt: null };
        const expiresAt = ((payload.exp ?? 0) * 1_000) as UnixMs;
        return {
          profile: profileOf(issuer, payload.sub ?? "", payload),
          tokens,
          saidAt: issuedAtOf(payload),
          expiresAt,
        };
      } catch (cause) {
        throw tokenError("the ID token could not be verified", cause);
      }
    },

    async verifyAccessToken(token, audiences) {
      const config = await configuration();
      const { issuer } = config.serverMetadata();
      const said = unverifiedClaims(token);
      const expiresAt = typeof said?.["exp"] === "number" ? ((said["exp"] * 1_000) as UnixMs) : null;
      // Callers can send anything, so the provider is called only for a token that may be valid.
      if ((expiresAt !== null && expiresAt <= nowMs()) || (said?.["iss"] !== undefined && said["iss"] !== issuer))
        throw new ProviderError("the access token has expired or is from another issuer", { kind: "untrue" });
      const tokens = { accessToken: token, refreshToken: null, idToken: null, accessTokenExpiresAt: expiresAt };
      const verified = audiences === null ? null : await verifyAudience(token, config, audiences);
      if (verified !== null && isForResources(verified)) {
        // Userinfo refuses tokens for other resources, so the claims of the signed token are used.
        return { profile: profileOf(issuer, verified.sub, verified), tokens, saidAt: issuedAtOf(verified), expiresAt };
      }
      if (config.serverMetadata().userinfo_endpoint === undefined)
        throw new ProviderError("the identity provider has no userinfo endpoint, so it cannot identify access tokens", {
          kind: "untrue",
        });
      const userinfo = await withConfiguration("the identity provider did not say who owns the access token", (of) =>
        openid.fetchUserInfo(of, token, openid.skipSubjectCheck),
      );
      if (verified !== null && verified.sub !== userinfo.sub)
        throw new ProviderError("the access token and the provider's userinfo name different people", {
          kind: "untrue",
        });
      const saidAt = nowMs() as UnixMs;
      return { profile: profileOf(issuer, userinfo.sub, { ...verified, ...userinfo }), tokens, saidAt, expiresAt };
    },

    logouts: {
      issuer: settings.issuer,
      clientId: settings.clientId,
      async verify(token) {
        const config = await configuration();
        const { issuer, id_token_signing_alg_values_supported: announced } = config.serverMetadata();
        const rules = { issuer, clientId: settings.clientId, announced, accepted: signatures, nowMs: nowMs() };
        return verifyLogoutToken(token, { ...rules, keys: keySet(config) });
      },
    },

    async logoutUrl({ idToken, returnTo }) {
      const config = await configuration();
      if (config.serverMetadata().end_session_endpoint === undefined) return null;
      return openid.buildEndSessionUrl(config, {
        ...(idToken === null ? {} : { id_token_hint: idToken }),
        ...(returnTo === null ? {} : { post_logout_redirect_uri: returnTo.href }),
      });
    },

    async revoke(tokens) {
      const config = await configuration();
      if (config.serverMetadata().revocation_endpoint === undefined) return;
      const token = tokens.refreshToken ?? tokens.accessToken;
      if (token !== null) await openid.tokenRevocation(config, token);
    },
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

/** The authentication method that the provider announces; by default HTTP Basic (OIDC Discovery §3). */
function clientAuth(secret: string): openid.ClientAuth {
  if (secret === "") return openid.None(); // it only verifies tokens, and was given none
  const post = openid.ClientSecretPost(secret);
  const basic = openid.ClientSecretBasic(secret);
  return (server, client, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    return (methods.includes("client_secret_post") ? post : basic)(server, client, body, headers);
  };
}

/** Claims of an ID token that was verified on receipt. */
function claimsOf(idToken: string | null): Readonly<Record<string, unknown>> {
  return idToken === null ? {} : decodeJwt(idToken);
}

/**
 * Whether an access token has scopes without `openid`, so userinfo does not accept it (OIDC Core §5.3).
 */
function isForResources(claims: Readonly<Record<string, unknown>>): boolean {
  const said = claims["scope"] ?? claims["scp"];
  const scopes = typeof said === "string" ? said.split(" ") : Array.isArray(said) ? said : null;
  return scopes !== null && !scopes.includes("openid");
}

/** Claims of the ID token about itself; userinfo cannot override them. */
function protocolClaims(idClaims: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const own = ["iss", "sub", "aud", "azp", "sid", "auth_time", "acr", "amr"];
  return Object.fromEntries(own.filter((name) => Object.hasOwn(idClaims, name)).map((name) => [name, idClaims[name]]));
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

function providerError(message: string, cause: unknown): ProviderError {
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

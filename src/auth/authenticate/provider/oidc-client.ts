/**
 * OIDC client: the identity provider's operations (openid-client): authorization code with PKCE, state and nonce;
 * refresh; logout.
 *
 * - Discovery and keys are cached and fetched again at a bounded rate (document-cache.ts). A provider that is down only
 *   makes sign-in fail, with a clear error.
 * - ID tokens are verified with the provider's keys, even if TLS already authenticates the sender.
 * - Claims are the ID token's, then userinfo's, flattened.
 */
import { hash } from "node:crypto";
import { compactVerify, decodeJwt, type JWTPayload, jwtVerify } from "jose";
import * as openid from "openid-client";
import { flattenClaims, type Profile, type ProviderTokens, type UnixMs } from "../../../events/index.ts";
import { tokenError } from "../credentials/issuers.ts";
import { createKeySet } from "../credentials/key-set.ts";
import { issuedAtOf, unverifiedClaims } from "../credentials/token-text.ts";
import { type ClientCredentials, clientAuthOf } from "./client-auth-client.ts";
import { type CacheLimits, createCachedDocument } from "./document-cache.ts";
import { issuerFetch } from "./issuer-fetch.ts";
import type { LocalFetch } from "./local-fetch.ts";
import { verifyLogoutToken } from "./logout-token.ts";
import { profileOf } from "./oidc-profile.ts";
import type { ProviderClient, ProviderDescription } from "./provider-client.ts";
import { ProviderError } from "./provider-error.ts";
import { createHealthRecord, observedFetch } from "./provider-health.ts";
import { AnotherPersonError, createTokenGrants, providerError } from "./token-grants-client.ts";

export type ProviderSettings = Readonly<{
  issuer: URL;
  clientId: string;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
  /** The provider's callback on the authenticate host. */
  redirectUri: URL;
  /** Use of pushed authorization requests (RFC 9126). Absent: `auto`, where the provider offers them. */
  par?: "auto" | "required" | "never";
  /** An e-mail that the provider calls unverified is no e-mail of the person. Absent: it is, as in Pomerium. */
  email?: "verified";
  /** As in `ProviderClient`. */
  behaviour?: Pick<ProviderClient, "refreshMsMin" | "namesOnce">;
  /** Timeout of each request to the provider (seconds). */
  timeoutS?: number;
  /** Timeout of the response to a presented refresh token (ms). */
  refreshMsMax?: number;
}> &
  Pick<ClientCredentials, "clientSecret"> &
  Partial<ClientCredentials>;

/** A changed document is read within an hour; while the provider does not publish it, the old one serves for a day. */
const discoveryLimits: CacheLimits = {
  freshMs: 60 * 60_000,
  usableMs: 24 * 60 * 60_000,
  demandedEveryMs: 60_000,
  firstPauseMs: 1_000,
  pauseMsMax: 60_000,
};
const noKey = { clientAuth: "client_secret", privateKey: null, keyId: null, teamId: null } as const;
const timeoutS = 10;
/** With any `max_age` the ID token has `auth_time` (OpenID Connect Core §2); `prompt=login` makes the age 0. */
const authAgeSMax = "300";
/** Accepted algorithms of presented tokens: public keys only. A holder of a shared secret could forge a token. */
const signatures = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

export function createOidcClient(
  settings: ProviderSettings,
  local: LocalFetch,
  nowMs: () => number,
  monotonic: () => number = () => performance.now(),
): ProviderClient {
  const health = createHealthRecord(monotonic);
  const bounded = { fetch: observedFetch(issuerFetch(local).fetch, health) };
  const { refreshMsMax } = settings;
  const grants = createTokenGrants({ local, bounded, health, nowMs, configuration, checkRefreshed, refreshMsMax });
  const auth = clientAuthOf({ ...noKey, ...settings }, nowMs);
  const discovered = createCachedDocument(discover, { limits: discoveryLimits, monotonic });
  const keySet = createKeySet(keysUrl, bounded, monotonic);
  const metadata = new WeakMap<openid.Configuration, openid.ServerMetadata>();

  function configuration(): Promise<openid.Configuration> {
    return discovered.read();
  }

  /** openid-client copies the whole document for each call, several times in a sign-in. */
  function metadataOf(config: openid.Configuration): openid.ServerMetadata {
    const known = metadata.get(config) ?? config.serverMetadata();
    metadata.set(config, known);
    return known;
  }

  async function discover(): Promise<openid.Configuration> {
    // The configuration allows plain HTTP for loopback hosts, or by an explicit setting.
    const insecure = settings.issuer.protocol === "http:";
    try {
      return await openid.discovery(settings.issuer, settings.clientId, undefined, auth, {
        timeout: settings.timeoutS ?? timeoutS,
        [openid.customFetch]: grants.fetch as unknown as openid.CustomFetch,
        execute: insecure ? [openid.allowInsecureRequests] : [],
      });
    } catch (cause) {
      throw providerError("the identity provider's discovery document could not be read", cause);
    }
  }

  async function keysUrl(): Promise<URL> {
    const { jwks_uri: uri } = metadataOf(await configuration());
    if (uri === undefined) throw new ProviderError("the identity provider publishes no keys", { kind: "silent" });
    return new URL(uri);
  }

  /**
   * Verifies the signature of an ID token from the token endpoint, by the keys that all tokens of the provider are
   * verified with. openid-client has checked its claims.
   */
  async function verifySignature(idToken: string | undefined): Promise<void> {
    if (idToken === undefined) return;
    try {
      await compactVerify(idToken, keySet, { algorithms: signatures });
    } catch (cause) {
      throw tokenError("the ID token's signature could not be verified", cause);
    }
  }

  async function checkRefreshed(response: openid.TokenEndpointResponse, before: ProviderTokens): Promise<void> {
    await verifySignature(response.id_token);
    const [old, fresh] = [claimsOf(before.idToken)["sub"], claimsOf(response.id_token ?? null)["sub"]];
    if (fresh !== undefined && old !== undefined && fresh !== old) throw new AnotherPersonError();
  }

  /** @throws ProviderError unless the provider signed it for one of the audiences */
  async function verifyAudience(
    token: string,
    config: openid.Configuration,
    audiences: readonly string[],
  ): Promise<JWTPayload & Readonly<{ sub: string }>> {
    const rules = { issuer: metadataOf(config).issuer, audience: [...audiences], requiredClaims: ["sub", "exp"] };
    try {
      const { payload } = await jwtVerify(token, keySet, {
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

  /** @throws ProviderError as `profileOf` */
  function profileFrom(issuer: string, subject: string, claims: Readonly<Record<string, unknown>>): Profile {
    const profile = profileOf(issuer, subject, claims);
    return settings.email === "verified" && isCalledUnverified(claims) ? { ...profile, email: "" } : profile;
  }

  async function describe(config: openid.Configuration, tokens: ProviderTokens): Promise<ProviderDescription> {
    const idClaims = claimsOf(tokens.idToken);
    const subject = idClaims["sub"];
    if (typeof subject !== "string" || subject === "")
      throw new ProviderError("the identity provider sent no ID token that names a subject", { kind: "untrue" });
    const asksUserinfo = metadataOf(config).userinfo_endpoint !== undefined && tokens.accessToken !== null;
    const userinfo = asksUserinfo ? await openid.fetchUserInfo(config, tokens.accessToken ?? "", subject) : {};
    // The time of the authentication counts only from the signed token.
    const { auth_time: _unsigned, ...others } = userinfo as Readonly<Record<string, unknown>>;
    const claims = { ...idClaims, ...others, ...protocolClaims(idClaims) };
    return {
      profile: profileFrom(metadataOf(config).issuer, subject, claims),
      isFromUserinfo: (claim) => Object.hasOwn(flattenClaims(userinfo), claim),
    };
  }

  /**
   * The address to which the browser goes, with the parameters pushed to the provider first where that is possible
   * (RFC 9126): then none of them passes through the browser.
   */
  async function authorizationUrl(
    config: openid.Configuration,
    mayPush: () => boolean,
    parameters: Readonly<Record<string, string>>,
  ): Promise<URL> {
    const { par = "auto" } = settings;
    const { require_pushed_authorization_requests: demanded, pushed_authorization_request_endpoint: endpoint } =
      metadataOf(config);
    const isRequired = par === "required" || demanded === true;
    const isOffered = endpoint !== undefined;
    if (!isRequired && (par === "never" || !isOffered)) return openid.buildAuthorizationUrl(config, parameters);
    if (!isOffered)
      throw new ProviderError(
        "the identity provider has no endpoint for the pushed authorization requests that this configuration or the provider itself requires",
        { kind: "untrue" },
      );
    if (mayPush()) {
      try {
        return await openid.buildAuthorizationUrlWithPAR(config, parameters);
      } catch (cause) {
        const error = providerError("the identity provider did not accept the pushed authorization request", cause);
        // Some providers announce the endpoint to clients that may not use it.
        if (isRequired || error.kind !== "refused") throw error;
        return openid.buildAuthorizationUrl(config, parameters);
      }
    }
    if (!isRequired) return openid.buildAuthorizationUrl(config, parameters);
    throw new ProviderError("too many sign-ins are starting", { kind: "refused", error: "slow_down" });
  }

  return {
    ...settings.behaviour,
    status: health.status,

    check: async () => {
      await discovered.readNewer(await configuration());
    },

    begin: (stateOf, { account, mayPush = () => true }) =>
      withConfiguration("sign-in at the identity provider could not be started", async (config) => {
        const secrets = { nonce: openid.randomNonce(), verifier: openid.randomPKCECodeVerifier() };
        return authorizationUrl(config, mayPush, {
          ...(account === "another" ? { prompt: "login" } : {}),
          ...settings.requestParams,
          // After the configured ones: a parameter of the configuration must not weaken this.
          ...(account === "again" ? { prompt: "login", max_age: authAgeSMax } : {}),
          redirect_uri: settings.redirectUri.href,
          scope: settings.scopes.join(" "),
          state: await stateOf(secrets),
          nonce: secrets.nonce,
          code_challenge: hash("sha256", secrets.verifier, "base64url"), // RFC 7636 §4.2
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
        await verifySignature(response.id_token);
        const tokens = grants.tokensOf(response, null);
        const { profile } = await describe(config, tokens);
        const { givenName = "" } = expected;
        return { tokens, profile: profile.name === "" ? { ...profile, name: givenName } : profile };
      }),

    refresh: grants.refresh,

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
      const { issuer } = metadataOf(config);
      try {
        const { payload, protectedHeader } = await jwtVerify(token, keySet, {
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
          profile: profileFrom(issuer, payload.sub ?? "", payload),
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
      const { issuer } = metadataOf(config);
      const said = unverifiedClaims(token);
      const expiresAt = typeof said?.["exp"] === "number" ? ((said["exp"] * 1_000) as UnixMs) : null;
      // Callers can send anything, so the provider is called only for a token that may be valid.
      if ((expiresAt !== null && expiresAt <= nowMs()) || (said?.["iss"] !== undefined && said["iss"] !== issuer))
        throw new ProviderError("the access token has expired or is from another issuer", { kind: "untrue" });
      const tokens = { accessToken: token, refreshToken: null, idToken: null, accessTokenExpiresAt: expiresAt };
      const verified = audiences === null ? null : await verifyAudience(token, config, audiences);
      if (verified !== null && isForResources(verified)) {
        // Userinfo refuses tokens for other resources, so the claims of the signed token are used.
        return {
          profile: profileFrom(issuer, verified.sub, verified),
          tokens,
          saidAt: issuedAtOf(verified),
          expiresAt,
        };
      }
      if (metadataOf(config).userinfo_endpoint === undefined)
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
      return { profile: profileFrom(issuer, userinfo.sub, { ...verified, ...userinfo }), tokens, saidAt, expiresAt };
    },

    logouts: {
      issuer: settings.issuer,
      clientId: settings.clientId,
      async verify(token) {
        const config = await configuration();
        const { issuer, id_token_signing_alg_values_supported: announced } = metadataOf(config);
        const rules = { issuer, clientId: settings.clientId, announced, accepted: signatures, nowMs: nowMs() };
        return verifyLogoutToken(token, { ...rules, keys: keySet });
      },
    },

    async logoutUrl({ idToken, returnTo }) {
      const config = await configuration();
      if (metadataOf(config).end_session_endpoint === undefined) return null;
      return openid.buildEndSessionUrl(config, {
        ...(idToken === null ? {} : { id_token_hint: idToken }),
        ...(returnTo === null ? {} : { post_logout_redirect_uri: returnTo.href }),
      });
    },

    async revoke(tokens) {
      const config = await configuration();
      if (metadataOf(config).revocation_endpoint === undefined) return;
      const token = tokens.refreshToken ?? tokens.accessToken;
      if (token !== null) await openid.tokenRevocation(config, token);
    },
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

/** Whether the provider itself says so; one that says nothing answers for its people's addresses. */
function isCalledUnverified(claims: Readonly<Record<string, unknown>>): boolean {
  const said = claims["email_verified"];
  return said === false || said === "false";
}

/** Claims of the ID token about itself; userinfo cannot override them. */
function protocolClaims(idClaims: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const own = ["iss", "sub", "aud", "azp", "sid", "auth_time", "acr", "amr"];
  return Object.fromEntries(own.filter((name) => Object.hasOwn(idClaims, name)).map((name) => [name, idClaims[name]]));
}

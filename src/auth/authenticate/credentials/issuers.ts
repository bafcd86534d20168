/**
 * Token issuers: services that issue tokens for workloads (a cluster, a pipeline), and how their tokens are verified.
 *
 * - The issuer is selected by the token's own `iss`; then signature, issuer, audience and times are verified by
 *   that issuer's settings.
 * - A subject includes the name of its issuer, so it never equals a person of the identity provider.
 */

import { errors, jwtVerify } from "jose";
import type { Profile, ProviderTokens, UnixMs } from "../../../events/index.ts";
import { type IssuerFetch, issuerFetch } from "../provider/issuer-fetch.ts";
import type { LocalFetch } from "../provider/local-fetch.ts";
import { profileOf } from "../provider/oidc-profile.ts";
import { ProviderError } from "../provider/provider-error.ts";
import { createKeySet, type KeySet } from "./key-set.ts";
import { hasAudience, issuedAtOf, unverifiedClaims } from "./token-text.ts";

/**
 * Content of a verified token. `saidAt`: issue time; `expiresAt`: expiry. null: the token has no such claim.
 */
export type VerifiedToken = Readonly<{
  profile: Profile;
  tokens: ProviderTokens;
  saidAt: UnixMs | null;
  expiresAt: UnixMs | null;
}>;

export type TokenIssuerSettings = Readonly<{
  name: string;
  issuer: string;
  /** Null: from the issuer's discovery document. */
  jwksUrl: URL | null;
  algorithms: readonly string[];
  audiences: readonly string[];
}>;

export type TokenIssuers = Readonly<{
  /**
   * Configured name of the issuer in a token's unverified `iss`. Undefined: an unknown issuer, another audience, or not
   * a JWT.
   */
  nameOf(token: string): string | undefined;
  /** @throws ProviderError */
  verify(token: string, name: string): Promise<VerifiedToken>;
}>;

const prefix = "issuer:";
/** The `idpId` of sessions from an issuer's tokens. */
export const tokenIssuerId = (name: string): string => `${prefix}${name}`;
export const isOfTokenIssuer = (idpId: string): boolean => idpId.startsWith(prefix);

export function createTokenIssuers(
  settings: readonly TokenIssuerSettings[],
  options: Readonly<{ local: LocalFetch; nowMs: () => number; monotonic: () => number }>,
): TokenIssuers {
  const byName = new Map(settings.map((one) => [one.name, { ...one, keys: keySetOf(one, options) }]));
  const byIssuer = new Map(settings.map(({ issuer, name }) => [issuer, name]));

  return {
    nameOf(token) {
      const said = unverifiedClaims(token);
      const name = said?.iss === undefined ? undefined : byIssuer.get(said.iss);
      const audiences = name === undefined ? [] : (byName.get(name)?.audiences ?? []);
      return said !== undefined && hasAudience(said, audiences) ? name : undefined;
    },
    async verify(token, name) {
      const issuer = byName.get(name);
      if (issuer === undefined) throw new ProviderError("the issuer of the token is unknown", { kind: "untrue" });
      try {
        const { payload } = await jwtVerify(token, issuer.keys, {
          issuer: issuer.issuer,
          audience: [...issuer.audiences],
          algorithms: [...issuer.algorithms],
          requiredClaims: ["sub", "exp"],
          currentDate: new Date(options.nowMs()),
        });
        const profile = profileOf(issuer.issuer, `${name}/${payload.sub}`, payload);
        const none = { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null };
        const expiresAt = ((payload.exp ?? 0) * 1_000) as UnixMs;
        return { profile, tokens: none, saidAt: issuedAtOf(payload), expiresAt };
      } catch (cause) {
        throw tokenError("the token could not be verified", cause);
      }
    },
  };
}

function keySetOf(
  { issuer, jwksUrl }: TokenIssuerSettings,
  { local, monotonic }: Readonly<{ local: LocalFetch; monotonic: () => number }>,
): KeySet {
  const bounded = issuerFetch(local);
  return createKeySet(async () => jwksUrl ?? discover(issuer, bounded), bounded, monotonic);
}

/** OpenID Connect Discovery §4. */
async function discover(issuer: string, local: IssuerFetch): Promise<URL> {
  const at = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const document = await fetchJson(at, local).catch((cause: unknown): never => {
    const facts = { kind: "silent" } as const;
    throw new ProviderError("the issuer's discovery document could not be read", facts, { cause });
  });
  const { issuer: named, jwks_uri: uri } = (document ?? {}) as Readonly<Record<string, unknown>>;
  const secure =
    typeof uri === "string" && URL.canParse(uri) && (uri.startsWith("https:") || issuer.startsWith("http:"));
  // A wrong document says nothing about the token, so it is fetched again.
  if (named !== issuer || !secure)
    throw new ProviderError("the issuer's discovery document names another issuer, or no secure key URL", {
      kind: "silent",
    });
  return new URL(uri);
}

async function fetchJson(url: string, local: IssuerFetch): Promise<unknown> {
  const response = await local.fetch(url, { headers: { accept: "application/json" } });
  if (response.status !== 200) throw new TypeError(`status ${response.status}`);
  return response.json();
}

/** The error of a failed verification: an invalid token, or one that could not be verified. */
export function tokenError(message: string, cause: unknown): ProviderError {
  if (cause instanceof ProviderError) return cause;
  const unread = cause instanceof errors.JWKSTimeout || cause instanceof errors.JWKSInvalid;
  const wrong = cause instanceof errors.JOSEError && !unread && cause.code !== "ERR_JOSE_GENERIC";
  return new ProviderError(message, { kind: wrong ? "untrue" : "silent" }, { cause });
}

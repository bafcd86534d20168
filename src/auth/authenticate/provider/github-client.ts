/**
 * GitHub client: sign-in with plain OAuth 2.0, and a profile from GitHub's REST API (github-api-client.ts). GitHub
 * issues no ID tokens.
 *
 * A token of an OAuth app does not expire and has no refresh token: its claims are fetched again with the token itself.
 */
import * as openid from "openid-client";
import { createGitHubApi } from "./github-api-client.ts";
import { answerDepthMax, type IssuerFetch, isNestedDeeperThan, issuerFetch, readAnswer } from "./issuer-fetch.ts";
import type { LocalFetch } from "./local-fetch.ts";
import type { ProviderClient } from "./provider-client.ts";
import { ProviderError } from "./provider-error.ts";
import { createHealthRecord, observedFetch } from "./provider-health.ts";
import { createTokenGrants, providerError } from "./token-grants-client.ts";

export type GitHubSettings = Readonly<{
  /** `https://github.com`, or that of a GitHub Enterprise server. */
  issuer: URL;
  clientId: string;
  clientSecret: string;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
  redirectUri: URL;
  refreshMsMax?: number;
}>;

export function createGitHubClient(
  settings: GitHubSettings,
  local: LocalFetch,
  nowMs: () => number,
  monotonic: () => number = () => performance.now(),
): ProviderClient {
  const { issuer, clientId, clientSecret, refreshMsMax } = settings;
  const health = createHealthRecord(monotonic);
  const bounded: IssuerFetch = { fetch: observedFetch(issuerFetch(local).fetch, health) };
  const web = issuer.href.replace(/\/$/, "");
  const api = createGitHubApi({ web, clientId, clientSecret, fetch: bounded.fetch });
  const grants = createTokenGrants({
    local: {
      ...local,
      fetchOnce: async (...call) => withErrorStatus(await readAnswer(await local.fetchOnce(...call))),
    },
    bounded: { fetch: async (input, init) => withErrorStatus(await bounded.fetch(input, init)) },
    health,
    nowMs,
    refreshMsMax,
    configuration: async () => config,
    checkRefreshed: async () => {},
  });
  const config = new openid.Configuration(
    {
      issuer: web,
      authorization_endpoint: `${web}/login/oauth/authorize`,
      token_endpoint: `${web}/login/oauth/access_token`,
    },
    clientId,
    undefined,
    openid.ClientSecretPost(clientSecret),
  );
  config[openid.customFetch] = grants.fetch as unknown as openid.CustomFetch;
  if (issuer.protocol === "http:") openid.allowInsecureRequests(config);

  const noToken = async (): Promise<never> => {
    throw new ProviderError("GitHub issues no tokens that prove for which application they were issued", {
      kind: "untrue",
    });
  };

  return {
    status: health.status,
    describesAgain: true,
    check: () => withError("GitHub's API does not answer", api.check),
    probe: () => withError("GitHub's API does not answer", api.check),

    begin: (stateOf, { account }) =>
      withError("sign-in at GitHub could not be started", async () => {
        const secrets = { nonce: openid.randomNonce(), verifier: openid.randomPKCECodeVerifier() };
        return openid.buildAuthorizationUrl(config, {
          ...(account === "another" || account === "again" ? { prompt: "select_account" } : {}),
          ...settings.requestParams,
          redirect_uri: settings.redirectUri.href,
          scope: settings.scopes.join(" "),
          state: await stateOf(secrets),
          code_challenge: await openid.calculatePKCECodeChallenge(secrets.verifier),
          code_challenge_method: "S256",
        });
      }),

    finish: (query, expected) =>
      withError("sign-in at GitHub did not complete", async () => {
        const callback = new URL(settings.redirectUri);
        callback.search = query;
        const response = await openid.authorizationCodeGrant(config, callback, {
          expectedState: expected.state,
          pkceCodeVerifier: expected.verifier,
        });
        const tokens = { ...grants.tokensOf(response, null), idToken: null };
        return { tokens, profile: (await api.describe(tokens)).profile };
      }),

    refresh: grants.refresh,
    describe: (tokens) => withError("GitHub did not return the person's claims", () => api.describe(tokens)),
    verifyIdentityToken: noToken,
    verifyAccessToken: noToken,
    logoutUrl: async () => null,
    logouts: null,
    revoke: api.revoke,
  };
}

async function withError<T>(message: string, job: () => Promise<T>): Promise<T> {
  try {
    return await job();
  } catch (cause) {
    throw providerError(message, cause);
  }
}

/**
 * GitHub's token endpoint reports errors with status 200, some under names of its own. With the status and the names of
 * RFC 6749 §5.2 they are read as errors: a wrong client secret must not count as a refused refresh token.
 */
async function withErrorStatus(
  response: Awaited<ReturnType<LocalFetch["fetch"]>>,
): Promise<Awaited<ReturnType<LocalFetch["fetch"]>>> {
  if (response.status !== 200) return response;
  const text = Buffer.from(await response.arrayBuffer());
  const { status, statusText, headers, url } = response;
  const error = isNestedDeeperThan(text, answerDepthMax) ? undefined : errorIn(text.toString());
  const copied =
    error === undefined
      ? new Response(text, { status, statusText, headers: [...headers] })
      : Response.json({ ...error, error: standardErrors[error.error] ?? error.error }, { status: 400 });
  Object.defineProperty(copied, "url", { value: url });
  return copied as unknown as typeof response;
}

const standardErrors: Readonly<Record<string, string>> = Object.assign(Object.create(null), {
  incorrect_client_credentials: "invalid_client",
  bad_refresh_token: "invalid_grant",
});

/** Undefined: the body is no error. */
function errorIn(text: string): Readonly<{ error: string }> | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body !== "object" || body === null || "access_token" in body || !("error" in body)) return undefined;
    return typeof body.error === "string" ? { ...body, error: body.error } : undefined;
  } catch {
    return undefined; // the checks that follow say what is wrong with it
  }
}

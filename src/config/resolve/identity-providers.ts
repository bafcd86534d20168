/**
 * Identity providers: the settings behind Pomerium's `idp_provider` names that are plain OpenID Connect.
 *
 * Pure. A provider that is not plain OIDC (apple, github) or that Pomerium hosts is refused with a remedy.
 */
import type { Globals } from "../schema/schema.ts";

type Provider = Readonly<{ url: string | null; scopes: readonly string[]; params: Readonly<Record<string, string>> }>;

const usual = ["openid", "profile", "email", "offline_access"];
const withoutOffline = ["openid", "profile", "email"];
const plain: Provider = { url: null, scopes: usual, params: {} };

const providers: Readonly<Record<string, Provider>> = {
  oidc: plain,
  auth0: plain,
  okta: plain,
  ping: plain,
  azure: { ...plain, params: { prompt: "select_account" } },
  cognito: { ...plain, scopes: withoutOffline },
  gitlab: { url: "https://gitlab.com", scopes: withoutOffline, params: {} },
  google: {
    url: "https://accounts.google.com",
    scopes: withoutOffline,
    params: { prompt: "select_account consent", access_type: "offline" },
  },
  onelogin: { ...plain, url: "https://openid-connect.onelogin.com/oidc" },
};

const refusals: Readonly<Record<string, string>> = {
  apple: "use an OpenID Connect provider; Sign in with Apple answers by form post, which this build does not support",
  github:
    "put an OpenID Connect provider that signs in with GitHub in between, such as Dex or Keycloak, and write idp_provider: oidc with its idp_provider_url; GitHub itself speaks plain OAuth 2",
  hosted: "name your own OpenID Connect provider; there is no hosted one",
};

export type ResolvedProvider = Readonly<{
  url: URL;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
}>;
/** `key` is the configuration key that the problem is reported on. */
export type ProviderRefusal = Readonly<{ key: string; problem: string; remedy: string }>;

export function resolveProvider(globals: Globals): ResolvedProvider | ProviderRefusal {
  const name = globals.idp_provider ?? "";
  const provider = Object.hasOwn(providers, name) ? providers[name] : undefined;
  if (provider === undefined) {
    return {
      key: "idp_provider",
      problem: `${name} is not supported by this build yet`,
      remedy: refusals[name] ?? "use oidc",
    };
  }
  const url = globals.idp_provider_url ?? (provider.url === null ? undefined : new URL(provider.url));
  if (url === undefined) {
    const example =
      name === "azure" ? "https://login.microsoftonline.com/<tenant id>/v2.0" : "the issuer URL of your provider";
    return { key: "idp_provider_url", problem: `is missing and ${name} has no default`, remedy: `write ${example}` };
  }
  if (name === "azure" && /^\/(?:common|organizations|consumers)(?:\/|$)/.test(url.pathname)) {
    return {
      key: "idp_provider_url",
      problem: "accepts people of every tenant, so the issuer cannot be verified",
      remedy: "write https://login.microsoftonline.com/<tenant id>/v2.0",
    };
  }
  const scopes = (globals.idp_scopes ?? []).flatMap((scope) => scope.split(/\s+/));
  return {
    url,
    scopes: scopes.length === 0 ? provider.scopes : scopes,
    requestParams: { ...provider.params, ...globals.idp_request_params },
  };
}

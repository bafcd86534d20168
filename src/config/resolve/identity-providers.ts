/**
 * Identity providers: presets behind the names of `idp_provider` and of `sign_in_providers` (docs/identity.md).
 *
 * Pure. Refuses an issuer that cannot be verified, and the provider that Pomerium hosts.
 */
import type { ProviderKind } from "../values/sign-in-provider-values.ts";

type Preset = Readonly<{
  title: string;
  /** Null: each installation has its own. */
  url: string | null;
  scopes: readonly string[];
  params: Readonly<Record<string, string>>;
}>;

const usual = ["openid", "profile", "email", "offline_access"];
const withoutOffline = ["openid", "profile", "email"];
const plain = { url: null, scopes: usual, params: {} };

const presets: Readonly<Record<ProviderKind, Preset>> = {
  oidc: { ...plain, title: "" },
  auth0: { ...plain, title: "Auth0" },
  okta: { ...plain, title: "Okta" },
  ping: { ...plain, title: "Ping Identity" },
  azure: { ...plain, title: "Microsoft", params: { prompt: "select_account" } },
  cognito: { ...plain, title: "Amazon Cognito", scopes: withoutOffline },
  gitlab: { title: "GitLab", url: "https://gitlab.com", scopes: withoutOffline, params: {} },
  google: {
    title: "Google",
    url: "https://accounts.google.com",
    scopes: withoutOffline,
    params: { prompt: "select_account consent", access_type: "offline" },
  },
  onelogin: { ...plain, title: "OneLogin", url: "https://openid-connect.onelogin.com/oidc" },
  // Plain OAuth 2.0: the profile comes from the REST API.
  github: { title: "GitHub", url: "https://github.com", scopes: ["user:email", "read:org"], params: {} },
  // With these scopes Apple answers only by form_post.
  apple: {
    title: "Apple",
    url: "https://appleid.apple.com",
    scopes: ["openid", "name", "email"],
    params: { response_mode: "form_post" },
  },
};

/** What a provider is called if nothing is written; "": nothing. */
export const presetTitle = (kind: ProviderKind): string => presets[kind].title;

export type ResolvedProvider = Readonly<{
  url: URL;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
}>;
/** `key` is the part of the configuration that the problem is reported on. */
export type ProviderRefusal = Readonly<{ key: "url" | "scopes"; problem: string; remedy: string }>;

export function resolveProvider(
  kind: ProviderKind,
  written: Readonly<{
    url: URL | undefined;
    scopes: readonly string[];
    requestParams: Readonly<Record<string, string>>;
  }>,
): ResolvedProvider | ProviderRefusal {
  const preset = presets[kind];
  const url = written.url ?? (preset.url === null ? undefined : new URL(preset.url));
  if (url === undefined) {
    const example =
      kind === "azure" ? "https://login.microsoftonline.com/<tenant id>/v2.0" : "the issuer URL of your provider";
    return { key: "url", problem: `is missing and ${kind} has no default`, remedy: `write ${example}` };
  }
  if (kind === "azure" && /^\/(?:common|organizations|consumers)(?:\/|$)/.test(url.pathname)) {
    return {
      key: "url",
      problem: "accepts people of every tenant, so the issuer cannot be verified",
      remedy: "write https://login.microsoftonline.com/<tenant id>/v2.0",
    };
  }
  const scopes = written.scopes.length === 0 ? preset.scopes : written.scopes;
  if (kind !== "github" && kind !== "apple" && !scopes.includes("openid"))
    return { key: "scopes", problem: "does not include openid", remedy: "add openid" };
  return { url, scopes, requestParams: { ...preset.params, ...written.requestParams } };
}

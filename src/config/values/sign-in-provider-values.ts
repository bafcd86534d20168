/** Value type of `sign_in_providers`: the identity providers at which people sign in, by name. Pure. */
import { readNamedMapping, refuseInside, refuseUnknownKey } from "./named-mapping.ts";
import { checkUrl, parseDuration } from "./network-values.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseStringList,
  parseStringMap,
  type Refuse,
  type RefusedValue,
  scalarText,
  type ValueType,
  valueType,
} from "./value-type.ts";

export const providerKinds = [
  "oidc",
  "auth0",
  "azure",
  "cognito",
  "gitlab",
  "google",
  "okta",
  "onelogin",
  "ping",
  "apple",
  "github",
] as const;
export type ProviderKind = (typeof providerKinds)[number];

/** How this client proves itself to the provider. */
export const clientAuthMethods = [
  "client_secret",
  "client_secret_basic",
  "client_secret_post",
  "private_key_jwt",
] as const;
export type ClientAuthMethod = (typeof clientAuthMethods)[number];

export const parModes = ["auto", "required", "never"] as const;
/** Use of Pushed Authorization Requests (RFC 9126). `auto`: where the provider offers them. */
export type ParMode = (typeof parModes)[number];

/** An entry as written; files and rules between keys are left to the resolver. */
export type WrittenSignInProvider = Readonly<{
  name: string;
  provider: ProviderKind;
  title: string | undefined;
  url: URL | undefined;
  clientId: string;
  clientSecret: string | undefined;
  clientSecretFile: string | undefined;
  privateKey: string | undefined;
  privateKeyFile: string | undefined;
  keyId: string | undefined;
  teamId: string | undefined;
  clientAuth: ClientAuthMethod | undefined;
  par: ParMode;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
  /** Null: `cookie_expire`. */
  sessionLifetimeMs: number | null;
  /** 0: none. */
  sessionIdleLifetimeMs: number;
}>;

/** The name of the provider that the `idp_` keys configure. */
export const defaultProviderName = "default";
/** Each one takes a key set, a discovery document and a connection. */
export const signInProvidersMax = 16;

const entryKeys = [
  "provider",
  "title",
  "provider_url",
  "client_id",
  "client_secret",
  "client_secret_file",
  "private_key",
  "private_key_file",
  "key_id",
  "team_id",
  "client_auth",
  "pushed_authorization",
  "scopes",
  "request_params",
  "session_lifetime",
  "session_idle_lifetime",
];
const titleCharsMax = 60;

/** A name appears in the address of the provider's callback. */
export const isProviderName = (name: string): boolean => /^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/.test(name);

export const signInProviders = (): ValueType<readonly WrittenSignInProvider[]> =>
  valueType(
    {
      label: "mapping of name to sign-in provider",
      json: { type: ["object", "string"], additionalProperties: { type: "object" } },
    },
    (value, refuse) => {
      const example = "write a name, and under it provider, provider_url, client_id and client_secret";
      const found = readNamedMapping(value, { refuse, example, read: readProvider });
      if (isRefused(found)) return found;
      return found.length > signInProvidersMax
        ? refuse("has too many providers", `keep ${signInProvidersMax} of them`)
        : found;
    },
  );

function readProvider(name: string, item: unknown, refuse: Refuse): WrittenSignInProvider | RefusedValue {
  if (!isProviderName(name))
    return refuse(`${formatValue(name)} is not a name`, "use up to 40 lowercase letters, digits and -");
  if (name === defaultProviderName)
    return refuse("is the name of the provider that the idp_ keys configure", "use another name");
  if (!isPlainObject(item))
    return refuse(`${formatValue(item)} is not a sign-in provider`, "write provider, provider_url and client_id");
  const strange = refuseUnknownKey(item, entryKeys, refuse);
  if (strange !== undefined) return strange;
  const provider = wordOf(item, "provider", providerKinds, refuse);
  if (isRefused(provider)) return provider;
  if (provider === undefined) return refuse("is missing", `write one of ${providerKinds.join(", ")}`, ["provider"]);
  const clientAuth = wordOf(item, "client_auth", clientAuthMethods, refuse);
  if (isRefused(clientAuth)) return clientAuth;
  const par = wordOf(item, "pushed_authorization", parModes, refuse);
  if (isRefused(par)) return par;
  const texts = textsOf(item, refuse);
  if (isRefused(texts)) return texts;
  const url =
    item["provider_url"] === undefined
      ? undefined
      : checkUrl(item["provider_url"], {
          schemes: ["https", "http"],
          refuse: refuseInside(refuse, "provider_url"),
        });
  if (isRefused(url)) return url;
  const scopes = parseStringList(item["scopes"] ?? [], refuseInside(refuse, "scopes"));
  if (isRefused(scopes)) return scopes;
  const requestParams = parseStringMap(item["request_params"] ?? {}, {
    separator: /=/,
    refuse: refuseInside(refuse, "request_params"),
  });
  if (isRefused(requestParams)) return requestParams;
  const lifetimes = lifetimesOf(item, refuse);
  if (isRefused(lifetimes)) return lifetimes;
  if (texts.clientId === undefined)
    return refuse("is missing", "write the value that the provider issued for this client", ["client_id"]);
  if ((texts.title ?? "").length > titleCharsMax)
    return refuse(`is longer than ${titleCharsMax} characters`, "write a shorter one", ["title"]);
  return {
    name,
    provider,
    url,
    clientAuth,
    par: par ?? "auto",
    scopes: scopes.flatMap((scope) => scope.split(/\s+/)).filter((scope) => scope !== ""),
    requestParams,
    ...lifetimes,
    ...texts,
    clientId: texts.clientId,
  };
}

type Lifetimes = Pick<WrittenSignInProvider, "sessionLifetimeMs" | "sessionIdleLifetimeMs">;

function lifetimesOf(item: Readonly<Record<string, unknown>>, refuse: Refuse): Lifetimes | RefusedValue {
  const sessionLifetimeMs = lifetimeOf(item, "session_lifetime", { min: "1m", refuse });
  if (isRefused(sessionLifetimeMs)) return sessionLifetimeMs;
  const idleMs = lifetimeOf(item, "session_idle_lifetime", { min: "10s", allowsNone: true, refuse });
  return isRefused(idleMs) ? idleMs : { sessionLifetimeMs, sessionIdleLifetimeMs: idleMs ?? 0 };
}

const lifetimeMsMax = 366 * 24 * 3_600_000;

function lifetimeOf(
  item: Readonly<Record<string, unknown>>,
  key: string,
  { min, allowsNone, refuse }: Readonly<{ min: string; allowsNone?: true; refuse: Refuse }>,
): number | null | RefusedValue {
  const written = item[key];
  if (written === undefined || written === null) return null;
  const ms = typeof written === "string" ? parseDuration(written.trim()) : undefined;
  if (ms === 0 && allowsNone) return ms;
  if (ms === undefined || ms < (parseDuration(min) ?? 0) || ms > lifetimeMsMax)
    return refuse(`${formatValue(written)} is not a lifetime of a session`, `write a duration from ${min} to 8784h`, [
      key,
    ]);
  return ms;
}

const textKeys = {
  title: "title",
  clientId: "client_id",
  clientSecret: "client_secret",
  clientSecretFile: "client_secret_file",
  privateKey: "private_key",
  privateKeyFile: "private_key_file",
  keyId: "key_id",
  teamId: "team_id",
} as const;
type Texts = Readonly<Record<keyof typeof textKeys, string | undefined>>;

/** Absent and empty texts are undefined. Messages never show the value. */
function textsOf(item: Readonly<Record<string, unknown>>, refuse: Refuse): Texts | RefusedValue {
  const found: Record<string, string | undefined> = {};
  for (const [field, key] of Object.entries(textKeys)) {
    const written = item[key];
    const text = written === undefined || written === null ? "" : scalarText(written)?.trim();
    if (text === undefined) return refuse("is not text", "write quoted text", [key]);
    found[field] = text === "" ? undefined : text;
  }
  return found as Texts;
}

function wordOf<const Word extends string>(
  item: Readonly<Record<string, unknown>>,
  key: string,
  words: readonly Word[],
  refuse: Refuse,
): Word | undefined | RefusedValue {
  const written = item[key];
  if (written === undefined || written === null) return undefined;
  const typed = scalarText(written)?.toLowerCase();
  return (
    words.find((word) => word === typed) ??
    refuse(`${formatValue(written)} is not known here`, `write one of ${words.join(", ")}`, [key])
  );
}

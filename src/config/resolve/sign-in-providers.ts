/**
 * Sign-in providers: the identity providers of a configuration, those of the `idp_` keys and of `sign_in_providers`,
 * and which of them each route uses.
 *
 * Pure. The provider of the `idp_` keys is named `default`. Refuses what would let one provider's people pass as
 * another's, and what would leave open who may sign in on a route.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import type { LocatedRoute } from "../check-routes.ts";
import type { Config, SignInProviderConfig } from "../config.ts";
import type { Globals } from "../schema/schema.ts";
import type { Path, ProblemReporter } from "../source/source-locations.ts";
import {
  defaultProviderName,
  type ProviderKind,
  type WrittenSignInProvider,
} from "../values/sign-in-provider-values.ts";
import { presetTitle, resolveProvider } from "./identity-providers.ts";
import { type KeyMaterial, pemOf } from "./key-material.ts";
import { requireEncryption, warnOfNoRefresh } from "./sign-in.ts";

type Resolving = Readonly<{ report: ProblemReporter; failed: ReadonlySet<string> }>;

/** Whether this process calls the providers, so it needs its own keys. A proxy only recognises sessions. */
function callsProviders({ services }: Globals): boolean {
  return services.has("authenticate") || services.has("databroker");
}

/** The provider of the `idp_` keys; null: there is none, or it is wrong. */
export function resolveIdp(
  globals: Globals,
  from: Resolving & Readonly<{ idpClientSecret: string | null; isNeeded: boolean }>,
): Config["idp"] {
  const { report, failed } = from;
  const { idp_provider: kind } = globals;
  if (kind === "hosted") {
    const remedy = "name your own OpenID Connect provider; there is no hosted one";
    report.error(["idp_provider"], "hosted is not supported by this build yet", remedy);
    return null;
  }
  if (kind === undefined) {
    if (!failed.has("idp_provider") && globals.sign_in_providers.length === 0 && !failed.has("sign_in_providers"))
      reportNoProvider(globals, from);
    return null;
  }
  const written = {
    url: globals.idp_provider_url,
    scopes: (globals.idp_scopes ?? []).flatMap((scope) => scope.split(/\s+/)),
    requestParams: globals.idp_request_params,
  };
  const provider = resolveProvider(kind, written);
  if ("problem" in provider) {
    const key = provider.key === "url" ? "idp_provider_url" : "idp_scopes";
    if (!failed.has(key)) report.error([key], provider.problem, provider.remedy);
    return null;
  }
  checkUrl(globals, provider.url, { report, path: ["idp_provider_url"] });
  const speaks = callsProviders(globals);
  for (const key of ["idp_client_id", "idp_client_secret"] as const) {
    const found = key === "idp_client_id" ? globals.idp_client_id : speaks ? from.idpClientSecret : "not needed";
    const wrong = failed.has(key) || (key === "idp_client_secret" && globals.idp_client_secret_file !== undefined);
    if ((found === undefined || found === null || found === "") && !wrong)
      report.error([key], "is missing", "write the value that the identity provider issued for this client", "key");
  }
  if (globals.idp_client_id === undefined || (speaks && from.idpClientSecret === null)) return null;
  return {
    provider: kind,
    url: provider.url,
    clientId: globals.idp_client_id,
    clientSecret: from.idpClientSecret ?? "",
    scopes: provider.scopes,
    requestParams: provider.requestParams,
  };
}

function reportNoProvider(globals: Globals, { report, isNeeded }: Resolving & Readonly<{ isNeeded: boolean }>): void {
  if (!isNeeded && globals.services.has("proxy")) return;
  if (globals.services.has("authenticate"))
    report.error(
      ["idp_provider"],
      "is missing, so no one could sign in",
      "write oidc with idp_provider_url, idp_client_id and idp_client_secret",
      "key",
    );
  else if (globals.services.has("proxy"))
    report.error(
      ["idp_provider"],
      "is missing, so no session would be accepted here and sign-in would loop",
      "write the same idp_provider, idp_provider_url and idp_client_id as for the authenticate service",
      "key",
    );
  else if (globals.services.has("databroker")) warnOfNoRefresh(report);
}

function checkUrl(globals: Globals, url: URL, at: Readonly<{ report: ProblemReporter; path: Path }>): void {
  if (!globals.idp_allow_plain_http) requireEncryption(url, at);
  else if (url.protocol === "http:")
    at.report.warn(
      at.path,
      "is plain HTTP: anyone on the network in between reads passwords and tokens, and can sign in as any person",
      "use https where the network is not your own",
    );
}

/** Paths of the secrets that entries hold themselves, and not in files. */
export function signInSecretPaths(written: Globals["sign_in_providers"]): readonly (readonly string[])[] {
  return written.flatMap(({ name, clientSecret, privateKey }) => [
    ...(clientSecret === undefined ? [] : [["sign_in_providers", name, "client_secret"]]),
    ...(privateKey === undefined ? [] : [["sign_in_providers", name, "private_key"]]),
  ]);
}

/** Every provider, that of the `idp_` keys first. */
export function resolveSignInProviders(
  globals: Globals,
  from: Readonly<{ report: ProblemReporter; material: KeyMaterial; idp: Config["idp"] }>,
): readonly SignInProviderConfig[] {
  const { idp } = from;
  const found: SignInProviderConfig[] = [];
  if (idp !== null)
    found.push({
      ...idp,
      name: defaultProviderName,
      title: titleOf(idp.provider, idp.url),
      clientAuth: "client_secret",
      privateKey: null,
      keyId: null,
      teamId: null,
      par: "auto",
      sessionLifetimeMs: null,
      sessionIdleLifetimeMs: 0,
    });
  for (const written of globals.sign_in_providers) {
    const at = ["sign_in_providers", written.name];
    const one = resolveEntry(written, {
      globals,
      report: from.report.under(...at),
      material: from.material.under(...at),
    });
    if (one === null) continue;
    const twin = found.find((other) => isSameClient(other, one));
    if (twin === undefined) found.push(one);
    else
      from.report.error(
        [...at, "client_id"],
        `is the same client of the same provider as ${twin.name}, so their sessions could not be told apart`,
        "keep one of them, or register another client",
      );
  }
  return found;
}

function isSameClient(a: SignInProviderConfig, b: SignInProviderConfig): boolean {
  return a.provider === b.provider && a.url.href === b.url.href && a.clientId === b.clientId;
}

const titleOf = (kind: ProviderKind, url: URL): string => presetTitle(kind) || url.hostname;

function resolveEntry(
  written: WrittenSignInProvider,
  from: Readonly<{ globals: Globals; report: ProblemReporter; material: KeyMaterial }>,
): SignInProviderConfig | null {
  const { globals, report } = from;
  const provider = resolveProvider(written.provider, written);
  if ("problem" in provider) {
    report.error([provider.key === "url" ? "provider_url" : "scopes"], provider.problem, provider.remedy);
    return null;
  }
  checkUrl(globals, provider.url, { report, path: ["provider_url"] });
  const keys = resolveClientKeys(written, from);
  if (keys === null) return null;
  if (written.provider === "github" && written.par === "required")
    report.error(["pushed_authorization"], "GitHub does not accept pushed authorization requests", "remove it");
  return {
    name: written.name,
    title: written.title ?? (presetTitle(written.provider) || written.name),
    provider: written.provider,
    ...provider,
    clientId: written.clientId,
    ...keys,
    par: written.par,
    sessionLifetimeMs: written.sessionLifetimeMs,
    sessionIdleLifetimeMs: written.sessionIdleLifetimeMs,
  };
}

type ClientKeys = Pick<SignInProviderConfig, "clientAuth" | "clientSecret" | "privateKey" | "keyId" | "teamId">;

/** How the client proves itself: by a secret or a private key, never by both. Null: the reporter holds the reason. */
function resolveClientKeys(
  written: WrittenSignInProvider,
  { globals, report, material }: Readonly<{ globals: Globals; report: ProblemReporter; material: KeyMaterial }>,
): ClientKeys | null {
  const secret = material.textOrFile(
    { client_secret: written.clientSecret, client_secret_file: written.clientSecretFile },
    { key: "client_secret", secrecy: "secret" },
  );
  const key = material.textOrFile(
    { private_key: written.privateKey, private_key_file: written.privateKeyFile },
    { key: "private_key", secrecy: "secret" },
  );
  const { keyId = null, teamId = null } = written;
  const isApple = written.provider === "apple";
  const usesKey = key !== null || written.clientAuth === "private_key_jwt";
  if (secret !== null && usesKey) {
    report.error(key?.path ?? ["client_auth"], "is written beside client_secret", "keep one of them");
    return null;
  }
  if (written.clientAuth !== undefined && written.clientAuth !== "private_key_jwt" && key !== null) {
    report.error(["client_auth"], `does not use the private key`, "write private_key_jwt, or remove private_key");
    return null;
  }
  if (isApple && written.clientAuth === "private_key_jwt") {
    report.error(["client_auth"], "is not what Apple accepts", "remove it: private_key signs the client secret");
    return null;
  }
  if (written.provider === "github" && usesKey) {
    report.error(key?.path ?? ["client_auth"], "GitHub accepts only a client secret", "write client_secret");
    return null;
  }
  const isMissing = secret === null && key === null;
  if (isMissing && (written.clientSecretFile ?? written.privateKeyFile) !== undefined) return null; // reported above
  if (isMissing && callsProviders(globals)) {
    const remedy = "write the value that the identity provider issued for this client";
    if (usesKey) report.error(["private_key"], "is missing", "write the client's private key in PEM", "key");
    else report.error(["client_secret"], "is missing", remedy, "key");
    return null;
  }
  const none = { privateKey: null, keyId, teamId };
  if (key === null) {
    if (!isApple && teamId !== null)
      report.warn(["team_id"], "has no effect without provider: apple", "remove it", "key");
    return { ...none, clientAuth: written.clientAuth ?? "client_secret", clientSecret: secret?.text.trim() ?? "" };
  }
  const pem = checkPrivateKey(key.text, { isApple, report, path: key.path });
  if (pem === null) return null;
  if (isApple)
    for (const [name, value] of [
      ["team_id", teamId],
      ["key_id", keyId],
    ] as const)
      if (value === null) report.error([name], "is missing", "write the one that Apple's developer pages show", "key");
  return { ...none, clientAuth: isApple ? "apple" : "private_key_jwt", clientSecret: "", privateKey: pem };
}

/** @returns the key as PKCS#8 PEM; null: it cannot sign */
function checkPrivateKey(
  text: string,
  { isApple, report, path }: Readonly<{ isApple: boolean; report: ProblemReporter; path: Path }>,
): string | null {
  const pem = pemOf(text);
  const key = pem === null ? null : readPrivateKey(pem);
  const remedy = "write a private key in PEM without a passphrase, or base64 of it";
  if (key === null) {
    report.error(path, "is not a private key in PEM, or base64 of it", remedy);
    return null;
  }
  const { namedCurve = "", modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const isP256 = key.asymmetricKeyType === "ec" && namedCurve === "prime256v1";
  if (isApple && !isP256) {
    report.error(path, "is not a P-256 key, as Apple's are", "write the content of the .p8 file from Apple");
    return null;
  }
  const signs =
    (key.asymmetricKeyType === "ec" && ["prime256v1", "secp384r1", "secp521r1"].includes(namedCurve)) ||
    key.asymmetricKeyType === "ed25519" ||
    (key.asymmetricKeyType === "rsa" && modulusLength >= 2048);
  if (!signs) {
    report.error(path, "is neither an elliptic-curve key nor an RSA key of 2048 bits or more", remedy);
    return null;
  }
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}

function readPrivateKey(pem: string): KeyObject | null {
  try {
    return createPrivateKey(pem);
  } catch {
    return null;
  }
}

/** The names of the providers of routes that name none; the first is also that of the sign-in host itself. */
export function resolveDefaultProviders(
  globals: Globals,
  from: Readonly<{ report: ProblemReporter; providers: readonly SignInProviderConfig[] }>,
): readonly string[] {
  const known = from.providers.map(({ name }) => name);
  const written = globals.default_sign_in_providers;
  if (written !== undefined) {
    checkNames(written, { known, path: ["default_sign_in_providers"], report: from.report });
    return [...new Set(written)];
  }
  const [first] = known;
  return first === undefined ? [] : first === defaultProviderName || known.length === 1 ? [first] : [];
}

/** Checks the providers of every route. A route that names none needs the defaults to be clear. */
export function checkRouteProviders(
  placed: readonly LocatedRoute[],
  from: Readonly<{
    report: ProblemReporter;
    providers: readonly SignInProviderConfig[];
    defaults: readonly string[];
    requiresSession: (route: LocatedRoute["route"]) => boolean;
  }>,
): void {
  const { report, providers } = from;
  const known = providers.map(({ name }) => name);
  let isUnclear = false;
  for (const { route, path } of placed) {
    const names = route.signInProviders;
    if (names !== null) checkNames(names, { known, path: [...path, "sign_in_providers"], report });
    if (names !== null && route.idpClient !== null)
      report.error(
        [...path, "sign_in_providers"],
        "is written beside idp_client_id, which is a client of the default provider",
        "keep one of them; another client can be an entry of the global sign_in_providers",
      );
    if (route.idpClient !== null && known.length > 0 && !known.includes(defaultProviderName))
      report.error(
        [...path, "idp_client_id"],
        "is a client of the provider of the idp_ keys, and there is none",
        "make the client an entry of the global sign_in_providers, and name it in the route's sign_in_providers",
        "key",
      );
    isUnclear ||= names === null && known.length > 1 && from.defaults.length === 0 && from.requiresSession(route);
    checkBearerProvider({ route, path }, names ?? from.defaults, from);
  }
  const [example = ""] = known;
  if (isUnclear)
    report.error(
      ["default_sign_in_providers"],
      "is missing, so it is not clear where people sign in for routes without sign_in_providers",
      `write the providers of such routes, for example [${example}]`,
      "key",
    );
}

/** Tokens of the provider are accepted from the first one of the route alone. */
function checkBearerProvider(
  { route, path }: Pick<LocatedRoute, "route" | "path">,
  names: readonly string[],
  { report, providers }: Readonly<{ report: ProblemReporter; providers: readonly SignInProviderConfig[] }>,
): void {
  const { bearer } = route;
  if (bearer === null || bearer.format === "jwt") return;
  const first = providers.find(({ name }) => name === names[0]);
  if (first?.provider === "github")
    report.error(
      [...path, "bearer_token_format"],
      "GitHub issues no tokens that prove for which application they were issued",
      "use jwt with identity_providers, or put another provider first in sign_in_providers",
    );
  else if (names.length > 1)
    report.warn(
      [...path, "bearer_token_format"],
      `accepts tokens of ${names[0]} only, the first of the route's providers`,
      "give callers with other tokens a route of their own",
    );
}

function checkNames(
  names: readonly string[],
  { known, path, report }: Readonly<{ known: readonly string[]; path: Path; report: ProblemReporter }>,
): void {
  if (names.length === 0) report.error(path, "names no provider", "name one, or remove the key");
  for (const [i, name] of names.entries()) {
    if (!known.includes(name))
      report.error(
        [...path, i],
        `${name} is not a sign-in provider`,
        known.length === 0 ? "add it to the global sign_in_providers" : `write some of ${known.join(", ")}`,
      );
    else if (names.indexOf(name) !== i) report.error([...path, i], `${name} is named twice`, "keep one of them");
  }
}

/** A SCIM client or directory of a provider that does not exist would match no one, and deny nothing. */
export function checkScimProviders(
  globals: Globals,
  { report, providers }: Readonly<{ report: ProblemReporter; providers: readonly SignInProviderConfig[] }>,
): void {
  const names = providers.map(({ name }) => name);
  const remedy = names.length === 0 ? "add it to sign_in_providers" : `write one of ${names.join(", ")}`;
  const check = (path: readonly string[], provider: string | null): void => {
    if (provider !== null && !names.includes(provider))
      report.error(path, `${provider} is not a sign-in provider`, remedy);
  };
  for (const { name, provider } of globals.scim_clients) check(["scim_clients", name, "provider"], provider);
  for (const { name, signInProvider } of globals.directories)
    check(["directories", name, "sign_in_provider"], signInProvider);
}

/**
 * Hash: the identifier of a configuration in decision records, and its redacted body.
 *
 * - Pure.
 * - The body is JSON with sorted keys of everything that can change a node's behaviour, without secrets (redact.ts).
 * - The hash is the SHA-256 of the body, so each can be checked against the other.
 * - Source locations are left out, because a comment must not change the hash.
 * - The names of the file and of the node are left out, so nodes with the same configuration share a hash.
 */
import { createHash } from "node:crypto";
import { type ConfigHash, parseConfigHash } from "../events/index.ts";
import { plainBranding } from "./branding.ts";
import type { Config } from "./config.ts";
import { secretDigest, secretPathsIn, withoutSecrets } from "./redact.ts";
import { globalKeys, routeKeys } from "./schema/schema.ts";
import { defaultProviderName } from "./values/sign-in-provider-values.ts";

export type Unhashed = Omit<Config, "hash">;

const secretPaths = [...secretPathsIn(globalKeys), ...secretPathsIn(routeKeys).map((path) => `routes.*.${path}`)];

export function hashConfig(config: Unhashed): ConfigHash {
  return parseConfigHash(createHash("sha256").update(canonicalConfig(config)).digest("hex"));
}

/** The redacted body as canonical JSON; safe to store and to show. */
export function canonicalConfig(config: Unhashed): string {
  return canonicalJson(withoutSecrets(bodyOf(config), secretPaths, secretDigest(config.sharedSecret)));
}

/** Kinds of sinks that were added later are left out if there are none. */
function auditBodyOf({
  files,
  postgres,
  webhooks,
  otlp,
  s3,
  ...audit
}: Unhashed["audit"]): Readonly<Record<string, unknown>> {
  return {
    ...audit,
    files: files.map(({ rotation, ...file }) => (rotation === null ? file : { ...file, rotation })),
    ...(postgres === null ? {} : { postgres }),
    ...(webhooks.length === 0 ? {} : { webhooks }),
    ...(otlp.length === 0 ? {} : { otlp }),
    ...(s3.length === 0 ? {} : { s3 }),
  };
}

/** The fields of a configuration that its body contains, with secrets not yet redacted. */
function bodyOf(config: Unhashed): Readonly<Record<string, unknown>> {
  const {
    file: _file,
    nodeName: _nodeName,
    settings: _settings,
    jwtEndpoint,
    signOutToRoutes,
    dnsLookupFamily,
    ...rest
  } = config;
  const { signInProviders, defaultSignInProviders, branding, operators, viewers, stepUp, ...shared } = rest;
  const named = signInProviders.filter(({ name }) => name !== defaultProviderName);
  return {
    ...shared,
    // Settings that were added later are left out at their defaults, so a configuration without them keeps its hash.
    ...(canonicalJson(branding) === canonicalJson(plainBranding) ? {} : { branding }),
    ...(operators.length === 0 ? {} : { operators }),
    ...(viewers.length === 0 ? {} : { viewers }),
    ...(stepUp.maxAgeMs === 600_000 && stepUp.authTime === "required" ? {} : { stepUp }),
    ...(jwtEndpoint ? { jwtEndpoint } : {}),
    ...(signOutToRoutes ? { signOutToRoutes } : {}),
    ...(dnsLookupFamily === "V4_PREFERRED" ? {} : { dnsLookupFamily }),
    // The provider of the `idp_` keys is in `idp`.
    ...(named.length === 0 ? {} : { signInProviders: named, defaultSignInProviders }),
    audit: auditBodyOf(config.audit),
    hash: undefined,
    routes: config.routes.map(
      ({ location: _place, policy, shadowPolicy, subPolicies, idpClient, logoUrl, signInProviders, ...shown }) => {
        const { owner, discoverable, routeGroups, requestAccess, ...route } = shown;
        return {
          ...route,
          ...(logoUrl === "" ? {} : { logoUrl }),
          ...(owner === "" ? {} : { owner }),
          ...(discoverable ? { discoverable } : {}),
          ...(routeGroups.length === 0 ? {} : { routeGroups }),
          ...(requestAccess === null ? {} : { requestAccess }),
          policy: policy === null ? null : policy.ppl,
          shadowPolicy: shadowPolicy === null ? null : shadowPolicy.ppl,
          // Left out if absent, so that a configuration without them keeps its hash.
          ...(subPolicies.length === 0
            ? {}
            : {
                subPolicies: subPolicies.map((sub) => ({
                  ...sub,
                  policy: sub.policy === null ? null : sub.policy.ppl,
                })),
              }),
          ...(idpClient === null ? {} : { idpClient }),
          ...(signInProviders === null ? {} : { signInProviders }),
          // The body holds the name of a token file, not the token, so rotating the token does not change the hash.
          kubernetes:
            route.kubernetes === null ? null : (route.kubernetes.tokenFile ?? { token: route.kubernetes.token }),
        };
      },
    ),
  };
}

/** JSON with sorted keys. Sets become sorted lists, and URLs text; undefined is omitted. */
export function canonicalJson(value: unknown): string {
  if (value instanceof URL) return JSON.stringify(value.href);
  if (value instanceof Set) return canonicalJson([...value].sort());
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString("base64url"));
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null);
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(",")}}`;
}

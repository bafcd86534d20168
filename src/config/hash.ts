/**
 * Hash: what identifies a configuration in decision records, and its redacted body.
 *
 * Pure. The canonical form is JSON with sorted keys of everything that can change what a node does, without its secrets
 * (redact.ts). The hash is that of the body, so the two can be checked against each other. Left out: source locations
 * (a comment must not change the hash), the file's name, and the node's own name, so that nodes with the same
 * configuration share a hash.
 */
import { createHash } from "node:crypto";
import { type ConfigHash, parseConfigHash } from "../events/index.ts";
import type { Config } from "./config.ts";
import { secretDigest, secretPathsIn, withoutSecrets } from "./redact.ts";
import { globalKeys, routeKeys } from "./schema/schema.ts";

export type Unhashed = Omit<Config, "hash">;

const secretPaths = [...secretPathsIn(globalKeys), ...secretPathsIn(routeKeys).map((path) => `routes.*.${path}`)];

export function hashConfig(config: Unhashed): ConfigHash {
  return parseConfigHash(createHash("sha256").update(canonicalConfig(config)).digest("hex"));
}

/** The redacted body as canonical JSON; safe to store and to show. */
export function canonicalConfig(config: Unhashed): string {
  return canonicalJson(withoutSecrets(bodyOf(config), secretPaths, secretDigest(config.sharedSecret)));
}

/** What of a configuration is in its body, its secrets still in it. */
function bodyOf(config: Unhashed): Readonly<Record<string, unknown>> {
  const { file: _file, nodeName: _nodeName, jwtEndpoint, signOutToRoutes, dnsLookupFamily, ...shared } = config;
  return {
    ...shared,
    // Left out where they are as they were before there was a choice, so that a configuration without them keeps its
    // hash.
    ...(jwtEndpoint ? { jwtEndpoint } : {}),
    ...(signOutToRoutes ? { signOutToRoutes } : {}),
    ...(dnsLookupFamily === "V4_PREFERRED" ? {} : { dnsLookupFamily }),
    hash: undefined,
    routes: config.routes.map(
      ({ location: _place, policy, shadowPolicy, subPolicies, idpClient, logoUrl, ...route }) => ({
        ...route,
        ...(logoUrl === "" ? {} : { logoUrl }),
        policy: policy === null ? null : policy.ppl,
        shadowPolicy: shadowPolicy === null ? null : shadowPolicy.ppl,
        // Left out where nothing is said, so that a configuration without them keeps the hash it had.
        ...(subPolicies.length === 0
          ? {}
          : {
              subPolicies: subPolicies.map((sub) => ({ ...sub, policy: sub.policy === null ? null : sub.policy.ppl })),
            }),
        ...(idpClient === null ? {} : { idpClient }),
        // A token that rotates in its file is the same configuration.
        kubernetes:
          route.kubernetes === null ? null : (route.kubernetes.tokenFile ?? { token: route.kubernetes.token }),
      }),
    ),
  };
}

/** JSON with sorted keys; sets are sorted lists, URLs their text, undefined is left out. */
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

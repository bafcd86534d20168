/**
 * Hash: what identifies a configuration in decision records, and its redacted body.
 *
 * Pure. The canonical form is JSON with sorted keys of everything that can change what a node does, each secret replaced
 * by a keyed digest: equal secrets are seen to be equal, and nothing can be guessed from the digest without
 * `shared_secret`. Left out: places (a comment must not change the hash), the file's name, and the node's own name, so
 * that nodes with the same configuration share a hash.
 */
import { createHash, createHmac, hkdfSync } from "node:crypto";
import { type ConfigHash, parseConfigHash } from "../events/index.ts";
import type { Config } from "./config.ts";

export type Unhashed = Omit<Config, "hash">;

export function hashConfig(config: Unhashed): ConfigHash {
  return parseConfigHash(createHash("sha256").update(canonicalConfig(config)).digest("hex"));
}

/** The redacted body as canonical JSON; safe to store and to show. */
export function canonicalConfig(config: Unhashed): string {
  const key = Buffer.from(hkdfSync("sha256", config.sharedSecret, new Uint8Array(), "cardea configuration digest", 32));
  const digest = (secret: string | Uint8Array | null): string | null =>
    secret === null ? null : `hmac-sha256:${createHmac("sha256", key).update(secret).digest("base64url")}`;
  const digestEach = (map: Readonly<Record<string, string>>): Readonly<Record<string, string | null>> =>
    Object.fromEntries(Object.entries(map).map(([name, value]) => [name, digest(value)]));
  const digestKey = ({ cert, key: secret }: Readonly<{ cert: string; key: string }>) => ({ cert, key: digest(secret) });
  const { file: _file, nodeName: _nodeName, jwtEndpoint, signOutToRoutes, dnsLookupFamily, ...shared } = config;
  return canonicalJson({
    ...shared,
    // Left out where they are as they were before there was a choice, so that a configuration without them keeps its hash.
    ...(jwtEndpoint ? { jwtEndpoint } : {}),
    ...(signOutToRoutes ? { signOutToRoutes } : {}),
    ...(dnsLookupFamily === "V4_PREFERRED" ? {} : { dnsLookupFamily }),
    hash: undefined,
    sharedSecret: digest(config.sharedSecret),
    sharedSecretPrevious: digest(config.sharedSecretPrevious),
    cookieSecret: digest(config.cookieSecret),
    cookieSecretPrevious: digest(config.cookieSecretPrevious),
    signingKey: digest(config.signingKey),
    signingKeyPrevious: digest(config.signingKeyPrevious),
    certificates: config.certificates.map(digestKey),
    autocert:
      config.autocert === null
        ? null
        : {
            ...config.autocert,
            eab: config.autocert.eab && { ...config.autocert.eab, macKey: digest(config.autocert.eab.macKey) },
          },
    idp:
      config.idp === null
        ? null
        : {
            ...config.idp,
            clientSecret: digest(config.idp.clientSecret),
            requestParams: digestEach(config.idp.requestParams),
          },
    store:
      config.store.type === "postgres"
        ? { type: "postgres", connectionString: digest(config.store.connectionString) }
        : config.store,
    metrics: {
      ...config.metrics,
      basicAuth: digest(config.metrics.basicAuth),
      tls: config.metrics.tls === null ? null : digestKey(config.metrics.tls),
    },
    tracing: config.tracing === null ? null : { ...config.tracing, headers: digestEach(config.tracing.headers) },
    decisionApi: config.decisionApi && {
      ...config.decisionApi,
      tls: config.decisionApi.tls === null ? null : digestKey(config.decisionApi.tls),
      keys: digestEach(config.decisionApi.keys),
    },
    dataSources: config.dataSources.map((source) => ({ ...source, headers: digestEach(source.headers) })),
    nats: config.nats === null ? null : { ...config.nats, password: digest(config.nats.password) },
    broker: { ...config.broker, tls: config.broker.tls === null ? null : digestKey(config.broker.tls) },
    routes: config.routes.map(({ place: _place, policy, shadowPolicy, subPolicies, idpClient, logoUrl, ...route }) => ({
      ...route,
      ...(logoUrl === "" ? {} : { logoUrl }),
      policy: policy === null ? null : policy.ppl,
      shadowPolicy: shadowPolicy === null ? null : shadowPolicy.ppl,
      // Left out where nothing is said, so that a configuration without them keeps the hash it had.
      ...(subPolicies.length === 0
        ? {}
        : { subPolicies: subPolicies.map((sub) => ({ ...sub, policy: sub.policy === null ? null : sub.policy.ppl })) }),
      ...(idpClient === null ? {} : { idpClient: { ...idpClient, clientSecret: digest(idpClient.clientSecret) } }),
      setRequestHeaders: digestEach(route.setRequestHeaders),
      // A token that rotates in its file is the same configuration.
      kubernetes:
        route.kubernetes === null ? null : (route.kubernetes.tokenFile ?? { token: digest(route.kubernetes.token) }),
      tls: { ...route.tls, clientKey: digest(route.tls.clientKey) },
    })),
  });
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

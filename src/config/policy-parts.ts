/**
 * Policy parts: the part of a configuration that decides who may use a route, without the parts needed to run one.
 *
 * - Pure.
 * - Certificates, secrets, stores, brokers and the identity provider are left out. So policies can be evaluated and
 *   tested on a machine that has none of them.
 * - Everything that identifies callers stays: routes, client authorities, token issuers, data sources.
 */
import type { ConfigSource } from "./source/overrides.ts";

const globalParts: ReadonlySet<string> = new Set([
  "routes",
  "policy",
  "runtime_flags",
  "data_dir",
  "data_sources",
  "downstream_mtls",
  "groups_from_claim",
  "identity_providers",
  "bearer_token_format",
  "idp_access_token_allowed_audiences",
  "jwt_claims_headers",
  "jwt_groups_filter",
  "pass_identity_headers",
]);

/** Keys of a route that are left out: key material for its upstream, and its own sign-in client. */
const routeMaterial =
  /^(?:tls_(?!downstream_client_ca)|kubernetes_service_account_token|idp_client_|sign_in_providers$)/;

/** Placeholders for the parts that are left out. The process neither calls them nor listens on them. */
const standIns = {
  services: "all",
  insecure_server: true,
  address: "127.0.0.1:0",
  authenticate_service_url: "https://sign-in.invalid",
  idp_provider: "oidc",
  idp_provider_url: "https://provider.invalid",
  idp_client_id: "none",
} as const;

export function policyPartsOf({ value, locations }: ConfigSource): ConfigSource {
  const parts = Object.entries(value).filter(([key]) => globalParts.has(key));
  const routes = parts.map(([key, inner]) => [key, key === "routes" || key === "policy" ? routesOf(inner) : inner]);
  return { value: { ...Object.fromEntries(routes), ...standIns }, locations };
}

function routesOf(list: unknown): unknown {
  if (!Array.isArray(list)) return list;
  return (list as readonly unknown[]).map((route) =>
    typeof route === "object" && route !== null && !Array.isArray(route)
      ? Object.fromEntries(Object.entries(route).filter(([key]) => !routeMaterial.test(key)))
      : route,
  );
}

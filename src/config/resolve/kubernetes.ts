/**
 * Kubernetes settings of a route: the service account's token, and the keys that such a route may not have.
 *
 * Pure. Refuses routes that would act with the service account's own rights, and routes that set the impersonated user
 * themselves: only the proxy may do that.
 */
import type { RouteConfig } from "../config.ts";
import { isLoopback } from "../values/network-values.ts";
import type { RouteContext } from "./route-context.ts";

const inline = "kubernetes_service_account_token";
const inFile = "kubernetes_service_account_token_file";

export function resolveKubernetes({ route, report, material }: RouteContext): RouteConfig["kubernetes"] {
  const found = material.textOrFile(route, { key: inline, secrecy: "secret" });
  if (found === null) return null;
  const key = found.path[0] === inFile ? inFile : inline;
  const token = found.text.trim();
  if (!/^[\x21-\x7e]{1,16384}$/.test(token)) {
    report.error([key], "is not a token", "write the token alone, as kubectl create token prints it");
    return null;
  }
  const refuse = (named: string, problem: string, remedy: string): void =>
    report.error([named], problem, remedy, "key");
  if (route.to === undefined || route.to.some(({ url }) => !/^https?:$/.test(url.protocol)))
    refuse(key, "has no API server to call", "write its https URL under to");
  if (route.allow_public_unauthenticated_access)
    refuse(
      "allow_public_unauthenticated_access",
      "would let anyone act, and there would be no user to name to the API server",
      "say under policy who may use the route",
    );
  for (const [i, { url }] of (route.to ?? []).entries()) {
    if (url.protocol === "http:" && !isLoopback(url.hostname))
      report.warn(
        ["to", i],
        "is plain HTTP, so anyone on the network path can read the service account's token",
        "use https",
      );
  }
  for (const name of Object.keys(route.set_request_headers)) {
    if (/^(?:authorization|impersonate-.*)$/i.test(name))
      report.error(
        ["set_request_headers", name],
        "tells the API server which user to act for, and on such a route only the proxy may do that",
        "remove it",
        "key",
      );
  }
  return { token, tokenFile: key === inFile ? (route[inFile] ?? null) : null };
}

/**
 * Upstream changes: the headers that Envoy sets and removes on a permitted request, so that the upstream receives what
 * the proxy would send. Pure.
 *
 * - Sets the caller's identity, as far as the route passes it.
 * - Removes every other header that a server could mistake for it, and Cardea's own credentials.
 * - `X-Forwarded-*`, `X-Envoy-*` and the request id are left to Envoy.
 */
import type { Config } from "../../config/index.ts";
import { isOwnAuthorization, stripReferer } from "../headers/upstream-headers.ts";
import { ownCookies } from "../message/cookies.ts";
import { foldName, isReservedName } from "../message/header-names.ts";
import type { ApiDecision } from "./api-decision.ts";

export type UpstreamChanges = Readonly<{
  /** Lowercase names; each replaces every header of its name. */
  set: readonly (readonly [string, string])[];
  removed: readonly string[];
  /** Query parameters to remove. */
  removedParameters: readonly string[];
}>;

/** Always removed: the proxy sets it only from an assertion that it has verified itself. */
const neverTheCallers = "x-pomerium-jwt-assertion-for";

export function upstreamChanges(
  { identity, request, route }: Extract<ApiDecision, { type: "permit" }>,
  { jwtClaimsHeaders, cookie }: Pick<Config, "jwtClaimsHeaders" | "cookie">,
): UpstreamChanges {
  const set = new Map<string, string>();
  const removed = new Set<string>();
  for (const [name, value] of identity) {
    if (value === "") removed.add(name.toLowerCase());
    else set.set(name.toLowerCase(), value);
  }
  removed.add(neverTheCallers);
  const claims = new Set(Object.keys(jwtClaimsHeaders).map(foldName));
  for (const [name, value] of Object.entries(request.headers)) {
    if (set.has(name)) continue;
    const folded = foldName(name);
    if (claims.has(folded) || (isReservedName(folded) && !isEnvoys(folded))) removed.add(name);
    else if (name === "authorization" && isOwnAuthorization(route, value)) removed.add(name);
    else if (name === "cookie") replaceOrRemove(name, value, ownCookies(cookie.name).strip(value));
    else if (name === "referer") replaceOrRemove(name, value, stripReferer(value));
  }

  function replaceOrRemove(name: string, before: string, after: string | undefined): void {
    if (after === undefined) removed.add(name);
    else if (after !== before) set.set(name, after);
  }

  return { set: [...set], removed: [...removed], removedParameters: sessionParameters(request.search) };
}

function isEnvoys(folded: string): boolean {
  return folded.startsWith("xforwarded") || folded.startsWith("xenvoy") || folded === "xrequestid";
}

/** Names of session parameters, still encoded as in the query, because Envoy compares them so. */
function sessionParameters(search: string): readonly string[] {
  if (search.length < 2) return [];
  const names = search
    .slice(1)
    .split("&")
    .map((pair) => pair.split("=", 1)[0] ?? "");
  return names.filter((name) => [...new URLSearchParams(name).keys()][0]?.toLowerCase() === "pomerium_session");
}

/**
 * Requestable routes: which route a person may ask for, and what became of their request. Pure, except for its
 * dependencies.
 *
 * - A route that is not `discoverable` exists only for people that it has refused. Their page has a proof of that: a
 *   MAC over the route and the person, which counts for a day. To everyone else it does not exist.
 * - A page on a route's host shares its origin with an application. So it says about other hosts' routes only that
 *   there is a request, and never what was written.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { RouteConfig, RouteRequestAccess } from "../../../config/index.ts";
import { type AccessRequest, accessRequestsFrom, type UserId } from "../../../events/index.ts";
import type { RequestableRoute } from "../../access-requests.ts";
import type { Principal } from "../../authorize/decision.ts";
import { type AuthDeps, currentKey, nowS } from "../context.ts";

export const accessPath = "/.pomerium/access";
const proofS = 24 * 3_600;

type Proving = Pick<AuthDeps, "settings" | "clock">;
type About = Readonly<{ routeId: string; userId: UserId }>;

/** Nodes enforce an end by their own clock, about a second before the log has the event of it. */
export function requestStatusAt(
  { status, until }: Pick<AccessRequest, "status" | "until">,
  now: number,
): AccessRequest["status"] {
  return status === "approved" && until !== null && until <= now ? "expired" : status;
}

/** That this route has refused this person. */
export function refusalProof(deps: Proving, about: About): string {
  const at = nowS(deps as AuthDeps);
  return `${at.toString(36)}.${macOf(currentKey(deps as AuthDeps), about, at)}`;
}

function isProof(deps: Proving, proof: string, about: About): boolean {
  const [written = "", mac = "", ...rest] = proof.split(".");
  const at = Number.parseInt(written, 36);
  const now = nowS(deps as AuthDeps);
  if (rest.length > 0 || !Number.isSafeInteger(at) || now < at - 60 || now > at + proofS) return false;
  return deps.settings.urlKeys.some((key) => sameText(mac, macOf(key, about, at)));
}

function macOf(key: Uint8Array, { routeId, userId }: About, at: number): string {
  return createHmac("sha256", key)
    .update(JSON.stringify(["access request", routeId, userId, at]))
    .digest("base64url");
}

function sameText(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}

/** Where a person who was refused asks for the route; null: they cannot, or it would not help. */
export function accessUrlOf(
  deps: Proving & Pick<AuthDeps, "replica">,
  { id: routeId, requestAccess }: Pick<RouteConfig, "id" | "requestAccess">,
  reader: Readonly<{ principal: Principal; refusal: string | null; to: string | null }>,
): string | null {
  const { principal, refusal, to } = reader;
  if (requestAccess === null || deps.replica.projection.level < accessRequestsFrom) return null;
  if (principal.groups.has(requestAccess.group)) return null;
  const query = new URLSearchParams({
    route: routeId,
    proof: refusalProof(deps, { routeId, userId: principal.userId }),
  });
  if (refusal !== null) query.set("refusal", refusal);
  if (to !== null) query.set("to", to);
  return `${accessPath}?${query}`;
}

/** The route that a person may ask for; undefined: there is none for them. */
export function findRequestable(
  deps: AuthDeps,
  { userId }: Pick<Principal, "userId">,
  { routeId, proof }: Readonly<{ routeId: string; proof: string }>,
): RequestableRoute | undefined {
  if (deps.replica.projection.level < accessRequestsFrom) return undefined;
  const route = deps.requestable?.find(routeId);
  if (route === undefined) return undefined;
  return route.discoverable || isProof(deps, proof, { routeId, userId }) ? route : undefined;
}

/** The newest request of a person about a route; undefined: this node knows none. */
export function newestRequest(
  { replica }: Pick<AuthDeps, "replica">,
  { userId }: Pick<Principal, "userId">,
  routeId: string,
): AccessRequest | undefined {
  let newest: AccessRequest | undefined;
  for (const request of replica.projection.accessRequests.of(userId))
    if (request.routeId === routeId && (newest === undefined || request.requestedAt >= newest.requestedAt))
      newest = request;
  return newest;
}

/** The names of those who decide, as the person may see them: groups. Empty: only single people are named. */
export function approverNames({ replica }: Pick<AuthDeps, "replica">, { approvers }: RouteRequestAccess): string[] {
  return approvers
    .filter((entry) => entry.startsWith("group:"))
    .map((entry) => entry.slice("group:".length))
    .map((id) => replica.projection.group(id as never)?.name ?? id);
}

/** Whether a route is on this host. */
export function isOnHost({ host }: Pick<RouteConfig, "host">, hostname: string): boolean {
  if (!host.includes("*")) return host === hostname;
  const pattern = host.split("*").map((part) => part.replace(/[^A-Za-z0-9-]/g, "\\$&"));
  return new RegExp(`^${pattern.join(".*")}$`).test(hostname);
}

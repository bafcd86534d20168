/**
 * Operator caller: who may use the operator API, by a bearer token or the session of a person with a role.
 *
 * A session counts only with `Origin` (or `Sec-Fetch-Site: same-origin`) of the authenticate host and, for changes, a
 * JSON body, which no form on another site can send. Whether the caller's role suffices for an
 * operation is decided in roles/authorize-operation.ts.
 */
import type { FastifyRequest } from "fastify";
import { approverOf, type Principal } from "../../auth/index.ts";
import type { RouteRequestAccess } from "../../config/index.ts";
import {
  type AccessDecider,
  type Fact,
  type Stream,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { HomeOutOfReach } from "../../replication/index.ts";
import { describeHome } from "./home-lookup.ts";
import type { OperatorToken } from "./operator-token.ts";
import { grantsOf, type OperatorRole, type RoleEntries, type RoleGrant } from "./roles/operator-roles.ts";
import { type SignInTimes, signInTimesOf } from "./roles/step-up.ts";

export type OperatorPerson = Readonly<{ userId: UserId; subject: string; name: string; email: string }> & SignInTimes;

export type OperatorCaller =
  | Fact<
      "operator",
      {
        /** The actor that the log records. */
        actor: string;
        /** When the token or the session ends, or a membership that may have given the caller a role. */
        until: UnixMs;
        /** The facts behind this decision; none for a token. */
        reads: readonly Stream[];
        /** Empty: the caller has no role, and only decides about access requests. */
        grants: readonly RoleGrant[];
        /** The routes whose access requests the person decides about, and by which right. Absent: none. */
        approves?: ReadonlyMap<string, AccessDecider>;
        /** Who is signed in; absent: a token. */
        person?: OperatorPerson;
      }
    >
  /** `code`: why, where programs tell reasons apart; absent where the sentence is all there is to say. */
  | Fact<
      "refused",
      {
        status: 401 | 403 | 503;
        error: string;
        code?: "home-unreachable" | "role-required" | "role-changed" | "out-of-scope" | "sign-in-again";
        /** The role that would suffice. */
        role?: OperatorRole;
        /** With `sign-in-again`: the address that leads to the identity provider and back. */
        signInUrl?: string;
        /** Who is signed in, and may not do this. */
        userId?: UserId;
        /** The caller, where it has a role that does not suffice. */
        actor?: string;
      }
    >;

/** The routes that people may request access to. */
export type ApprovedRoute = Readonly<{ id: string; requestAccess: RouteRequestAccess }>;

export async function operatorCallerOf(
  request: FastifyRequest,
  options: {
    authenticateOrigin: string;
    roles: RoleEntries;
    verifyToken: (token: string) => Promise<OperatorToken | undefined>;
    signedIn: (
      request: FastifyRequest,
    ) => Promise<Fact<"anonymous", unknown> | Fact<"behind", unknown> | Fact<"signed-in", { principal: Principal }>>;
    /** Absent: none. */
    requestable?: () => readonly ApprovedRoute[];
    /** Null: the home region answers. */
    homeOutOfReach: () => Promise<HomeOutOfReach | null>;
  },
): Promise<OperatorCaller> {
  const { authorization } = request.headers;
  if (authorization !== undefined) {
    // A bearer token counts alone, never together with a cookie.
    const bearer = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
    const token = bearer === undefined ? undefined : await options.verifyToken(bearer);
    return token === undefined
      ? refused(401, "the operator token is not valid, or has expired")
      : {
          type: "operator",
          actor: `operator:${token.name}#${token.tokenId}`,
          until: token.expiresAt,
          reads: [],
          grants: [{ role: token.role, scope: token.routeGroups === null ? null : new Set(token.routeGroups) }],
        };
  }
  const signedIn = await options.signedIn(request);
  if (signedIn.type === "behind") {
    const home = await options.homeOutOfReach();
    return home === null
      ? refused(503, "this node has not read your session from the log yet")
      : { type: "refused", status: 503, error: describeHome(home), code: "home-unreachable" };
  }
  if (signedIn.type === "anonymous") return refused(401, "sign in as an operator, or send an operator token");
  const { principal } = signedIn;
  const grants = grantsOf(principal, options.roles);
  const approves = approvesOf(principal, options.requestable?.() ?? []);
  if (grants.length === 0 && approves.size === 0) {
    const { userId } = principal;
    const error = "you are signed in, but have no role in this installation";
    return { type: "refused", status: 403, error, code: "role-required", role: "viewer", userId };
  }
  const reads = request.method === "GET" || request.method === "HEAD";
  if (!isFromOurPage(request, options.authenticateOrigin, reads ? "read" : "change")) {
    return refused(403, "the request did not come from this installation's own pages", principal.userId);
  }
  if (!reads && !/^application\/json(?:\s*;|$)/i.test(request.headers["content-type"] ?? "")) {
    return refused(403, "changes are sent as application/json", principal.userId);
  }
  return {
    type: "operator",
    actor: `${grants.length === 0 ? "user" : "operator"}:${principal.userId}`,
    until: Math.min(principal.session.expiresAt, principal.groupsUntil ?? Number.POSITIVE_INFINITY) as UnixMs,
    reads: [sessionStream(principal.session.sessionId), userStream(principal.userId)],
    grants,
    ...(approves.size === 0 ? {} : { approves }),
    person: personOf(principal),
  };
}

function approvesOf(principal: Principal, routes: readonly ApprovedRoute[]): ReadonlyMap<string, AccessDecider> {
  const approves = new Map<string, AccessDecider>();
  for (const { id, requestAccess } of routes) {
    const by = approverOf(principal, requestAccess);
    if (by !== null) approves.set(id, by);
  }
  return approves;
}

function personOf(principal: Principal): OperatorPerson {
  const { userId, profile } = principal;
  const { subject = "", name = "", email = "" } = profile ?? {};
  return { userId, subject, name, email, ...signInTimesOf(principal) };
}

/** Requires proof of origin. Only a read may come from the address bar. */
function isFromOurPage(request: FastifyRequest, origin: string, kind: "read" | "change"): boolean {
  const said = request.headers.origin;
  const site = request.headers["sec-fetch-site"];
  if (said !== undefined && said !== origin) return false;
  if (site === undefined) return said === origin;
  return site === "same-origin" || (site === "none" && kind === "read");
}

function refused(status: 401 | 403 | 503, error: string, userId?: UserId): OperatorCaller {
  return { type: "refused", status, error, ...(userId === undefined ? {} : { userId }) };
}

/**
 * Authorization: one decision about one request. The pipeline, the re-decision of open exchanges (admission.ts) and the
 * decision API all use it, so they give the same answer to the same request.
 *
 * - Pure: it gets the projection, policy and lease as arguments. It does not register, record or reply.
 * - `admission.ts` adds the registry of open exchanges; `request-pipeline.ts` and `decision-api/` add waiting, records
 *   and replies.
 */
import {
  type AnnotateDecision,
  type Decision,
  type DecisionRequest,
  type KnownCaller,
  type Principal,
  revokedByRegion,
  sessionIdle,
} from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { UnixMs } from "../../events/index.ts";
import type { Moment } from "../../replication/lease/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Condition } from "../reply/local-reply.ts";
import type { ProxyDeps } from "./dependencies.ts";
import type { CallerIdentifier, CredentialHolder } from "./identify-caller.ts";

/** Policy's decision, with its input. */
export type RequestEvaluation = Readonly<{
  decision: Decision;
  caller: KnownCaller;
  decisionRequest: DecisionRequest;
  now: UnixMs;
}>;

export type RecordAnnotations = ReturnType<AnnotateDecision>;

export type Authorizer = Readonly<{
  /** Whether the lease has expired for longer than the route allows. */
  isStale(route: Pick<RouteConfig, "staleGraceMs">, at: Moment): boolean;
  /** Evaluates policy. Undefined: the projection is behind the credential's link, so the caller is unknown. */
  evaluate(
    route: RouteConfig,
    holder: CredentialHolder,
    decisionRequest: DecisionRequest,
    now: UnixMs,
  ): RequestEvaluation | undefined;
  /**
   * Annotations of the record, in addition to the decision: the trace, and the results of shadow policies.
   * @param answered the decision to describe; usually `evaluation.decision`
   * @param traced adds the trace, whatever the route's setting
   */
  annotate(
    route: RouteConfig,
    holder: CredentialHolder,
    evaluation: RequestEvaluation,
    answered: Parameters<AnnotateDecision>[1],
    traced?: true,
  ): RecordAnnotations;
}>;

export function createAuthorizer(
  deps: Pick<ProxyDeps, "freshness" | "decide" | "annotateDecision" | "idle">,
  resolve: CallerIdentifier["resolve"],
): Authorizer {
  const { freshness } = deps;
  return {
    isStale({ staleGraceMs }, { monotonic, wall }) {
      return freshness.overdueMs(monotonic, wall) > staleGraceMs;
    },

    evaluate(route, holder, decisionRequest, now) {
      const resolved = resolve(holder, route, now);
      if (resolved.type === "behind") return undefined;
      const idleAt = resolved.type === "principal" ? deps.idle.onRoute(route, resolved.principal.session, now) : null;
      const isIdle = idleAt !== null && idleAt <= now;
      const endsAt = earlier(endOnRoute(route, resolved), idleAt);
      const counts = endsAt === null || endsAt > now;
      const { credentialInHeader } = holder;
      const caller = counts ? resolved : { ...(isIdle ? idleSession : olderThanRoute), credentialInHeader };
      const answered = deps.decide({ routeId: route.id, caller, request: decisionRequest, now });
      const decided = counts ? endingBy(endsAt, answered) : answered;
      const why = caller.type === "anonymous" && decided.type !== "permit" ? caller.why : null;
      const isNamed = why === revokedByRegion || why === sessionIdle;
      const decision = isNamed ? { ...decided, reasons: [...decided.reasons, why] } : decided;
      return { decision, caller, decisionRequest, now };
    },

    annotate(route, holder, { caller, decisionRequest, now }, answered, traced) {
      const principal =
        caller.type === "principal" && caller.principal.session.expiresAt > now ? caller.principal : null;
      const session = holder.handle ?? null;
      const question = { routeId: route.id, principal, session, request: decisionRequest, now };
      return deps.annotateDecision(traced === undefined ? question : { ...question, wantsTrace: traced }, answered);
    },
  };
}

const olderThanRoute = { type: "anonymous", why: "session-older-than-route-allows" } as const;

const idleSession = { type: "anonymous", why: sessionIdle } as const;

function earlier(a: UnixMs | null, b: UnixMs | null): UnixMs | null {
  return a === null ? b : b === null || a < b ? a : b;
}

/** When the caller's session stops counting on the route (`session_lifetime`); null: when it expires. */
function endOnRoute({ sessionLifetimeMs }: RouteConfig, caller: KnownCaller): UnixMs | null {
  if (sessionLifetimeMs === 0 || caller.type !== "principal") return null;
  return (caller.principal.session.issuedAt + sessionLifetimeMs) as UnixMs;
}

/** The decision, to be repeated at this time or before. */
function endingBy(endsAt: UnixMs | null, decision: Decision): Decision {
  if (endsAt === null || (decision.until !== null && decision.until <= endsAt)) return decision;
  return { ...decision, until: endsAt };
}

/** The request as policy sees it. @param host the host that the route publishes */
export function decisionRequestOf(
  request: CanonicalRequest,
  scheme: "http" | "https",
  host: string,
  ip: string,
  clientCertificate: DecisionRequest["clientCertificate"],
): DecisionRequest {
  return {
    method: request.method,
    scheme,
    host,
    rawPath: request.rawPath,
    path: request.path,
    query: request.search.slice(1),
    headers: request.headers,
    ip,
    clientCertificate,
  };
}

/** The parts of a denial that determine its reply. */
type Denial = Readonly<
  { type: "signin"; reasons: readonly string[] } | { type: "deny"; status: number; reasons: readonly string[] }
>;

export function conditionOfDenial(denial: Denial): Condition {
  if (denial.type === "signin") return { type: "no-session", reasons: denial.reasons };
  if (denial.status === 404) return { type: "no-route" };
  if (denial.status === 503) return { type: "unknown", why: "data" };
  return { type: "no-right", status: denial.status, reasons: denial.reasons };
}

/** Why no decision could be made. */
export type UnavailableReason = "lease" | "behind" | "provider" | "audit";

/** Reasons in the records of decisions made without policy. Wire names. */
export const noRouteReason = "route-not-found";
export const invalidBearerReason = "bearer-token-invalid";
export const crossSiteReason = "websocket-origin";

export function reasonOfUnavailable(why: UnavailableReason): string {
  return why === "lease" ? "no-lease" : why;
}

/** The known person behind a caller; null: anonymous. */
export function principalOf(caller: KnownCaller): Principal | null {
  return caller.type === "principal" ? caller.principal : null;
}

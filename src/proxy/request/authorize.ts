/**
 * Authorization: one decision about one request. The pipeline, the re-decision of open exchanges (admission.ts) and the
 * decision API decide here, so that all three give the same answer to the same request.
 *
 * - Pure: the projection, policy and the lease are given to it. It registers, records and answers nothing.
 * - `admission.ts` adds the registry of open exchanges; `request-pipeline.ts` and `decision-api/` add waiting, records
 *   and replies.
 */
import type { AnnotateDecision, Decision, DecisionRequest, KnownCaller, Principal } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { UnixMs } from "../../events/index.ts";
import type { Moment } from "../../replication/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Condition } from "../reply/local-reply.ts";
import type { ProxyDeps } from "./dependencies.ts";
import type { CallerIdentifier, CredentialHolder } from "./identify-caller.ts";

/** Policy's answer, with what it was asked. */
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
  /** Asks policy. Undefined: the projection is behind what the credential needs, so nothing is known of the caller. */
  evaluate(
    route: RouteConfig,
    holder: CredentialHolder,
    decisionRequest: DecisionRequest,
    now: UnixMs,
  ): RequestEvaluation | undefined;
  /**
   * What the record says beside the answer: the trace, and what shadow policies say.
   * @param answered the answer to describe; usually `evaluation.decision`
   * @param traced the trace is wanted whatever the route says
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
  deps: Pick<ProxyDeps, "freshness" | "decide" | "annotateDecision">,
  resolve: CallerIdentifier["resolve"],
): Authorizer {
  const { freshness } = deps;
  return {
    isStale({ staleGraceMs }, { monotonic, wall }) {
      return freshness.overdueMs(monotonic, wall) > staleGraceMs;
    },

    evaluate(route, holder, decisionRequest, now) {
      const caller = resolve(holder, route, now);
      if (caller.type === "behind") return undefined;
      const decision = deps.decide({ routeId: route.id, caller, request: decisionRequest, now });
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

/** The request as policy sees it. @param host as the route publishes it */
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

/** As much of a denial as tells its reply. */
type Denial = Readonly<
  { type: "signin"; reasons: readonly string[] } | { type: "deny"; status: number; reasons: readonly string[] }
>;

export function conditionOfDenial(denial: Denial): Condition {
  if (denial.type === "signin") return { type: "no-session", reasons: denial.reasons };
  if (denial.status === 404) return { type: "no-route" };
  if (denial.status === 503) return { type: "unknown", why: "data" };
  return { type: "no-right", status: denial.status, reasons: denial.reasons };
}

/** Why nothing could be decided. */
export type UnavailableReason = "lease" | "behind" | "provider" | "audit";

/** Reasons in records of what was decided without policy. Wire names. */
export const noRouteReason = "route-not-found";
export const invalidBearerReason = "bearer-token-invalid";
export const crossSiteReason = "websocket-origin";

export function reasonOfUnavailable(why: UnavailableReason): string {
  return why === "lease" ? "no-lease" : why;
}

/** The person that a caller is known to be. */
export function principalOf(caller: KnownCaller): Principal | null {
  return caller.type === "principal" ? caller.principal : null;
}

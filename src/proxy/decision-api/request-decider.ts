/**
 * Request decider: one decision about a request that another proxy or service carries.
 *
 * - Routes, lease, credentials and policy are the proxy's own (request/authorize.ts), so the proxy would have made the
 *   same decision.
 * - It keeps nothing open: the other side has the connection, and detects a revocation by its next query.
 * - A decision that had to wait is made again after the wait. Every decision is recorded, also that a query cannot be
 *   read. Those of a search are not: the search is.
 * - Pure except for the dependencies passed in.
 */
import { type AssertionRules, chainToAuthority, type DecisionRecord, identityTooLarge } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import { momentOf } from "../../replication/runtime/index.ts";
import { assertionRulesOf, replyCarriersOf } from "../headers/assertion-rules.ts";
import { recordedMethod, roundedMs } from "../message/recorded-text.ts";
import { isCheck } from "../observe/authorize-line.ts";
import { describeError } from "../observe/log-text.ts";
import { recordRulesOf, traceIdIn } from "../observe/recorded-request.ts";
import {
  createAuthorizer,
  crossSiteReason,
  decisionRequestOf,
  invalidBearerReason,
  principalOf,
  type RequestEvaluation,
} from "../request/authorize.ts";
import type { ProxyDeps } from "../request/dependencies.ts";
import {
  anonymous,
  type CredentialHolder,
  createCallerIdentifier,
  type Identification,
  type ReachedHandles,
} from "../request/identify-caller.ts";
import { authorityOf, compileRouteTable, scopeOf } from "../routing/route-table.ts";
import { isCrossSite } from "../routing/upgrade-request.ts";
import { compileClientTrusts } from "../tls/client-trust.ts";
import {
  type ApiDecision,
  type DecisionQuery,
  type IdentityHeaders,
  type RouteDecision,
  reasonsOf,
  statusOf,
} from "./api-decision.ts";
import { type MatchedRequest, matchDescribedRequest } from "./described-request.ts";

export type DecisionApiDeps = Pick<
  ProxyDeps,
  | ("config" | "identity" | "clock" | "replica" | "freshness" | "catchUp" | "decide" | "resolveCaller" | "signInOf")
  | ("bearerTokens" | "idle" | "explain" | "annotateDecision" | "credentials" | "assertions" | "render")
  | ("recorder" | "authorizeLog" | "logger")
>;

type TimedQuery = DecisionQuery & Readonly<{ startedAt: number }>;

type Policy = Readonly<{ holder: CredentialHolder; evaluation: RequestEvaluation }>;
/** A decision, with the input of its annotations; null: policy was not evaluated. */
type Judgement =
  | Readonly<{ decision: Exclude<RouteDecision, { type: "unavailable" }>; policy: Policy }>
  | Readonly<{ decision: RouteDecision; policy: null }>;
type Permit = Extract<RouteDecision, { type: "permit" }>;

export type RefusedQuery = Readonly<{ requestId: string; reason: string }>;

export type RequestDecider = Readonly<{
  routes: readonly RouteConfig[];
  decide(query: DecisionQuery): Promise<ApiDecision>;
  /** Records a denial of a query from which no request can be read. */
  recordRefused(refused: RefusedQuery): void;
  /** Whether a route names exactly this host, without a wildcard. */
  isRouteHost(hostname: string): boolean;
  /** Whether a certificate (PEM) chains to an authority for client certificates that some route names. */
  isVerified(leafPem: string): boolean;
}>;

/** Creates a decider for one configuration, that of `deps`. */
export function createRequestDecider(deps: DecisionApiDeps, handles: ReachedHandles): RequestDecider {
  const { config, clock, freshness, replica, recorder } = deps;
  const callers = createCallerIdentifier(deps, handles);
  const authorizer = createAuthorizer(deps, callers.resolve);
  const routes = compileRouteTable(config.routes);
  const trusts = compileClientTrusts(config);
  const hosts = new Set(config.routes.map(({ host }) => host));
  const carriers = replyCarriersOf(config);
  const assertionRules = new WeakMap<RouteConfig, AssertionRules>();

  async function decide(asked: DecisionQuery): Promise<ApiDecision> {
    const answer = await decideQuery(asked);
    // A question about a session is no use of it; a request that another proxy carries is.
    if (asked.subject === "credential" && answer.type === "permit" && answer.principal !== null)
      deps.idle.note(answer.principal.session, momentOf(clock));
    return answer;
  }

  async function decideQuery(asked: DecisionQuery): Promise<ApiDecision> {
    const query: TimedQuery = { ...asked, startedAt: clock.monotonic() };
    const found = matchDescribedRequest(query.described, { routes, config });
    if (found.type !== "matched") {
      if (query.recorded !== false) record(recordOf(query, found), null);
      return found;
    }
    const { matched } = found;
    const identification = await identify(query, matched);
    if (query.isAbandoned?.() === true) return { type: "abandoned" };
    let judgement = judge(query, matched, identification);
    let identity: IdentityHeaders | null = [];
    if (judgement.decision.type === "permit" && query.withIdentity === true) {
      identity = await identityHeadersOf(judgement.decision);
      if (query.isAbandoned?.() === true) return { type: "abandoned" };
      judgement = judge(query, matched, identification); // the wait may have outlasted the lease or the session
      if (identity === null && judgement.decision.type === "permit") judgement = denyTooLarge(judgement);
    }
    if (query.recorded === false) return withIdentity(judgement.decision, identity);
    if (judgement.decision.type === "permit" && matched.route.audit === "strict" && recorder.recordDurably !== null) {
      const decision = annotated(query, judgement);
      const permit = recordOf(query, decision);
      const isDurable = await recorder.recordDurably(permit).then(
        () => true,
        (error: unknown) => {
          const facts = { requestId: query.requestId, error: describeError(error) };
          deps.logger.error(facts, "could not record a decision durably; answered that nothing can be decided");
          return false;
        },
      );
      judgement = isDurable
        ? judge(query, matched, identification)
        : { decision: { type: "unavailable", why: "audit", ...matched }, policy: null };
      if (judgement.decision.type === "permit") {
        logCheck(permit, decision);
        return withIdentity(judgement.decision, identity);
      }
    }
    const decision = annotated(query, judgement);
    record(recordOf(query, decision), decision);
    return withIdentity(decision, identity);
  }

  function identify({ subject, described }: DecisionQuery, { route, request }: MatchedRequest) {
    if (subject === null) return anonymous;
    if (subject === "credential") return callers.identify(request, route, described.ip ?? "");
    if ("token" in subject)
      return callers.fromCredential({ token: subject.token, source: "header" }, scopeOf(route, request));
    const session = "among" in subject ? subject.among(deps.signInOf(route).allows) : subject;
    if (session === undefined) return anonymous;
    return { ...anonymous, handle: { ...session, idpId: "", needs: null, audience: [] } };
  }

  /** Decides by the current projection, lease and clock, in one turn. */
  function judge({ described }: DecisionQuery, matched: MatchedRequest, identification: Identification): Judgement {
    const { route, scheme, request } = matched;
    const without = (decision: RouteDecision): Judgement => ({ decision, policy: null });
    const deny = (reason: string, status = 403): Judgement =>
      without({ type: "deny", status, principal: null, reasons: [reason], ...matched });
    const at = momentOf(clock);
    if (authorizer.isStale(route, at)) return without({ type: "unavailable", why: "lease", ...matched });
    if (identification === "behind" || identification === "provider")
      return without({ type: "unavailable", why: identification, ...matched });
    if (matched.format.kind === "upgrade" && isCrossSite(request, { deps, routes })) return deny(crossSiteReason);
    if (identification === "refused") return deny(invalidBearerReason);
    if (identification === "two-credentials") return deny(identification, 400);
    const holder = identification;
    const now = at.wall;
    // The other proxy terminated TLS, so only its description of the certificate is known.
    const certificate = trusts.of(route)?.judge(described.certificate ?? null, now) ?? null;
    const host = authorityOf(route, request);
    const decisionRequest = decisionRequestOf(request, scheme, host, described.ip ?? "", certificate);
    const evaluation = authorizer.evaluate(route, holder, decisionRequest, now);
    if (evaluation === undefined) return without({ type: "unavailable", why: "behind", ...matched });
    const { decision, caller } = evaluation;
    const { reasons, outcomes: sides } = decision;
    const policy = { holder, evaluation };
    switch (decision.type) {
      case "permit": {
        const { principal } = decision.permit;
        return { decision: { type: "permit", principal, identity: [], reasons, sides, ...matched }, policy };
      }
      case "signin":
        return { decision: { type: "signin", reasons, sides, ...matched }, policy };
      default: {
        const { status } = decision;
        return {
          decision: { type: "deny", status, principal: principalOf(caller), reasons, sides, ...matched },
          policy,
        };
      }
    }
  }

  function annotated({ traced }: DecisionQuery, { decision, policy }: Judgement): RouteDecision {
    if (policy === null) return decision;
    const { holder, evaluation } = policy;
    return {
      ...decision,
      annotations: authorizer.annotate(decision.route, holder, evaluation, evaluation.decision, traced),
    };
  }

  /**
   * The headers by which the proxy would identify the caller to the upstream. Their values are empty if the route
   * passes no identity, so that they replace the caller's own headers of these names. Null: they exceed the bound for
   * headers.
   */
  async function identityHeadersOf({ principal, route, request }: Permit): Promise<IdentityHeaders | null> {
    if (!route.passIdentityHeaders)
      return ["x-pomerium-jwt-assertion", ...Object.keys(config.jwtClaimsHeaders)].map((name) => [name, ""]);
    const rules = assertionRules.get(route) ?? assertionRulesOf(route, carriers);
    assertionRules.set(route, rules); // assertions are cached by this object
    const { hostname } = request;
    const introduced = await deps.assertions.issue(principal, { hostname, mode: route.assertion, rules });
    if (introduced.assertion === null) return null;
    return [["x-pomerium-jwt-assertion", introduced.assertion], ...introduced.claimHeaders];
  }

  function denyTooLarge({ decision, policy }: Judgement): Judgement {
    const { route, scheme, request, format, url } = decision;
    const principal = "principal" in decision ? decision.principal : null;
    const reasons = [identityTooLarge.reason];
    return {
      decision: { type: "deny", status: 403, principal, reasons, sides: null, route, scheme, request, format, url },
      policy,
    };
  }

  // --- records

  function record(record: DecisionRecord, decision: RouteDecision | null): void {
    recorder.record(record);
    logCheck(record, decision);
  }

  function logCheck(record: DecisionRecord, decision: RouteDecision | null): void {
    if (deps.authorizeLog === null || !isCheck(record)) return;
    const principal = decision !== null && "principal" in decision ? decision.principal : null;
    const sides = decision !== null && "sides" in decision ? (decision.sides ?? null) : null;
    const { route = null, request = null } = decision ?? {};
    deps.authorizeLog({ record, sides, principal, route, request });
  }

  function recordOf(query: TimedQuery, decision: Exclude<ApiDecision, { type: "abandoned" }>): DecisionRecord {
    const { described, requestId, startedAt } = query;
    const principal = "principal" in decision ? decision.principal : null;
    const now = clock.monotonic();
    const overdueMs = freshness.overdueMs(now);
    const request = "request" in decision ? decision.request : null;
    const route = "route" in decision ? decision.route : null;
    const rules = recordRulesOf((route ?? config.audit).recorded);
    const sides = "sides" in decision ? (decision.sides ?? null) : null;
    return {
      ...deps.identity,
      at: clock.wall(),
      occasion: "request",
      requestId,
      routeId: route?.id ?? null,
      method: recordedMethod(described.method),
      host: request?.hostname ?? "",
      path: rules.path(request?.rawPath ?? ""),
      ip: described.ip ?? "",
      sessionId: principal?.session.sessionId ?? null,
      userId: principal?.userId ?? null,
      applied: replica.applied,
      configHash: config.hash,
      overdueMs: Number.isFinite(overdueMs) ? overdueMs : null,
      latencyMs: roundedMs(now - startedAt),
      result: decision.type,
      status: statusOf(decision),
      reasons: reasonsOf(decision),
      allow: sides?.allow.recorded,
      deny: sides?.deny.recorded,
      routeName: route === null || route.name === "" ? undefined : route.name,
      userAgent: request === null ? undefined : rules.userAgent(request.headers),
      traceId: request === null ? undefined : traceIdIn(request),
      query: request === null ? undefined : rules.query(request.search),
      headers: request === null ? undefined : rules.headers(request.headers),
      ...("annotations" in decision ? decision.annotations : {}),
    };
  }

  return {
    routes: config.routes,
    decide,
    recordRefused({ requestId, reason }) {
      const query = { described: unreadable, subject: null, requestId, startedAt: clock.monotonic() };
      record(recordOf(query, { type: "bad_request", reason }), null);
    },
    isRouteHost: (hostname) => hosts.has(hostname),
    isVerified: (leaf) =>
      chainToAuthority({ leaf, intermediates: "" }, trusts.authorities.join("\n"), clock.wall()) !== undefined,
  };
}

const unreadable = { method: "", scheme: null, authority: "", target: "", lines: [], ip: null };

function withIdentity(decision: RouteDecision, identity: IdentityHeaders | null): RouteDecision {
  return decision.type === "permit" ? { ...decision, identity: identity ?? [] } : decision;
}

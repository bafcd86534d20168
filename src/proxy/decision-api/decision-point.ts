/**
 * Decision point: one decision about a request that somebody else will carry.
 *
 * Pure but for what it is given. The reading, the routes, the lease, the credentials and the policy are the proxy's own, so that an
 * answer here is the one that the proxy would have acted on. It holds nothing open: whoever asked has the connection, and learns of a
 * revocation with its next question.
 *
 * Always: a request that we would have rewritten before forwarding is refused, because whoever carries it would forward what was
 * never decided about; what waited meanwhile is decided again; every answer is recorded.
 */
import {
  type AnnotateDecision,
  type AssertionRules,
  chainToAuthority,
  type DecisionRecord,
  identityTooLarge,
  type Principal,
  pathReadings,
  type RuleSetOutcomes,
  type SessionHandle,
} from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import { type Fact, type UnixMs, unreachable } from "../../events/index.ts";
import { assertionRulesOf, replyCarriersOf } from "../headers/assertion-rules.ts";
import { type CanonicalRequest, canonicalise } from "../message/canonical-request.ts";
import { recordedMethod, recordedPath, roundedMs } from "../message/recorded-text.ts";
import { isReserved, isSignInPath } from "../message/reserved-paths.ts";
import { isCheck } from "../observe/authorize-line.ts";
import { type ReplyFormat, replyFormatOf } from "../reply/reply-format.ts";
import type { ProxyDeps } from "../request/dependencies.ts";
import {
  anonymous,
  createCallerIdentifier,
  type Identification,
  type ReachedHandles,
} from "../request/identify-caller.ts";
import { authorityOf, compileRoutes, type Routes, scopeOf } from "../routing/route-table.ts";
import { isCrossSite } from "../routing/upgrade-request.ts";
import { compileClientTrusts } from "../tls/client-trust.ts";
import type { PresentedCertificate } from "../tls/presented-certificate.ts";

export type DecisionApiDeps = Pick<
  ProxyDeps,
  | ("config" | "identity" | "clock" | "replica" | "freshness" | "catchUp" | "decide" | "resolveCaller" | "idpIdOf")
  | (
      | "bearerTokens"
      | "explain"
      | "annotateDecision"
      | "credentials"
      | "assertions"
      | "render"
      | "record"
      | "authorizeLog"
      | "recordSafely"
      | "logger"
    )
>;

/** A request as whoever carries it describes it. */
export type DescribedRequest = Readonly<{
  method: string;
  /** Null: whatever the route's is. */
  scheme: "http" | "https" | null;
  authority: string;
  /** Path and query as they came. */
  target: string;
  /** Names and values in turn, without `Host`. */
  lines: readonly string[];
  /** The caller's. Null: it was not said, and where policy asks for it there is no decision. */
  ip: string | null;
  /** What the caller showed in a handshake with whoever carries the request; absent: nothing is known of one. */
  certificate?: PresentedCertificate | null;
}>;

type SessionOf = Pick<SessionHandle, "sessionId" | "userId">;
/**
 * Whose request it is: of whoever holds the credential in it, or one that is named, or of a session that is; `among`: of that one of a
 * person's sessions that counts with an identity provider. Null: nobody's.
 */
export type SubjectSource =
  | "credential"
  | Readonly<{ token: string }>
  | SessionOf
  | Readonly<{ among: (idpId: string) => SessionOf | undefined }>
  | null;

export type DecisionQuery = Readonly<{
  described: DescribedRequest;
  subject: SubjectSource;
  requestId: string;
  /** True: a permit comes with the headers that tell the upstream who asks. */
  withIdentity?: true;
  /** False: nobody will act on the answer, so it is not recorded. */
  recorded?: false;
  /** True once nobody waits for the answer any more. */
  isAbandoned?: () => boolean;
  /** True: whoever asks wants the trace, whatever the answer. */
  traced?: true;
}>;

type TimedQuery = DecisionQuery & Readonly<{ startedAt: number }>;
type MatchedRequest = Readonly<{ route: RouteConfig; request: CanonicalRequest; asked: ReplyFormat; url: URL }>;
/** What policy was asked, and what its record says beside the answer; of `ask` once, when it is the last word. */
type Decided = Readonly<{
  decided: Parameters<AnnotateDecision>;
  sides: RuleSetOutcomes | null;
  annotations?: ReturnType<AnnotateDecision>;
}>;
/** Headers, each a name and a value. */
type Identity = readonly (readonly [string, string])[];
export type ApiDecision =
  | (Fact<"permit", { principal: Principal | null; reasons: readonly string[]; identity: Identity }> &
      MatchedRequest &
      Decided)
  | (Fact<"signin", { reasons: readonly string[] }> & MatchedRequest & Decided)
  | (Fact<"deny", { status: number; principal: Principal | null; reasons: readonly string[] }> &
      MatchedRequest &
      Partial<Decided>)
  | (Fact<"unavailable", { why: "lease" | "behind" | "provider" | "audit" }> & MatchedRequest)
  | Fact<"not_found", { asked: ReplyFormat }>
  | Fact<"bad_request", { reason: string }>
  /** Nobody waited for it. Nothing was decided, so nothing is recorded. */
  | Fact<"abandoned", unknown>;

/** What was decided about a route. */
type Judged = Extract<ApiDecision, MatchedRequest>;
type Permitted = Extract<ApiDecision, { type: "permit" }>;

export type DecisionPoint = Readonly<{
  routes: readonly RouteConfig[];
  decide(question: DecisionQuery): Promise<ApiDecision>;
  /** Whether a route names exactly this host, without a wildcard. */
  isRouteHost(hostname: string): boolean;
  /** Whether a certificate (PEM) leads to an authority of callers that some route knows. */
  isVerified(leafPem: string): boolean;
}>;

/** Under one configuration: that of `deps`. */
export function createDecisionPoint(deps: DecisionApiDeps, reached: ReachedHandles): DecisionPoint {
  const { config, clock, freshness, replica } = deps;
  const who = createCallerIdentifier(deps, reached);
  const routes = compileRoutes(config.routes);
  const trusts = compileClientTrusts(config);
  const hosts = new Set(config.routes.map(({ host }) => host));
  const carriers = replyCarriersOf(config);
  const assertionRules = new WeakMap<RouteConfig, AssertionRules>();

  async function ask(asked: DecisionQuery): Promise<ApiDecision> {
    const question: TimedQuery = { ...asked, startedAt: clock.monotonic() };
    const read = readQuestion(question, { routes, config });
    if (read.type !== "read") {
      if (question.recorded !== false) keep(refusalOf(question, read), null);
      return read;
    }
    const { about } = read;
    const asking = await whoAsks(question, about);
    if (question.isAbandoned?.() === true) return { type: "abandoned" };
    let verdict = judge(question, about, asking);
    if (verdict.type === "permit" && question.withIdentity === true) {
      const identity = await introduce(verdict);
      if (question.isAbandoned?.() === true) return { type: "abandoned" };
      verdict = judge(question, about, asking); // what was waited for may have taken longer than the right to it lasts
      if (verdict.type === "permit") verdict = identity === null ? tooLarge(verdict) : { ...verdict, identity };
    }
    if (question.recorded === false) return verdict;
    if (verdict.type === "permit" && about.route.audit === "strict" && deps.recordSafely !== null) {
      const { identity } = verdict;
      verdict = describe(verdict);
      const kept = await deps.recordSafely(recordOf(question, verdict)).then(
        () => true,
        () => false,
      );
      verdict = kept ? judge(question, about, asking) : { type: "unavailable", why: "audit", ...about };
      if (verdict.type === "permit") return { ...verdict, identity };
    }
    verdict = describe(verdict);
    keep(recordOf(question, verdict), verdict);
    return verdict;
  }

  function keep(record: DecisionRecord, verdict: Judged | null): void {
    deps.record(record);
    if (deps.authorizeLog === null || !isCheck(record)) return;
    const principal = verdict !== null && "principal" in verdict ? verdict.principal : null;
    const sides = verdict !== null && "sides" in verdict ? (verdict.sides ?? null) : null;
    deps.authorizeLog({ record, sides, principal, route: verdict?.route ?? null, request: verdict?.request ?? null });
  }

  function describe(verdict: Judged): Judged {
    return "decided" in verdict && verdict.decided !== undefined
      ? { ...verdict, annotations: deps.annotateDecision(...verdict.decided) }
      : verdict;
  }

  /** As the proxy would tell the upstream. Where the route tells it nothing the headers are empty, so that none of the caller's stands there. */
  async function introduce({ principal, route, request }: Permitted): Promise<Permitted["identity"] | null> {
    if (!route.passIdentityHeaders)
      return ["x-pomerium-jwt-assertion", ...Object.keys(config.jwtClaimsHeaders)].map((name) => [name, ""]);
    const rules = assertionRules.get(route) ?? assertionRulesOf(route, carriers);
    assertionRules.set(route, rules); // assertions are cached by this object
    const introduced = await deps.assertions.issue(principal, {
      hostname: request.hostname,
      mode: route.assertion,
      rules,
    });
    if (introduced.assertion === null) return null;
    return [["x-pomerium-jwt-assertion", introduced.assertion], ...introduced.claimHeaders];
  }

  /** A permit whose identity exceeds the bound of its headers. */
  function tooLarge({ principal, route, request, asked, url, decided }: Permitted): Judged {
    const reasons = [identityTooLarge.reason];
    return { type: "deny", status: 403, principal, reasons, route, request, asked, url, decided, sides: null };
  }

  function whoAsks(
    { subject: whose, described }: DecisionQuery,
    { route, request }: MatchedRequest,
  ): Identification | Promise<Identification> {
    if (whose === null) return anonymous;
    if (whose === "credential") return who.identify(request, route, described.ip ?? "");
    if (!("token" in whose)) {
      const session = "among" in whose ? whose.among(deps.idpIdOf(route)) : whose;
      if (session === undefined) return anonymous;
      return { ...anonymous, handle: { ...session, idpId: "", needs: null, audience: [] } };
    }
    return who.fromCredential({ token: whose.token, source: "header" }, scopeOf(route, request));
  }

  /** As the projection, the lease and the clock are now; in one turn. */
  function judge(question: DecisionQuery, about: MatchedRequest, asking: Identification): Judged {
    const { route } = about;
    if (freshness.overdueMs(clock.monotonic()) > route.staleGraceMs)
      return { type: "unavailable", why: "lease", ...about };
    if (asking === "behind" || asking === "provider") return { type: "unavailable", why: asking, ...about };
    if (about.asked.kind === "upgrade" && isCrossSite(about.request, { deps, routes }))
      return { type: "deny", status: 403, principal: null, reasons: ["websocket-origin"], ...about };
    if (asking === "refused")
      return { type: "deny", status: 403, principal: null, reasons: ["bearer-token-invalid"], ...about };
    if (asking === "two-credentials")
      return { type: "deny", status: 400, principal: null, reasons: [asking], ...about };
    const now = clock.wall();
    const caller = who.resolve(asking, route, now);
    if (caller.type === "behind") return { type: "unavailable", why: "behind", ...about };
    const request = policyQuestion(question, about, now);
    const decision = deps.decide({ routeId: route.id, caller, request, now });
    const { reasons, outcomes: sides } = decision;
    const principal = caller.type === "principal" ? caller.principal : null;
    const live = principal !== null && principal.session.expiresAt > now ? principal : null;
    const asked = { routeId: route.id, principal: live, session: asking.handle ?? null, request, now };
    const decided = [{ ...asked, wantsTrace: question.traced === true }, decision] as const;
    const rest = { reasons, sides, ...about, decided: [...decided] as Parameters<AnnotateDecision> };
    if (decision.type === "permit") {
      return { type: "permit", principal: decision.permit.principal, identity: [], ...rest };
    }
    if (decision.type === "signin") return { type: "signin", ...rest };
    return { type: "deny", status: decision.status, principal, ...rest };
  }

  /** Whoever carries the request has ended its TLS: of a certificate only what it says is known. */
  function policyQuestion({ described }: DecisionQuery, { route, request }: MatchedRequest, now: UnixMs) {
    return {
      method: request.method,
      scheme: schemeOf(route),
      host: authorityOf(route, request),
      rawPath: request.rawPath,
      path: request.path,
      query: request.search.slice(1),
      headers: request.headers,
      ip: described.ip ?? "",
      clientCertificate: trusts.of(route)?.judge(described.certificate ?? null, now) ?? null,
    };
  }

  function refusalOf(question: TimedQuery, refused: Unread): DecisionRecord {
    const reason = refused.type === "not_found" ? "route-not-found" : refused.reason;
    return { ...bareRecord(question), result: refused.type, status: statusOf(refused), reasons: [reason] };
  }

  function recordOf(question: TimedQuery, verdict: Judged): DecisionRecord {
    const principal = "principal" in verdict ? verdict.principal : null;
    return {
      ...bareRecord(question),
      routeId: verdict.route.id,
      host: verdict.request.hostname,
      path: recordedPath(verdict.request.rawPath),
      sessionId: principal?.session.sessionId ?? null,
      userId: principal?.userId ?? null,
      result: verdict.type,
      status: statusOf(verdict),
      reasons: verdict.type === "unavailable" ? [verdict.why === "lease" ? "no-lease" : verdict.why] : verdict.reasons,
      ...("annotations" in verdict ? verdict.annotations : {}),
    };
  }

  function bareRecord({
    described,
    requestId,
    startedAt,
  }: TimedQuery): Omit<DecisionRecord, "result" | "status" | "reasons"> {
    const now = clock.monotonic();
    const overdueMs = freshness.overdueMs(now);
    return {
      ...deps.identity,
      at: clock.wall(),
      occasion: "request",
      requestId,
      routeId: null,
      method: recordedMethod(described.method),
      host: "",
      path: "",
      ip: described.ip ?? "",
      sessionId: null,
      userId: null,
      applied: replica.applied,
      configHash: config.hash,
      overdueMs: Number.isFinite(overdueMs) ? overdueMs : null,
      latencyMs: roundedMs(now - startedAt),
    };
  }

  return {
    routes: config.routes,
    decide: ask,
    isRouteHost: (hostname) => hosts.has(hostname),
    isVerified: (leaf) =>
      chainToAuthority({ leaf, intermediates: "" }, trusts.authorities.join("\n"), clock.wall()) !== undefined,
  };
}

export function statusOf(verdict: ApiDecision): number {
  switch (verdict.type) {
    case "permit":
      return 200;
    case "signin":
      return 401;
    case "deny":
      return verdict.status;
    case "unavailable":
      return 503;
    case "not_found":
      return 404;
    case "bad_request":
      return 400;
    case "abandoned":
      return 499; // nobody sees it
    default:
      return unreachable(verdict);
  }
}

type Unread = Extract<ApiDecision, { type: "not_found" | "bad_request" }>;
type Read = Fact<"read", { about: MatchedRequest }> | Unread;

function readQuestion(
  { described }: DecisionQuery,
  { routes, config }: Readonly<{ routes: Routes; config: Config }>,
): Read {
  const { method, authority, target, lines } = described;
  const rawHeaders = ["Host", authority, ...lines];
  const canonical = canonicalise({ method, url: target, httpVersion: "1.1", rawHeaders }, "keep");
  if (canonical.type === "refused") return { type: "bad_request", reason: canonical.reason };
  const { request } = canonical;
  if (method === "CONNECT") return { type: "bad_request", reason: "method" };
  if (request.rawPath + request.search !== target) return { type: "bad_request", reason: "not-canonical" };
  if (isReserved(request.path)) return { type: "bad_request", reason: "reserved-path" };
  const upgrade = request.headers["sec-websocket-key"] === undefined ? null : "websocket";
  const asked = replyFormatOf(request, { upgrade, isRouteOrigin: routes.isRouteOrigin });
  const { hostname } = config.authenticateServiceUrl;
  const found = routes.match(request);
  // On the sign-in host only routes of exactly that host count, and not for the paths that sign-in keeps.
  const isTaken =
    request.hostname === hostname &&
    ([request.path].concat(pathReadings(request)).some(isSignInPath) || found?.host !== hostname);
  const route = isTaken ? undefined : found;
  if (route === undefined) {
    const reason = routes.refusalOf(request);
    return reason === undefined ? { type: "not_found", asked } : { type: "bad_request", reason };
  }
  const scheme = schemeOf(route);
  if (described.scheme !== null && described.scheme !== scheme) return { type: "bad_request", reason: "scheme" };
  if (described.ip === null && asksForAddress(route)) return { type: "bad_request", reason: "context-ip" };
  const url = new URL(`${scheme}://${authorityOf(route, request)}${request.rawPath}${request.search}`);
  return { type: "read", about: { route, request, asked, url } };
}

/** Whether its policies may look at the caller's address: none must be made up, for `not` and `deny` would believe it. */
function asksForAddress({ policy, subPolicies }: RouteConfig): boolean {
  return [policy, ...subPolicies.map((sub) => sub.policy)].some((source) => mentions(source?.ppl, addressCriteria));
}
const addressCriteria: ReadonlySet<string> = new Set(["source_ip", "record"]);

function mentions(ppl: unknown, names: ReadonlySet<string>): boolean {
  if (typeof ppl !== "object" || ppl === null) return false;
  return Object.entries(ppl).some(([name, inner]) => names.has(name) || mentions(inner, names));
}

function schemeOf({ from }: RouteConfig): "http" | "https" {
  return from.protocol === "http:" ? "http" : "https";
}

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
  type AssertionRules,
  chainToAuthority,
  type DecisionRecord,
  type DescribeDecision,
  type Handle,
  identityTooLarge,
  type Principal,
  pathReadings,
  type Sides,
} from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import { type Fact, type UnixMs, unreachable } from "../../events/index.ts";
import { assertionRulesOf, replyCarriersOf } from "../headers/assertion-rules.ts";
import { type CanonicalRequest, canonicalise } from "../message/canonical-request.ts";
import { recordedMethod, recordedPath, roundedMs } from "../message/recorded-text.ts";
import { isReserved, isSignInPath } from "../message/reserved-paths.ts";
import { isCheck } from "../observe/authorize-line.ts";
import { type Asked, readAsked } from "../reply/reply-format.ts";
import type { ProxyPorts } from "../request/dependencies.ts";
import { type Asking, createWhoAsks, nobody, type ReachedHandles } from "../request/identify-caller.ts";
import { authorityOf, compileRoutes, type Routes, scopeOf } from "../routing/route-table.ts";
import { isCrossSite } from "../routing/upgrade-request.ts";
import { compileClientTrusts } from "../tls/client-trust.ts";
import type { PresentedCertificate } from "../tls/presented-certificate.ts";

export type DecisionPorts = Pick<
  ProxyPorts,
  | ("config" | "identity" | "clock" | "replica" | "freshness" | "catchUp" | "decide" | "resolveCaller" | "idpIdOf")
  | (
      | "bearerTokens"
      | "explain"
      | "beside"
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
export type Described = Readonly<{
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

type SessionOf = Pick<Handle, "sessionId" | "userId">;
/**
 * Whose request it is: of whoever holds the credential in it, or one that is named, or of a session that is; `among`: of that one of a
 * person's sessions that counts with an identity provider. Null: nobody's.
 */
export type Whose =
  | "credential"
  | Readonly<{ token: string }>
  | SessionOf
  | Readonly<{ among: (idpId: string) => SessionOf | undefined }>
  | null;

export type Question = Readonly<{
  described: Described;
  whose: Whose;
  requestId: string;
  /** True: a permit comes with the headers that tell the upstream who asks. */
  introduces?: true;
  /** False: nobody will act on the answer, so it is not recorded. */
  recorded?: false;
  /** True once nobody waits for the answer any more. */
  abandoned?: () => boolean;
  /** True: whoever asks wants the trace, whatever the answer. */
  traced?: true;
}>;

type TimedQuestion = Question & Readonly<{ startedAt: number }>;
type About = Readonly<{ route: RouteConfig; request: CanonicalRequest; asked: Asked; url: URL }>;
/** What policy was asked, and what its record says beside the answer; of `ask` once, when it is the last word. */
type Decided = Readonly<{
  decided: Parameters<DescribeDecision>;
  sides: Sides | null;
  beside?: ReturnType<DescribeDecision>;
}>;
/** Headers, each a name and a value. */
type Identity = readonly (readonly [string, string])[];
export type Verdict =
  | (Fact<"permit", { principal: Principal | null; reasons: readonly string[]; identity: Identity }> & About & Decided)
  | (Fact<"signin", { reasons: readonly string[] }> & About & Decided)
  | (Fact<"deny", { status: number; principal: Principal | null; reasons: readonly string[] }> &
      About &
      Partial<Decided>)
  | (Fact<"unavailable", { why: "lease" | "behind" | "provider" | "audit" }> & About)
  | Fact<"not_found", { asked: Asked }>
  | Fact<"bad_request", { reason: string }>
  /** Nobody waited for it. Nothing was decided, so nothing is recorded. */
  | Fact<"abandoned", unknown>;

/** What was decided about a route. */
type Judged = Extract<Verdict, About>;
type Permitted = Extract<Verdict, { type: "permit" }>;

export type DecisionPoint = Readonly<{
  routes: readonly RouteConfig[];
  ask(question: Question): Promise<Verdict>;
  /** Whether a route names exactly this host, without a wildcard. */
  isRouteHost(hostname: string): boolean;
  /** Whether a certificate (PEM) leads to an authority of callers that some route knows. */
  isVerified(leafPem: string): boolean;
}>;

/** Under one configuration: that of `ports`. */
export function createDecisionPoint(ports: DecisionPorts, reached: ReachedHandles): DecisionPoint {
  const { config, clock, freshness, replica } = ports;
  const who = createWhoAsks(ports, reached);
  const routes = compileRoutes(config.routes);
  const trusts = compileClientTrusts(config);
  const hosts = new Set(config.routes.map(({ host }) => host));
  const carriers = replyCarriersOf(config);
  const assertionRules = new WeakMap<RouteConfig, AssertionRules>();

  async function ask(asked: Question): Promise<Verdict> {
    const question: TimedQuestion = { ...asked, startedAt: clock.monotonic() };
    const read = readQuestion(question, { routes, config });
    if (read.type !== "read") {
      if (question.recorded !== false) keep(refusalOf(question, read), null);
      return read;
    }
    const { about } = read;
    const asking = await whoAsks(question, about);
    if (question.abandoned?.() === true) return { type: "abandoned" };
    let verdict = judge(question, about, asking);
    if (verdict.type === "permit" && question.introduces === true) {
      const identity = await introduce(verdict);
      if (question.abandoned?.() === true) return { type: "abandoned" };
      verdict = judge(question, about, asking); // what was waited for may have taken longer than the right to it lasts
      if (verdict.type === "permit") verdict = identity === null ? tooLarge(verdict) : { ...verdict, identity };
    }
    if (question.recorded === false) return verdict;
    if (verdict.type === "permit" && about.route.audit === "strict" && ports.recordSafely !== null) {
      const { identity } = verdict;
      verdict = describe(verdict);
      const kept = await ports.recordSafely(recordOf(question, verdict)).then(
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
    ports.record(record);
    if (ports.authorizeLog === null || !isCheck(record)) return;
    const principal = verdict !== null && "principal" in verdict ? verdict.principal : null;
    const sides = verdict !== null && "sides" in verdict ? (verdict.sides ?? null) : null;
    ports.authorizeLog({ record, sides, principal, route: verdict?.route ?? null, request: verdict?.request ?? null });
  }

  function describe(verdict: Judged): Judged {
    return "decided" in verdict && verdict.decided !== undefined
      ? { ...verdict, beside: ports.beside(...verdict.decided) }
      : verdict;
  }

  /** As the proxy would tell the upstream. Where the route tells it nothing the headers are empty, so that none of the caller's stands there. */
  async function introduce({ principal, route, request }: Permitted): Promise<Permitted["identity"] | null> {
    if (!route.passIdentityHeaders)
      return ["x-pomerium-jwt-assertion", ...Object.keys(config.jwtClaimsHeaders)].map((name) => [name, ""]);
    const rules = assertionRules.get(route) ?? assertionRulesOf(route, carriers);
    assertionRules.set(route, rules); // assertions are cached by this object
    const introduced = await ports.assertions.introduce(principal, {
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

  function whoAsks({ whose, described }: Question, { route, request }: About): Asking | Promise<Asking> {
    if (whose === null) return nobody;
    if (whose === "credential") return who.askingIn(request, route, described.ip ?? "");
    if (!("token" in whose)) {
      const session = "among" in whose ? whose.among(ports.idpIdOf(route)) : whose;
      if (session === undefined) return nobody;
      return { ...nobody, handle: { ...session, idpId: "", needs: null, audience: [] } };
    }
    return who.holderOf({ token: whose.token, source: "header" }, scopeOf(route, request));
  }

  /** As the projection, the lease and the clock are now; in one turn. */
  function judge(question: Question, about: About, asking: Asking): Judged {
    const { route } = about;
    if (freshness.overdueMs(clock.monotonic()) > route.staleGraceMs)
      return { type: "unavailable", why: "lease", ...about };
    if (asking === "behind" || asking === "provider") return { type: "unavailable", why: asking, ...about };
    if (about.asked.kind === "upgrade" && isCrossSite(about.request, { ports, routes }))
      return { type: "deny", status: 403, principal: null, reasons: ["websocket-origin"], ...about };
    if (asking === "refused")
      return { type: "deny", status: 403, principal: null, reasons: ["bearer-token-invalid"], ...about };
    if (asking === "two-credentials")
      return { type: "deny", status: 400, principal: null, reasons: [asking], ...about };
    const now = clock.wall();
    const caller = who.callerOf(asking, route, now);
    if (caller.type === "behind") return { type: "unavailable", why: "behind", ...about };
    const request = policyQuestion(question, about, now);
    const decision = ports.decide({ routeId: route.id, caller, request, now });
    const { reasons, sides } = decision;
    const principal = caller.type === "principal" ? caller.principal : null;
    const live = principal !== null && principal.session.expiresAt > now ? principal : null;
    const asked = { routeId: route.id, principal: live, somebody: asking.handle ?? null, request, now };
    const decided = [{ ...asked, traced: question.traced === true }, decision] as const;
    const rest = { reasons, sides, ...about, decided: [...decided] as Parameters<DescribeDecision> };
    if (decision.type === "permit") {
      return { type: "permit", principal: decision.permit.principal, identity: [], ...rest };
    }
    if (decision.type === "signin") return { type: "signin", ...rest };
    return { type: "deny", status: decision.status, principal, ...rest };
  }

  /** Whoever carries the request has ended its TLS: of a certificate only what it says is known. */
  function policyQuestion({ described }: Question, { route, request }: About, now: UnixMs) {
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

  function refusalOf(question: TimedQuestion, refused: Unread): DecisionRecord {
    const reason = refused.type === "not_found" ? "route-not-found" : refused.reason;
    return { ...bareRecord(question), result: refused.type, status: statusOf(refused), reasons: [reason] };
  }

  function recordOf(question: TimedQuestion, verdict: Judged): DecisionRecord {
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
      ...("beside" in verdict ? verdict.beside : {}),
    };
  }

  function bareRecord({
    described,
    requestId,
    startedAt,
  }: TimedQuestion): Omit<DecisionRecord, "result" | "status" | "reasons"> {
    const now = clock.monotonic();
    const overdueMs = freshness.overdueMs(now);
    return {
      ...ports.identity,
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
    ask,
    isRouteHost: (hostname) => hosts.has(hostname),
    isVerified: (leaf) =>
      chainToAuthority({ leaf, intermediates: "" }, trusts.authorities.join("\n"), clock.wall()) !== undefined,
  };
}

export function statusOf(verdict: Verdict): number {
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

type Unread = Extract<Verdict, { type: "not_found" | "bad_request" }>;
type Read = Fact<"read", { about: About }> | Unread;

function readQuestion({ described }: Question, { routes, config }: Readonly<{ routes: Routes; config: Config }>): Read {
  const { method, authority, target, lines } = described;
  const rawHeaders = ["Host", authority, ...lines];
  const canonical = canonicalise({ method, url: target, httpVersion: "1.1", rawHeaders }, "keep");
  if (canonical.type === "refused") return { type: "bad_request", reason: canonical.reason };
  const { request } = canonical;
  if (method === "CONNECT") return { type: "bad_request", reason: "method" };
  if (request.rawPath + request.search !== target) return { type: "bad_request", reason: "not-canonical" };
  if (isReserved(request.path)) return { type: "bad_request", reason: "reserved-path" };
  const upgrade = request.headers["sec-websocket-key"] === undefined ? null : "websocket";
  const asked = readAsked(request, { upgrade, isRouteOrigin: routes.isRouteOrigin });
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

/**
 * Policy evaluation: the route match, decision and status of one case, as for a live request, without a server.
 *
 * Pure. Policy reads nothing of a live session that a case lacks (an identity provider, a position in the log).
 */
import {
  type DecisionRequest,
  decide,
  explain,
  type KnownCaller,
  type Principal,
  type RuleTrace,
} from "../../auth/index.ts";
import type { GroupId, Position, SessionId, UnixMs, UserId } from "../../events/index.ts";
import { type DryRun, dryRunRequest } from "../../proxy/index.ts";
import type { Case, CasePerson } from "./policy-case.ts";
import type { PolicyTarget } from "./policy-document.ts";

export type PolicyAnswer = Readonly<{
  id: unknown;
  result: "permit" | "deny" | "signin" | "device" | "not_found";
  /** The HTTP status that a caller sees. */
  status: number;
  reasons: readonly string[];
  /** The rule that decided; null: none. */
  rule: string | null;
  trace: readonly RuleTrace[];
  /**
   * The facts read: `session:…`, `user:…`, `group:…`, `device:…`, `record:…`, `configuration:…`, and `clock:…` if time
   * alone may change the answer.
   */
  read: readonly string[];
}>;
/** An answer with its route; null: no route. */
export type PolicyEvaluation = Readonly<{ answer: PolicyAnswer; routeId: string | null }>;

/** Reserved paths that need a session. */
const pathsThatNeedSession = [
  "/.pomerium/jwt",
  "/.pomerium/user",
  "/.pomerium/webauthn",
  "/.pomerium/routes",
  "/.pomerium/api/v1/routes",
];
const forever = 8_640_000_000_000_000;

export function evaluatePolicy(target: PolicyTarget, policyCase: Case, clock: () => number): PolicyEvaluation {
  const now = (policyCase.nowMs ?? clock()) as UnixMs;
  const configuration = `configuration:${target.configuration}`;
  const answerOf = (
    result: PolicyAnswer["result"],
    status: number,
    reasons: readonly string[],
    more: Partial<PolicyAnswer> = {},
  ): PolicyAnswer => ({
    id: policyCase.id,
    result,
    status,
    reasons,
    rule: null,
    trace: [],
    read: [configuration],
    ...more,
  });

  const dryRun = dryRunRequest(policyCase.head);
  if (dryRun.type === "refused") return { answer: answerOf("deny", dryRun.status, [dryRun.reason]), routeId: null };
  if (target.route === null && dryRun.reserved)
    return { answer: reservedPathAnswer(dryRun, policyCase, answerOf), routeId: null };
  const refusal = target.route === null ? dryRun.refusalOf(target.routes) : undefined;
  if (refusal !== undefined) return { answer: answerOf("deny", 400, [refusal]), routeId: null };

  const route =
    target.route === "unknown"
      ? undefined
      : (target.route?.route ?? (target.routes === null ? null : dryRun.match(target.routes)));
  const routeId = target.route === "unknown" ? undefined : (target.route?.id ?? route?.id);
  const policy = routeId === undefined ? undefined : target.policies.get(routeId);
  if (route === undefined || routeId === undefined || policy === undefined) {
    return { answer: answerOf("not_found", 404, ["route-not-found"]), routeId: null };
  }

  if (dryRun.hasEncodedSlash && route?.allowEncodedSlashes !== true)
    return { answer: answerOf("deny", 400, ["encoded-separator"]), routeId };

  fillRecords(target, policyCase);
  const request: DecisionRequest = {
    ...dryRun.decisionRequest(route),
    clientCertificate: policyCase.certificate === null ? null : target.certificates(route, policyCase.certificate, now),
    ssh: policyCase.ssh,
    mcp: policyCase.mcp,
  };
  const caller = callerOf(policyCase.person);
  const decision = decide({ policies: target.policies, routeId, caller, request, now });
  const live = caller.type === "principal" && caller.principal.session.expiresAt > now ? caller.principal : null;
  const { rule, trace } = explain(policy, { request, principal: live, now }, decision);
  const { facts, until } = decision;
  const read = [
    ...(facts.sessionId === null ? [] : [`session:${facts.sessionId}`]),
    ...(facts.userId === null ? [] : [`user:${facts.userId}`]),
    ...facts.groups.map((group) => `group:${group}`),
    ...facts.devices.map((device) => `device:${device}`),
    ...facts.records.map((type) => `record:${type}`),
    configuration,
    ...(until === null || until >= forever ? [] : [`clock:${new Date(until).toISOString()}`]),
  ];
  const wantsDevice = decision.type === "deny" && decision.deviceType !== null;
  const plain = decision.type === "deny" && decision.status === 403;
  // A denied message of the Model Context Protocol gets a 200 with an error in its own format.
  const status = plain && policyCase.mcp !== null && policyCase.mcp.method !== "" ? 200 : dryRun.statusOf(decision);
  return {
    answer: answerOf(wantsDevice ? "device" : decision.type, status, decision.reasons, { rule, trace, read }),
    routeId,
  };
}

function reservedPathAnswer(
  dryRun: Extract<DryRun, { type: "read" }>,
  { person }: Case,
  answerOf: (result: PolicyAnswer["result"], status: number, reasons: readonly string[]) => PolicyAnswer,
): PolicyAnswer {
  if (person !== null || !pathsThatNeedSession.includes(dryRun.path))
    return answerOf("permit", 200, ["pomerium-route"]);
  const reasons = ["user-unauthenticated"];
  return answerOf("signin", dryRun.statusOf({ type: "signin", reasons }), reasons);
}

function fillRecords({ records, config }: PolicyTarget, { records: given, person }: Case): void {
  if (config !== null) return; // a configuration has its own data sources
  for (const [type, set] of records) {
    const record = given.get(type);
    if (record === undefined) set.clear();
    else set.replace(record === null || person === null ? [] : [{ ...record, id: person.userId }]);
  }
}

export function callerOf(person: CasePerson | null): KnownCaller {
  if (person === null) return { type: "anonymous", why: "no-credential", credentialInHeader: false };
  const { sessionId, userId, email, name, claims, groups, devices, expiresAtMs } = person;
  const principal: Principal = {
    session: {
      status: "active",
      sessionId: sessionId as SessionId,
      userId: userId as UserId,
      idpId: "",
      issuedAt: 0 as UnixMs,
      expiresAt: (expiresAtMs ?? forever) as UnixMs,
      refreshedAt: 0 as UnixMs,
      profile: new Uint8Array(),
      createdAt: 1 as Position,
    },
    user: undefined,
    userId: userId as UserId,
    profile: { issuer: "", subject: userId, email, emailVerified: false, name, claims },
    claims,
    groups: new Set(groups as readonly GroupId[]),
    devices,
  };
  return { type: "principal", principal };
}

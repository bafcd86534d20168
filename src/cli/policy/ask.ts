/**
 * Asking a policy about one case: the same route match, decision and status as on a live request, without a server.
 *
 * Pure. What a live session has and a case does not (an identity provider, a position in the log) is nothing that policy looks at.
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
import { type Rehearsal, rehearse } from "../../proxy/index.ts";
import type { Case, CasePerson } from "./policy-case.ts";
import type { Asked } from "./policy-document.ts";

export type PolicyAnswer = Readonly<{
  id: unknown;
  result: "permit" | "deny" | "signin" | "device" | "not_found";
  /** What a caller sees: HTTP status. */
  status: number;
  reasons: readonly string[];
  /** The rule that the answer came from; null: none did. */
  rule: string | null;
  trace: readonly RuleTrace[];
  /** Facts: `session:…`, `user:…`, `group:…`, `device:…`, `record:…`, `configuration:…`, and `clock:…` when time alone may change the answer. */
  read: readonly string[];
}>;
/** An answer with the route that gave it; null: none did. */
export type Considered = Readonly<{ answer: PolicyAnswer; routeId: string | null }>;

/** Pages of ours that are for people who are signed in. */
const needSession = [
  "/.pomerium/jwt",
  "/.pomerium/user",
  "/.pomerium/webauthn",
  "/.pomerium/routes",
  "/.pomerium/api/v1/routes",
];
const forever = 8_640_000_000_000_000;

export function askPolicy(asked: Asked, one: Case, clock: () => number): Considered {
  const now = (one.nowMs ?? clock()) as UnixMs;
  const configuration = `configuration:${asked.configuration}`;
  const say = (
    result: PolicyAnswer["result"],
    status: number,
    reasons: readonly string[],
    more: Partial<PolicyAnswer> = {},
  ): PolicyAnswer => ({ id: one.id, result, status, reasons, rule: null, trace: [], read: [configuration], ...more });

  const rehearsal = rehearse(one.head);
  if (rehearsal.type === "refused") return { answer: say("deny", rehearsal.status, [rehearsal.reason]), routeId: null };
  if (asked.route === null && rehearsal.reserved) return { answer: answerOfOurs(rehearsal, one, say), routeId: null };
  const refusal = asked.route === null ? rehearsal.refusalOf(asked.routes) : undefined;
  if (refusal !== undefined) return { answer: say("deny", 400, [refusal]), routeId: null };

  const route =
    asked.route === "unknown"
      ? undefined
      : (asked.route?.route ?? (asked.routes === null ? null : rehearsal.match(asked.routes)));
  const routeId = asked.route === "unknown" ? undefined : (asked.route?.id ?? route?.id);
  const policy = routeId === undefined ? undefined : asked.policies.get(routeId);
  if (route === undefined || routeId === undefined || policy === undefined) {
    return { answer: say("not_found", 404, ["route-not-found"]), routeId: null };
  }

  if (rehearsal.hasEncodedSlash && route?.allowEncodedSlashes !== true)
    return { answer: say("deny", 400, ["encoded-separator"]), routeId };

  fillRecords(asked, one);
  const request: DecisionRequest = {
    ...rehearsal.question(route),
    clientCertificate: one.certificate === null ? null : asked.certificates(route, one.certificate, now),
    ssh: one.ssh,
    mcp: one.mcp,
  };
  const caller = callerOf(one.person);
  const decision = decide({ policies: asked.policies, routeId, caller, request, now });
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
  // A refused message of the Model Context Protocol is answered in its own form, with 200.
  const status = plain && one.mcp !== null && one.mcp.method !== "" ? 200 : rehearsal.statusOf(decision);
  return {
    answer: say(wantsDevice ? "device" : decision.type, status, decision.reasons, { rule, trace, read }),
    routeId,
  };
}

function answerOfOurs(
  rehearsal: Extract<Rehearsal, { type: "read" }>,
  { person }: Case,
  say: (result: PolicyAnswer["result"], status: number, reasons: readonly string[]) => PolicyAnswer,
): PolicyAnswer {
  if (person !== null || !needSession.includes(rehearsal.path)) return say("permit", 200, ["pomerium-route"]);
  const reasons = ["user-unauthenticated"];
  return say("signin", rehearsal.statusOf({ type: "signin", reasons }), reasons);
}

function fillRecords({ records, config }: Asked, { records: given, person }: Case): void {
  if (config !== null) return; // they have their own sources
  for (const [type, set] of records) {
    const record = given.get(type);
    if (record === undefined) set.forget();
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

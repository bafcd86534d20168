/**
 * Decision: whether one caller may make one request, under one compiled configuration.
 *
 * - Pure and synchronous. Only this file creates a Permit, and forwarding code cannot run without one.
 * - The order of checks is Pomerium's (docs/pomerium-behaviour.md §6.6): a required certificate, sign-in, a device, deny
 *   rules, allow rules; without an allow rule that is met, deny.
 * - The proxy answers 503 to a caller that is `behind` and never calls `decide`, because a node that lags does not know
 *   the caller.
 * - If a data set could not be read and the answer depends on it, the answer is 503. A deny rule that is met whatever
 *   the data contains denies first.
 * - An expired session counts as none.
 * - The session and the user of a principal are always among the facts read, so a revocation cuts every open exchange.
 */
import { type DeviceId, deviceStream, type Fact, type UnixMs } from "../../events/index.ts";
import { streamsOf } from "./caller.ts";
import type { Policies, RoutePolicy } from "./compile.ts";
import { defaultDeviceType } from "./criteria/device.ts";
import type { DecisionRequest, FactKey, FactsRead, Principal, ResolvedCaller, RuleSetOutcomes } from "./decision.ts";
import { ambiguityOf, pathReadings } from "./path-readings.ts";
import type { Reason } from "./reasons.ts";

type DecisionBase = Readonly<{
  /** Sorted reason words of docs/pomerium-behaviour.md §6.3. */
  reasons: readonly string[];
  /** Null: the answer does not come from rules. */
  outcomes: RuleSetOutcomes | null;
  routeId: string;
  facts: FactsRead;
  /**
   * `facts` as keys: re-decide when one of these changes. A change of membership changes the stream of each affected
   * user.
   */
  reads: readonly FactKey[];
  /**
   * The next moment at which time alone can change the answer (session expiry, the end of a membership, a bound of a
   * time criterion); null: none.
   */
  until: UnixMs | null;
}>;

export type Decision =
  | (Fact<"permit", { permit: Permit }> & DecisionBase)
  /**
   * 403 unless the reasons say otherwise (docs/pomerium-behaviour.md §6.6); 503 if a data set could not be read.
   * `deviceType`: the type that the session must show first, with 401; null: a device would not help.
   */
  | (Fact<"deny", { status: number; deviceType: string | null }> & DecisionBase)
  | (Fact<"signin", unknown> & DecisionBase);

/** The answer of a decision, without its facts. */
export type DecisionSummary =
  | Pick<Extract<Decision, { type: "permit" | "signin" }>, "type">
  | Pick<Extract<Decision, { type: "deny" }>, "type" | "status" | "deviceType">;

const minted: unique symbol = Symbol("minted by decide");
/** Proof that the policy permitted this request on this route. Only `decide` creates one. */
export type Permit = Readonly<{
  routeId: string;
  /** Null: an anonymous caller on a public route. */
  principal: Principal | null;
  [minted]: true;
}>;

/** A caller that is either identified or known to be anonymous. */
export type KnownCaller = Exclude<ResolvedCaller, Readonly<{ type: "behind" }>>;

export function decide({
  policies,
  routeId,
  caller,
  request,
  now,
}: Readonly<{
  policies: Policies;
  routeId: string;
  caller: KnownCaller;
  request: DecisionRequest;
  now: UnixMs;
}>): Decision {
  const principal = principalOf(caller, now);
  const policy = policies.get(routeId);
  const facts = factsOf(caller, policy);
  const reads = keysOf(facts, caller);
  const until = untilOf(policy, principal, request, now);
  if (policy === undefined) {
    const unknown = { status: 404, deviceType: null, reasons: ["route-not-found"], outcomes: null } as const;
    return { type: "deny", ...unknown, routeId, facts, reads, until };
  }
  const answer = evaluatePolicy(policy, { request, principal, now });
  const { reasons, outcomes } = answer;
  switch (answer.type) {
    case "permit": {
      const permit: Permit = { routeId, principal, [minted]: true };
      return { type: "permit", permit, reasons, outcomes, routeId, facts, reads, until };
    }
    case "deny": {
      const deviceType = answer.wantsDevice ? (policy.deviceType ?? defaultDeviceType) : null;
      return { type: "deny", status: answer.status, deviceType, reasons, outcomes, routeId, facts, reads, until };
    }
    case "signin":
      return { type: "signin", reasons, outcomes, routeId, facts, reads, until };
  }
}

function principalOf(caller: KnownCaller, now: UnixMs): Principal | null {
  return caller.type === "principal" && caller.principal.session.expiresAt > now ? caller.principal : null;
}

const noStrings: readonly string[] = [];

function factsOf(caller: KnownCaller, policy: RoutePolicy | undefined): FactsRead {
  const records = policy?.reads.recordTypes ?? noStrings;
  if (caller.type === "anonymous")
    return { sessionId: null, userId: null, groups: noStrings, devices: noStrings, records };
  const { session, userId, devices = [] } = caller.principal;
  const types = policy?.reads.deviceTypes ?? noStrings;
  return {
    sessionId: session.sessionId,
    userId,
    groups: policy?.reads.groups ?? noStrings,
    devices:
      types.length === 0 ? noStrings : devices.filter(({ typeId }) => types.includes(typeId)).map(({ id }) => id),
    records,
  };
}

const noFactKeys: readonly FactKey[] = [];

/** Groups need no keys: a change of membership touches the stream of each user that it concerns. */
function keysOf({ devices, records }: FactsRead, caller: KnownCaller): readonly FactKey[] {
  const own = caller.type === "principal" ? streamsOf(caller.principal) : noFactKeys;
  if (devices.length === 0 && records.length === 0) return own;
  const keys = [...own];
  for (const id of devices) keys.push(deviceStream(id as DeviceId));
  for (const type of records) keys.push(`record:${type}`);
  return keys;
}

function untilOf(
  policy: RoutePolicy | undefined,
  principal: Principal | null,
  request: DecisionRequest,
  now: UnixMs,
): UnixMs | null {
  let until = principal === null ? null : endOf(principal);
  for (const boundary of policy?.reads.boundaries ?? []) {
    const at = boundary(request, now);
    if (at !== null && (until === null || at < until)) until = at;
  }
  return until;
}

/** The session's expiry, or an earlier end of a membership. */
function endOf({ session, groupsUntil }: Principal): UnixMs {
  return groupsUntil !== undefined && groupsUntil < session.expiresAt ? groupsUntil : session.expiresAt;
}

type PolicyResult = Readonly<{
  type: "permit" | "deny" | "signin";
  status: number;
  wantsDevice?: true;
  reasons: readonly Reason[];
  /** Null: the path has several readings with different answers. */
  outcomes: RuleSetOutcomes | null;
}>;

type PolicyQuery = Readonly<{ request: DecisionRequest; principal: Principal | null; now: UnixMs }>;

/**
 * Evaluates the policy for the path as written. The answer is 400 if another reading of its parameters or encoded
 * slashes has another answer.
 */
export function evaluatePolicy(policy: Pick<RoutePolicy, "allow" | "deny">, asked: PolicyQuery): PolicyResult {
  const answer = evaluatePath(policy, asked);
  for (const path of pathReadings(asked.request)) {
    const other = evaluatePath(policy, { ...asked, request: { ...asked.request, path } });
    if (other.type !== answer.type || other.status !== answer.status)
      return { type: "deny", status: 400, reasons: [ambiguityOf(asked.request)], outcomes: null };
  }
  return answer;
}

function evaluatePath(
  { allow, deny }: Pick<RoutePolicy, "allow" | "deny">,
  { request, principal, now }: PolicyQuery,
): PolicyResult {
  return combineOutcomes({ allow: allow(request, principal, now), deny: deny(request, principal, now) });
}

/**
 * Combines the outcomes of a route's allow and deny rules (docs/pomerium-behaviour.md §6.6). The order matters.
 */
function combineOutcomes(outcomes: RuleSetOutcomes): PolicyResult {
  const { allow, deny } = outcomes;
  if (deny.reasons.requiresCertificate) return denyResult(deny.reasons.words, outcomes);
  if (allow.reasons.requiresSignIn || deny.reasons.requiresSignIn) {
    return { type: "signin", status: 401, reasons: merged(outcomes), outcomes };
  }
  if (deny.reasons.recordsUnavailable || (!deny.met && allow.reasons.recordsUnavailable)) {
    return { type: "deny", status: 503, reasons: merged(outcomes), outcomes };
  }
  if (allow.reasons.requiresDevice || deny.reasons.requiresDevice) {
    return { type: "deny", status: 401, wantsDevice: true, reasons: merged(outcomes), outcomes };
  }
  if (deny.met) return denyResult(deny.reasons.words, outcomes);
  if (allow.met) return { type: "permit", status: 200, reasons: allow.reasons.words, outcomes };
  return denyResult(allow.reasons.words, outcomes);
}

function merged({ allow, deny }: RuleSetOutcomes): readonly Reason[] {
  return [...new Set([...allow.reasons.words, ...deny.reasons.words])].sort();
}

function denyResult(reasons: readonly Reason[], outcomes: RuleSetOutcomes): PolicyResult {
  return { type: "deny", status: statusOf(reasons), reasons, outcomes };
}

function statusOf(reasons: readonly Reason[]): number {
  if (reasons.includes("device-unauthorized")) return 450;
  if (reasons.includes("route-not-found")) return 404;
  const certificate = reasons.includes("client-certificate-required") || reasons.includes("invalid-client-certificate");
  return certificate ? 495 : 403;
}

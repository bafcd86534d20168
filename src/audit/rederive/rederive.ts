/**
 * Re-derivation: decides a recorded request again, from the facts and the configuration that its record names, and
 * compares the answer with the recorded one. Pure.
 *
 * - The same `decide` answers. Nothing is guessed: a criterion whose input the record does not hold is neither met nor
 *   unmet, and an answer counts only if it is the same either way.
 * - Taken from the record: the time, the method, path and address, and whether the node found the session idle or
 *   revoked by its region. Everything else comes from the log and the stored configuration.
 * - The status is compared for permits alone: for a refusal it also depends on what the caller accepts.
 */
import {
  type DecisionRecord,
  decide,
  evaluateOutcomes,
  explain,
  type KnownCaller,
  type Principal,
  type RecordedSide,
  type RoutePolicy,
  revokedByRegion,
  sessionIdle,
} from "../../auth/index.ts";
import type { Fact, UnixMs } from "../../events/index.ts";
import type { PastConfiguration } from "./past-configuration.ts";
import { type IsKnown, isKnownCriterion, missingCriteria, type PastFacts, recordedCaller } from "./recorded-caller.ts";
import type { ReadRecord } from "./recorded-question.ts";

/** Why a decision cannot be derived again. */
export const unknownCodes = ["not-decided", "request", "policy", "criteria", "session"] as const;
export type UnknownCode = (typeof unknownCodes)[number];

export type AnswerDifference = Readonly<{
  field: "caller" | "route" | "result" | "reasons" | "allow" | "deny" | "rule";
  recorded: string;
  derived: string;
}>;

export type DerivedAnswer = Readonly<{
  result: "permit" | "deny" | "signin" | "not_found";
  reasons: readonly string[];
  allow: RecordedSide | null;
  deny: RecordedSide | null;
  rule: string | null;
}>;

export type Rederivation =
  /** `uncompared`: what the record does not hold, so that only the result was compared; empty: all was compared. */
  | Fact<"same", { answer: DerivedAnswer; uncompared: readonly string[] }>
  | Fact<"different", { answer: DerivedAnswer | null; differences: readonly AnswerDifference[] }>
  | Fact<"unknown", { code: UnknownCode; why: string }>;

export type PastDecision = Readonly<{ facts: PastFacts; configuration: PastConfiguration; readRecord: ReadRecord }>;

/** A node reads its clock up to this long before it dates the record. */
export const datedWithinMs = 1_000;

export function rederiveDecision(record: DecisionRecord, past: PastDecision): Rederivation {
  const skipped = whyNotDecided(record);
  if (skipped !== null) return unknown("not-decided", skipped);
  const answered = rederiveAt(record, past, record.at);
  if (answered.type !== "different") return answered;
  const earlier = rederiveAt(record, past, (record.at - datedWithinMs) as UnixMs);
  return earlier.type === "same" ? earlier : answered;
}

function whyNotDecided({ occasion, result, status, allow, deny, reasons }: DecisionRecord): string | null {
  if (occasion === "closed") return "the end of a stream decides nothing";
  if (result === "unavailable" || result === "bad_request") return `policy did not decide it: ${result}`;
  if (status === 503) return "policy did not decide it: a data set could not be read";
  if (result === "not_found") return occasion === "redecision" ? "its route was removed" : null;
  // Builds that record no sides record no refusals before policy apart from them either.
  if (result === "deny" && allow === undefined && deny === undefined && !isAmbiguity(reasons))
    return "the request was refused before policy, or by an older build";
  return null;
}

const isAmbiguity = (reasons: readonly string[]): boolean =>
  reasons.includes("path-parameters") || reasons.includes("encoded-separator");

function rederiveAt(record: DecisionRecord, { facts, configuration, readRecord }: PastDecision, now: UnixMs) {
  const question = readRecord(record);
  if (question.type === "unread") return unknown("request", question.why);
  const { routeId, request, isPathWhole } = question;
  if (routeId !== record.routeId) return ofAnotherRoute(record, routeId);
  if (routeId === null)
    return record.result === "not_found"
      ? ({ type: "same", answer: notFound, uncompared: [] as readonly string[] } as const)
      : unknown("request", "the record names no route");
  if (!isPathWhole && isAmbiguity(record.reasons)) return unknown("request", "the record does not have the whole path");
  const found = configuration.routes.get(routeId);
  if (found === undefined) return unknown("policy", "the configuration has no such route");
  const { route, policy } = found;
  if (policy === null) return unknown("policy", `the policy cannot be evaluated: ${found.problem ?? ""}`);
  const resolved = recordedCaller(record, facts, { route, idpIds: configuration.idpIdsOf(route), now });
  if (resolved.type === "unknown") return unknown("session", resolved.why);
  const { caller, ended, isReadable } = resolved;
  if (ended !== null && record.occasion === "redecision") return endedAgain(record, ended);
  const principal = caller.type === "principal" ? caller.principal : null;
  const isKnown = isKnownCriterion({ method: record.method, hasPath: isPathWhole, isReadable });
  const missing = missingCriteria(policy, isKnown);
  const asked: Asked = { record, policy, caller, principal, request, now, ended };
  return missing.length === 0 ? decideAgain(asked) : decidePartly(asked, { missing, isKnown });
}

const notFound: DerivedAnswer = {
  result: "not_found",
  reasons: ["route-not-found"],
  allow: null,
  deny: null,
  rule: null,
};

function ofAnotherRoute(record: DecisionRecord, routeId: string | null): Rederivation {
  // A tunnel that is addressed to another host than its route's has none, and a record does not show to which it was.
  if (record.routeId === null && record.method === "CONNECT") return unknown("request", "the record names no route");
  if (record.occasion === "redecision") return unknown("request", "an earlier configuration assigned the route");
  const differences = [{ field: "route", recorded: String(record.routeId), derived: String(routeId) }] as const;
  return { type: "different", answer: null, differences };
}

/** An open exchange whose session has ended is cut, also where anyone may enter. */
function endedAgain(record: DecisionRecord, ended: string): Rederivation {
  const answer: DerivedAnswer = {
    result: "signin",
    reasons: ["user-unauthenticated"],
    allow: null,
    deny: null,
    rule: record.rule ?? null,
  };
  if (record.result === "signin") return { type: "same", answer, uncompared: [] };
  const caller: AnswerDifference = {
    field: "caller",
    recorded: `session ${record.sessionId}`,
    derived: `none: ${ended}`,
  };
  const result: AnswerDifference = { field: "result", recorded: record.result, derived: "signin" };
  return { type: "different", answer, differences: [caller, result] };
}

// --- the answer

type Asked = Readonly<{
  record: DecisionRecord;
  policy: RoutePolicy;
  caller: KnownCaller;
  principal: Principal | null;
  request: Parameters<typeof decide>[0]["request"];
  now: UnixMs;
  ended: string | null;
}>;

function decideAgain({ record, policy, caller, principal, request, now, ended }: Asked): Rederivation {
  const { routeId } = policy;
  const decision = decide({ policies: new Map([[routeId, policy]]), routeId, caller, request, now });
  const { rule } = explain(policy, { request, principal, now }, decision);
  const own = record.reasons.filter((reason) => reason === sessionIdle || reason === revokedByRegion);
  const answer: DerivedAnswer = {
    result: decision.type,
    reasons: decision.type === "permit" ? decision.reasons : [...decision.reasons, ...own],
    allow: decision.outcomes?.allow.recorded ?? null,
    deny: decision.outcomes?.deny.recorded ?? null,
    rule,
  };
  const differences = differencesOf(record, answer, ended);
  return differences.length === 0
    ? { type: "same", answer, uncompared: [] }
    : { type: "different", answer, differences };
}

function differencesOf(
  record: DecisionRecord,
  answer: DerivedAnswer,
  ended: string | null,
): readonly AnswerDifference[] {
  const found: AnswerDifference[] = [];
  const compare = (field: AnswerDifference["field"], recorded: string, derived: string): void => {
    if (recorded !== derived) found.push({ field, recorded, derived });
  };
  if (ended !== null) compare("caller", `session ${record.sessionId}`, `none: ${ended}`);
  compare("result", record.result, answer.result);
  compare("reasons", sorted(record.reasons), sorted(answer.reasons));
  if (record.allow !== undefined) compare("allow", sideText(record.allow), sideText(answer.allow));
  if (record.deny !== undefined) compare("deny", sideText(record.deny), sideText(answer.deny));
  const rule = record.trace === undefined ? record.rule : (record.trace.rule ?? null);
  if (rule !== undefined) compare("rule", rule ?? "none", answer.rule ?? "none");
  return found;
}

const sorted = (reasons: readonly string[]): string => [...reasons].sort().join(", ");

function sideText(side: RecordedSide | null): string {
  return side === null ? "not evaluated" : `${side.met ? "met" : "not met"} [${sorted(side.reasons)}]`;
}

/** Compares what does not depend on the missing criteria. */
function decidePartly(
  { record, policy, principal, request, now, ended }: Asked,
  { missing, isKnown }: Readonly<{ missing: readonly string[]; isKnown: IsKnown }>,
): Rederivation {
  const outcomes = evaluateOutcomes(policy, { request, principal, now, isKnown });
  const differences: AnswerDifference[] = [];
  if (ended !== null)
    differences.push({ field: "caller", recorded: `session ${record.sessionId}`, derived: `none: ${ended}` });
  for (const side of ["allow", "deny"] as const) {
    const [recorded, derived] = [record[side]?.met, outcomes[side]];
    if (recorded === undefined || derived === null || recorded === derived) continue;
    differences.push({ field: side, recorded: recorded ? "met" : "not met", derived: derived ? "met" : "not met" });
  }
  const mustDeny = outcomes.allow === false || outcomes.deny === true;
  if (mustDeny && record.result === "permit")
    differences.push({ field: "result", recorded: "permit", derived: "not permitted" });
  if (differences.length > 0) return { type: "different", answer: null, differences };
  const isDecided = mustDeny || (outcomes.allow === true && outcomes.deny === false);
  const what = `the record does not hold what these criteria read: ${missing.join(", ")}`;
  if (!isDecided) return unknown("criteria", what);
  const answer: DerivedAnswer = {
    result: record.result as DerivedAnswer["result"],
    reasons: record.reasons,
    allow: null,
    deny: null,
    rule: null,
  };
  return { type: "same", answer, uncompared: [what] };
}

function unknown(code: UnknownCode, why: string): Extract<Rederivation, { type: "unknown" }> {
  return { type: "unknown", code, why };
}

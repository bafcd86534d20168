/**
 * What-if: whether another configuration permits a recorded request, from the facts of that time or of now. Pure.
 *
 * - The same `decide` answers. A criterion whose input is not known is neither met nor unmet, and an answer counts only
 *   if it is the same either way. So a replay never guesses
 *   (docs/adr/0069-a-replay-decides-recorded-requests-again.md).
 * - The time is that of the record, also with the facts of now.
 */
import { criterionDescriptor, type DecisionRecord, decide, evaluateOutcomes, explain } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { UnixMs } from "../../events/index.ts";
import { type AccessState, describePerson } from "../access-report.ts";
import type { PastConfiguration } from "./past-configuration.ts";
import {
  isKnownCriterion,
  missingCriteria,
  type PastCaller,
  type PastFacts,
  recordedCaller,
} from "./recorded-caller.ts";
import type { ReadRecord } from "./recorded-question.ts";

export type WhatIf = Readonly<
  | {
      type: "answered";
      routeId: string | null;
      permitted: boolean;
      reasons: readonly string[];
      /** The rule that decides; null: none does. Finding it costs more than the decision. */
      rule: () => string | null;
    }
  /** `failed`: evaluating the policy threw. */
  | { type: "not"; why: string; failed?: true }
>;

/** The caller of a record, as some facts have the caller. */
export type CallerOf = (
  record: DecisionRecord,
  of: Readonly<{ route: RouteConfig; idpIds: ReadonlySet<string> | null; now: UnixMs }>,
) => PastCaller;

export type WhatIfQuestion = Readonly<{
  callerOf: CallerOf;
  configuration: PastConfiguration;
  /** Reads records by the routes of the configuration. */
  readRecord: ReadRecord;
}>;

export const whyPathUnknown = "the record does not contain the whole path: the route redacts it";

/** The caller by the facts at the link of the record. */
export function callersThen(facts: PastFacts): CallerOf {
  return (record, of) => recordedCaller(record, facts, of);
}

/** The caller as the person is now. The session counts as active, whatever became of it. */
export function callersNow(state: AccessState): CallerOf {
  const anonymous = { type: "anonymous", why: "no-session", credentialInHeader: false } as const;
  return ({ sessionId, userId }) => {
    if (sessionId === null || userId === null)
      return { type: "known", caller: anonymous, ended: null, isReadable: true };
    const user = state.projection.user(userId);
    const described = user === undefined ? undefined : describePerson(state, user);
    if (described === undefined) return { type: "unknown", why: "the person is not known now" };
    const { principal, profile, note } = described;
    if (principal === null)
      return { type: "unknown", why: note?.replace(/ until .*$/, "") ?? "the person has no access" };
    return { type: "known", caller: { type: "principal", principal }, ended: null, isReadable: profile !== undefined };
  };
}

export function decideOtherwise(record: DecisionRecord, question: WhatIfQuestion): WhatIf {
  const skipped = whyNot(record);
  if (skipped !== null) return not(skipped);
  try {
    return answer(record, question);
  } catch (error) {
    const what = error instanceof Error ? error.message : "unknown";
    return { ...not(`the policy could not be evaluated: ${what.slice(0, 200)}`), failed: true };
  }
}

/** Why a recorded decision was not the policy's; null: it was. */
export function whyNot({ occasion, result, status, allow, deny, reasons }: DecisionRecord): string | null {
  if (occasion === "closed") return "the end of a stream decides nothing";
  if (result === "unavailable" || result === "bad_request") return `policy did not decide it: ${result}`;
  if (status === 503) return "policy did not decide it: a data set could not be read";
  const isAmbiguous = reasons.includes("path-parameters") || reasons.includes("encoded-separator");
  if (result === "deny" && allow === undefined && deny === undefined && !isAmbiguous)
    return "the request was refused before policy, or by an older build";
  return null;
}

function not(why: string): Extract<WhatIf, { type: "not" }> {
  return { type: "not", why };
}

function answer(record: DecisionRecord, { callerOf, configuration, readRecord }: WhatIfQuestion): WhatIf {
  const read = readRecord(record);
  if (read.type === "unread") return not(read.why);
  const { routeId, request, isPathWhole } = read;
  const answered = (permitted: boolean, reasons: readonly string[], rule = (): string | null => null): WhatIf => {
    return { type: "answered", routeId, permitted, reasons, rule };
  };
  const refused = (...reasons: readonly string[]): WhatIf => answered(false, reasons);
  if (routeId === null) {
    // A tunnel that is addressed to another host than its route's has no route, and its record does not show the host.
    if (record.method === "CONNECT") return not("the record names no route");
    return refused("route-not-found");
  }
  if (!isPathWhole && !configuration.routes.has(routeId)) return not(whyPathUnknown);
  const found = configuration.routes.get(routeId);
  if (found === undefined) return refused("route-not-found");
  const { route, policy } = found;
  if (policy === null) return not(`the policy cannot be evaluated: ${found.problem ?? ""}`);
  const now = record.at;
  const resolved = callerOf(record, { route, idpIds: configuration.idpIdsOf(route), now });
  if (resolved.type === "unknown") return not(resolved.why);
  const { caller, ended, isReadable } = resolved;
  // An open exchange whose session has ended is cut, also where anyone may enter.
  if (ended !== null && record.occasion === "redecision") return refused("user-unauthenticated");
  const principal = caller.type === "principal" ? caller.principal : null;
  const knows = isKnownCriterion({ method: record.method, hasPath: isPathWhole, isReadable });
  const isKnown = (name: string, needsSession: boolean): boolean =>
    knows(name, needsSession) || (principal === null && needsSession); // never met without a session
  const missing = missingCriteria(policy, isKnown);
  if (missing.length === 0) {
    const decision = decide({ policies: new Map([[routeId, policy]]), routeId, caller, request, now });
    const rule = (): string | null => explain(policy, { request, principal, now }, decision).rule;
    return answered(decision.type === "permit", decision.reasons, rule);
  }
  const outcomes = evaluateOutcomes(policy, { request, principal, now, isKnown });
  if (outcomes.allow === false || outcomes.deny === true) return refused();
  const mayRequireMore = missing.some((name) => criterionDescriptor(name.split("/", 1)[0] ?? name)?.mayRequireMore);
  if (outcomes.allow === true && outcomes.deny === false && principal !== null && !mayRequireMore)
    return answered(true, []);
  return not(`it depends on facts that the record does not contain: ${missing.join(", ")}`);
}

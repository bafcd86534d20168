/**
 * Decision replay: whether another configuration permits a recorded request, or why that cannot be known.
 *
 * Pure. A record holds ids, method, host, path and address, but no claims, headers or query. A criterion on unrecorded
 * facts is neither met nor unmet, and an answer counts only if it is the same either way. So a replay never guesses.
 */
import {
  criterionDescriptor,
  type DecisionRecord,
  decide,
  evaluateOutcomes,
  type RoutePolicy,
} from "../../auth/index.ts";
import type { Config } from "../../config/index.ts";
import { dryRunRequest, recordedHead, redacted } from "../../proxy/index.ts";
import { callerOf } from "./evaluate-policy.ts";
import type { CasePerson } from "./policy-case.ts";
import type { PolicyTarget } from "./policy-document.ts";

/** A person without a session, as in `cardea users list --json`. */
export type KnownPerson = Pick<CasePerson, "email" | "name" | "groups"> & Readonly<{ subject: string }>;

export type ReplayOutcome = Readonly<
  | { type: "replayed"; routeId: string | null; before: boolean; after: boolean; reasons: readonly string[] }
  | { type: "not"; why: string }
>;

type ReplayInput = Readonly<{ config: Config; target: PolicyTarget; people: ReadonlyMap<string, KnownPerson> }>;

export function replayDecision(record: DecisionRecord, { config, target, people }: ReplayInput): ReplayOutcome {
  const skip = whyNot(record);
  if (skip !== null) return { type: "not", why: skip };
  const before = record.result === "permit";
  const head = recordedHead(record, config.routes);
  if (head === null) return { type: "not", why: "the record does not contain the requested port" };
  const dryRun = dryRunRequest(head);
  const refused = (routeId: string | null, reasons: readonly string[]): ReplayOutcome => ({
    type: "replayed",
    routeId,
    before,
    after: false,
    reasons,
  });
  if (dryRun.type === "refused") return refused(null, [dryRun.reason]);
  const refusal = dryRun.refusalOf(target.routes);
  if (refusal !== undefined) return refused(null, [refusal]);
  if (dryRun.reserved) return { type: "not", why: "the proxy answers this path itself" };
  const route = target.routes === null ? undefined : dryRun.match(target.routes);
  const policy = route === undefined ? undefined : target.policies.get(route.id);
  if (route === undefined || policy === undefined) return refused(record.routeId, ["route-not-found"]);

  const known = record.userId === null ? undefined : people.get(record.userId);
  const person = record.sessionId === null ? null : personOf(record, known);
  const caller = callerOf(person);
  const question = { request: dryRun.decisionRequest(route), now: record.at };
  const principal = caller.type === "principal" ? caller.principal : null;
  const isKnown = (name: string, needsSession: boolean): boolean => {
    const replay = criterionDescriptor(name)?.replay ?? "unknown";
    if (replay === "recorded" || replay === "time") return true;
    if (name === "cors_preflight") return record.method !== "OPTIONS";
    return person === null ? needsSession : known !== undefined && replay === "people";
  };
  const unknown = unknownOf(policy, isKnown);
  if (unknown.length === 0) {
    const decision = decide({ policies: target.policies, routeId: route.id, caller, ...question });
    const { type, reasons } = decision;
    return { type: "replayed", routeId: route.id, before, after: type === "permit", reasons };
  }
  const { allow, deny } = evaluateOutcomes(policy, { ...question, principal, isKnown });
  if (allow === false || deny === true) return refused(route.id, []);
  if (
    allow === true &&
    deny === false &&
    person !== null &&
    !unknown.some((name) => criterionDescriptor(name)?.mayRequireMore)
  )
    return { type: "replayed", routeId: route.id, before, after: true, reasons: [] };
  return { type: "not", why: `it depends on facts that the record does not contain: ${unknown.join(", ")}` };
}

function whyNot({ result, status, sessionId, path }: DecisionRecord): string | null {
  if (path.includes(redacted)) return "the record does not contain the whole path: the route redacts it";
  if (result === "unavailable" || result === "bad_request") return `policy did not decide it: ${result}`;
  if (status === 503) return "policy did not decide it: a data set could not be read";
  if (result === "signin" && sessionId !== null) return "the session had ended";
  return null;
}

function unknownOf(policy: RoutePolicy, isKnown: (name: string, needsSession: boolean) => boolean): readonly string[] {
  const names = policy.conditionals.flatMap(({ criteria }) =>
    criteria.flatMap(({ name, needsSession }) => (isKnown(name, needsSession) ? [] : [name])),
  );
  return [...new Set(names)].sort();
}

function personOf({ sessionId, userId }: DecisionRecord, known: KnownPerson | undefined): CasePerson {
  const { subject = userId ?? "", email = "", name = "", groups = [] } = known ?? {};
  const nothing = { claims: {}, devices: [], expiresAtMs: null };
  return { sessionId: sessionId ?? "", userId: subject, email, name, groups, ...nothing };
}

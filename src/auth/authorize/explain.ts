/**
 * Explanation of a decision: the rule that decided, and the outcome of each criterion.
 *
 * - Pure, and computed on demand: it evaluates each criterion again, so it costs more than the decision.
 * - It never contains the values that a criterion compares with: a trace may be shown to people who must not learn
 *   other people's names.
 */
import {
  configurationStream,
  type DeviceId,
  deviceStream,
  type FactPosition,
  type GroupId,
  groupStream,
  type NodeId,
  type SessionId,
  type Stream,
  sessionStream,
  type TimeBox,
  type UnixMs,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { CompiledConditional, RoutePolicy } from "./compile.ts";
import type { DecisionSummary } from "./decide.ts";
import type { DecisionRequest, Principal } from "./decision.ts";
import type { PolicyAction, PolicyOperator } from "./ppl-parser.ts";
import type { PolicyOutcome } from "./reasons.ts";

export type RuleTrace = Readonly<{
  /** As it is written: `policy[0].allow.or`. */
  rule: string;
  /** `file:line:column` */
  at: string;
  action: PolicyAction;
  operator: PolicyOperator;
  met: boolean;
  reasons: readonly string[];
  criteria: readonly Readonly<{ criterion: string; at: string; met: boolean; reasons: readonly string[] }>[];
}>;
export type Explanation = Readonly<{
  /** The rule that decided; null: none did, for example because no rule allowed the request. */
  rule: string | null;
  trace: readonly RuleTrace[];
}>;

/**
 * The part of an explanation that is recorded: the rules with the names of their met and unmet criteria, and the facts
 * with the positions of their newest events. Bounded.
 */
export type DecisionTrace = Readonly<{
  /** The rule that decided; null: none did, and none allowed the request. */
  rule: string | null;
  rules: readonly Readonly<{
    rule: string;
    met: boolean;
    criteriaMet: readonly string[];
    criteriaUnmet: readonly string[];
    /** The number of criteria that were not evaluated again. */
    criteriaMore: number;
  }>[];
  /** The number of rules that are not listed. */
  more: number;
  facts: readonly FactTrace[];
  /** The number of facts that are not listed. */
  factsMore: number;
}>;

/** A fact that the decision used. */
export type FactTrace = Readonly<{
  /** A stream of the log (`session:…`, `user:…`, `group:…`, `device:…`, `configuration:…`), or `record:<type>`. */
  fact: string;
  /** The criteria that read it; empty: every decision about a person reads it. */
  criteria: readonly string[];
  /** For a group: whether the person is a member. */
  member?: boolean;
  /** For a group: the end of an operator's addition, which may have passed, and its reason. Absent: it has none. */
  until?: UnixMs;
  reason?: string;
  /** Position of its newest event; 0: there was none; null: the fact is not in the log. */
  position: number | null;
  /** False: the newest event is at `position` or earlier. */
  exact: boolean;
}>;

/** Finds the newest event of a fact in this node's copy of the log; null: the fact is not in the log. */
export type FactPositionOf = (fact: TracedFact) => (FactPosition & Readonly<{ grant?: TimeBox }>) | null;
export type TracedFact =
  | Readonly<{ type: "stream"; stream: Stream }>
  | Readonly<{ type: "session"; sessionId: SessionId }>
  | Readonly<{ type: "membership"; userId: UserId; groupId: GroupId }>;

/** The session of the caller. It may be revoked or expired, and then there is no principal. */
export type SessionRef = Readonly<{ sessionId: SessionId; userId: UserId }>;

/** Further sources of a trace. */
export type TraceSources = Readonly<{ positionOf: FactPositionOf; session: SessionRef | null; node: NodeId }>;

const rulesMax = 20;
const factsMax = 40;
/** Per rule: a list of thousands of people is not evaluated again for every person who is not on it. */
const criteriaMax = 20;

export function traceDecision(
  policy: RoutePolicy | undefined,
  query: Readonly<{ request: DecisionRequest; principal: Principal | null; now: UnixMs }>,
  answer: DecisionSummary,
  context: TraceSources,
): DecisionTrace | null {
  if (policy === undefined) return null;
  const { request, principal, now } = query;
  const evaluated = policy.conditionals.map((conditional) => ({
    conditional,
    outcome: conditional.test(request, principal, now),
  }));
  const deciding = evaluated.find(({ conditional, outcome }) => decides(conditional, outcome, answer));
  const rules = evaluated.slice(0, rulesMax).map(({ conditional: { rule, criteria }, outcome: { met } }) => {
    const [criteriaMet, criteriaUnmet] = [new Set<string>(), new Set<string>()];
    for (const { name, test } of criteria.slice(0, criteriaMax))
      (test(request, principal, now).met ? criteriaMet : criteriaUnmet).add(name);
    const criteriaMore = Math.max(0, criteria.length - criteriaMax);
    return { rule, met, criteriaMet: [...criteriaMet], criteriaUnmet: [...criteriaUnmet], criteriaMore };
  });
  const facts = factsOf(policy, query.principal, context);
  return {
    rule: deciding?.conditional.rule ?? null,
    rules,
    more: evaluated.length - rules.length,
    facts: facts.slice(0, factsMax),
    factsMore: Math.max(0, facts.length - factsMax),
  };
}

/** Session and user first, then the other facts that the criteria read. */
function factsOf(
  { conditionals }: RoutePolicy,
  principal: Principal | null,
  { positionOf, session, node }: TraceSources,
): readonly FactTrace[] {
  const facts: FactTrace[] = [];
  const add = (
    fact: string,
    criteria: Iterable<string>,
    traced: TracedFact | null,
    more: Partial<FactTrace> = {},
  ): void => {
    const place = traced === null ? null : positionOf(traced);
    facts.push({
      fact,
      criteria: [...criteria],
      ...more,
      ...place?.grant,
      position: place?.position ?? null,
      exact: place?.exact ?? false,
    });
  };
  const sessionCriteria = new Set<string>();
  const groups = new Map<string, Set<string>>();
  const deviceTypes = new Map<string, Set<string>>();
  const records = new Map<string, Set<string>>();
  for (const { criteria } of conditionals.slice(0, rulesMax)) {
    for (const { name, reads, needsSession } of criteria.slice(0, criteriaMax)) {
      for (const id of reads.groups) criteriaOf(groups, id).add(name);
      for (const type of reads.deviceTypes) criteriaOf(deviceTypes, type).add(name);
      for (const type of reads.recordTypes) criteriaOf(records, type).add(name);
      if (needsSession && reads.groups.length + reads.deviceTypes.length + reads.recordTypes.length === 0)
        sessionCriteria.add(name);
    }
  }
  if (session !== null) {
    const { sessionId, userId } = session;
    add(sessionStream(sessionId), sessionCriteria, { type: "session", sessionId });
    const user = userStream(userId);
    add(user, [], { type: "stream", stream: user });
    for (const [id, criteria] of groups) {
      const groupId = id as GroupId;
      const member = principal === null ? {} : { member: principal.groups.has(groupId) };
      add(groupStream(groupId), criteria, { type: "membership", userId, groupId }, member);
    }
    for (const { id, typeId } of principal?.devices ?? []) {
      const criteria = deviceTypes.get(typeId) ?? deviceTypes.get("any");
      const stream = deviceStream(id as DeviceId);
      if (criteria !== undefined) add(stream, criteria, { type: "stream", stream });
    }
  }
  for (const [type, criteria] of records) add(`record:${type}`, criteria, null);
  const stream = configurationStream(node);
  add(stream, [], { type: "stream", stream });
  return facts;
}

function criteriaOf(all: Map<string, Set<string>>, key: string): Set<string> {
  const known = all.get(key) ?? new Set();
  all.set(key, known);
  return known;
}

export function explain(
  policy: RoutePolicy,
  query: Readonly<{ request: DecisionRequest; principal: Principal | null; now: UnixMs }>,
  answer: DecisionSummary,
): Explanation {
  const { request, principal, now } = query;
  const evaluated = policy.conditionals.map((conditional) => ({
    conditional,
    outcome: conditional.test(request, principal, now),
  }));
  const deciding = evaluated.find(({ conditional, outcome }) => decides(conditional, outcome, answer));
  const trace = evaluated.map(({ conditional, outcome }): RuleTrace => {
    const { rule, action, operator, place, criteria } = conditional;
    return {
      rule,
      at: `${place.file}:${place.line}:${place.column}`,
      action,
      operator,
      met: outcome.met,
      reasons: outcome.reasons.words,
      criteria: criteria.map((criterion) => {
        const { met, reasons } = criterion.test(request, principal, now);
        const at = `${criterion.place.file}:${criterion.place.line}:${criterion.place.column}`;
        return { criterion: criterion.name, at, met, reasons: reasons.words };
      }),
    };
  });
  return { rule: deciding?.conditional.rule ?? null, trace };
}

function decides({ action }: CompiledConditional, { met, reasons }: PolicyOutcome, answer: DecisionSummary): boolean {
  switch (answer.type) {
    case "permit":
      return action === "allow" && met;
    case "signin":
      return reasons.requiresSignIn;
    case "deny":
      if (answer.deviceType !== null) return reasons.requiresDevice;
      if (answer.status === 503) return reasons.recordsUnavailable;
      return action === "deny" && (met || reasons.requiresCertificate);
  }
}

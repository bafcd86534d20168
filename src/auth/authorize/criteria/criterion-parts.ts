/**
 * Criterion parts: what a compiled criterion is, and the few shapes that all of them are made of.
 *
 * A session criterion without a session is unmet with `user-unauthenticated`, whatever its matcher says: `exclude`, `not` and
 * `not_in` do not make somebody out of nobody. The same holds for a principal whose personal data does not open. `sessionTest` is the one
 * place where that is decided.
 */
import type { ClaimValue, Profile, UnixMs } from "../../../events/index.ts";
import type { DecisionRequest, Principal } from "../decision.ts";
import type { Criterion, ReportPolicyProblem } from "../ppl-parser.ts";

import type { PolicyOutcome, Reason, ReasonTable } from "../reasons.ts";
import type { Records } from "../records/records.ts";

/** Allocates nothing and never throws. */
export type PolicyTest = (request: DecisionRequest, principal: Principal | null, now: UnixMs) => PolicyOutcome;

/** The next moment at which time alone can change the answer of a criterion; null: never. */
export type Boundary = (request: DecisionRequest, now: UnixMs) => UnixMs | null;

/** What a criterion looks at beside the request, the session and its user. */
export type CriterionReads = Readonly<{
  groups: readonly string[];
  deviceTypes: readonly string[];
  recordTypes: readonly string[];
  boundaries: readonly Boundary[];
}>;

export type CompiledCriterion = Readonly<{
  test: PolicyTest;
  phrase: string;
  /** The names of people it asks for, so that a description can count them. */
  people: readonly ClaimValue[];
  /** Set where the criterion asks whether one thing is one of some values; several of these become one look-up. */
  anyOf: MembershipTest | null;
  reads: CriterionReads;
  /** Whether it asks for a session. */
  needsSession: boolean;
  /** The answer where it is the same for every request: `accept`, `reject`, a matcher of nothing. */
  always: boolean | null;
}>;
export type MembershipTest = Readonly<{
  /** Two criteria with one subject ask about the same thing. */
  subject: string;
  values: readonly ClaimValue[];
  build: (values: ReadonlySet<ClaimValue>) => PolicyTest;
  /** What somebody has of it, where it is theirs: then rules can be found by it. */
  valuesOf?: ValuesOf;
}>;
export type ValuesOf = (principal: Principal) => string | ReadonlySet<ClaimValue> | undefined;

/** What compiling needs beside the policy: the data sets that `record` may ask about. */
export type PolicyContext = Readonly<{
  records: Records;
  /** Which facts requests bring: by default those of HTTP, so that a `deny` by a fact of SSH or MCP is refused. */
  facts?: "http" | "any";
}>;
export type CriterionContext = PolicyContext &
  Readonly<{ criterion: Criterion; reasons: ReasonTable; report: ReportPolicyProblem }>;
export type CompileCriterion = (context: CriterionContext) => CompiledCriterion | undefined;
export type ReasonPair = Readonly<{ ok: Reason; fail: Reason }>;

export const noReads: CriterionReads = { groups: [], deviceTypes: [], recordTypes: [], boundaries: [] };

/** A criterion of which nothing more is to be said than how it is tested. */
export function compiledCriterion(
  test: PolicyTest,
  phrase: string,
  more: Partial<CompiledCriterion> = {},
): CompiledCriterion {
  return { test, phrase, people: [], anyOf: null, reads: noReads, needsSession: false, always: null, ...more };
}

export function readsOf(parts: Partial<CriterionReads>): CriterionReads {
  return { ...noReads, ...parts };
}

export function requestTest(
  reasons: ReasonTable,
  { ok, fail }: ReasonPair,
  holds: (request: DecisionRequest, now: UnixMs) => boolean,
): PolicyTest {
  const met = reasons.of(ok).met;
  const unmet = reasons.of(fail).unmet;
  return (request, _principal, now) => (holds(request, now) ? met : unmet);
}

/** The one place where a session criterion meets a missing session. */
export function sessionTest(
  reasons: ReasonTable,
  { ok, fail }: ReasonPair,
  holds: (profile: Profile, principal: Principal, request: DecisionRequest) => boolean,
): PolicyTest {
  const met = reasons.of(ok).met;
  const unmet = reasons.of(fail).unmet;
  const nobody = reasons.of("user-unauthenticated").unmet;
  return (request, principal) => {
    if (principal === null || principal.profile === undefined) return nobody;
    return holds(principal.profile, principal, request) ? met : unmet;
  };
}

/** `accept: false` accepts all the same. */
export function warnIfIgnored({ criterion, report }: CriterionContext): void {
  if (criterion.data !== false) return;
  const { name, path } = criterion;
  report(
    path,
    `\`${name}\` holds whatever value is written behind it`,
    `remove it, or write \`${name}: true\``,
    "warning",
  );
}

/** One item, or a list of them. */
export function itemsOf(data: unknown): readonly unknown[] {
  return Array.isArray(data) ? data : [data];
}

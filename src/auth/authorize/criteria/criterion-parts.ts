/**
 * Criterion parts: the types of a criterion, before and after it is compiled, and the shapes that all criteria share.
 *
 * - A criterion about the session is unmet with `user-unauthenticated` if the request has no session,
 *   whatever its matcher says. With `exclude`, `not` and `not_in` an anonymous caller does not count as a person.
 * - The same holds for a principal whose personal data does not open.
 * - `sessionTest` decides both.
 */
import type { ClaimValue, Profile, UnixMs } from "../../../events/index.ts";
import type { DecisionRequest, Principal } from "../decision.ts";
import type { Criterion, ReportPolicyProblem } from "../ppl-parser.ts";
import type { PolicyOutcome, Reason, ReasonTable } from "../reasons.ts";
import type { Records } from "../records/records.ts";
import type { Requirement } from "../requirements.ts";

/** Allocates nothing and never throws. */
export type PolicyTest = (request: DecisionRequest, principal: Principal | null, now: UnixMs) => PolicyOutcome;

/** The next moment at which time alone can change the answer of a criterion; null: never. */
export type Boundary = (request: DecisionRequest, now: UnixMs) => UnixMs | null;

/** Facts that a criterion reads besides the request, the session and its user. */
export type CriterionReads = Readonly<{
  groups: readonly string[];
  deviceTypes: readonly string[];
  recordTypes: readonly string[];
  boundaries: readonly Boundary[];
}>;

export type CompiledCriterion = Readonly<{
  test: PolicyTest;
  requirement: Requirement;
  /** Names of people that it checks for, so that a description can count them. */
  people: readonly ClaimValue[];
  /** Set if the criterion tests membership in a set of values; several of these become one lookup. */
  anyOf: MembershipTest | null;
  reads: CriterionReads;
  /** Whether it needs a session. */
  needsSession: boolean;
  /** The constant answer (`accept`, `reject`, a matcher of nothing); null: it depends on the request. */
  always: boolean | null;
}>;
export type MembershipTest = Readonly<{
  /** Two criteria with equal subjects test the same value. */
  subject: string;
  values: readonly ClaimValue[];
  build: (values: ReadonlySet<ClaimValue>) => PolicyTest;
  /** The principal's values, if the subject is one of the principal: an index finds rules by them. */
  valuesOf?: ValuesOf;
}>;
export type ValuesOf = (principal: Principal) => string | ReadonlySet<ClaimValue> | undefined;

/** Input of compilation besides the policy: the data sets that `record` may name. */
export type PolicyContext = Readonly<{
  records: Records;
  /** Facts that requests carry. Absent: `http`, so a `deny` on a fact of SSH or MCP is refused. */
  facts?: "http" | "any";
}>;
export type CriterionContext = PolicyContext &
  Readonly<{
    criterion: Criterion;
    reasons: ReasonTable;
    report: ReportPolicyProblem;
    /** The criterion's own reasons, from its descriptor. */
    words: ReasonPair;
  }>;
export type CompileCriterion = (context: CriterionContext) => CompiledCriterion | undefined;
export type ReasonPair = Readonly<{ ok: Reason; fail: Reason }>;

/** The reasons of a criterion. The console has a sentence for each that refuses (src/console/text/en.ts). */
export type CriterionReasons = ReasonPair &
  Readonly<{
    /** Further reasons that refuse. */
    others?: readonly Reason[];
  }>;

/**
 * How much of a criterion a replay under another policy can evaluate from a decision record.
 *
 * - `recorded`: the record holds every input of the criterion.
 * - `time`: the moment of the decision is enough.
 * - `people`: known if the user is known.
 * - `unknown`: the record does not hold it.
 */
export type CriterionReplay = "recorded" | "people" | "time" | "unknown";

/** One criterion of the policy language. Everything that depends on its name is derived from this. */
export type CriterionDescriptor = Readonly<{
  name: string;
  compile: CompileCriterion;
  reasons: CriterionReasons;
  replay: CriterionReplay;
  /** It can require something first (a device, a certificate, a data set), regardless of the other rules. */
  mayRequireMore?: true;
  /** Reason why no request in this build can meet it. Absent: requests can. */
  unsupported?: string;
}>;

export const noReads: CriterionReads = { groups: [], deviceTypes: [], recordTypes: [], boundaries: [] };

/** A compiled criterion with defaults for everything but its test. */
export function compiledCriterion(
  test: PolicyTest,
  requirement: Requirement,
  more: Partial<CompiledCriterion> = {},
): CompiledCriterion {
  return { test, requirement, people: [], anyOf: null, reads: noReads, needsSession: false, always: null, ...more };
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

/** Wraps the test of a session criterion: unmet without a session. */
export function sessionTest(
  reasons: ReasonTable,
  { ok, fail }: ReasonPair,
  holds: (profile: Profile, principal: Principal, request: DecisionRequest) => boolean,
): PolicyTest {
  const met = reasons.of(ok).met;
  const unmet = reasons.of(fail).unmet;
  const unauthenticated = reasons.of("user-unauthenticated").unmet;
  return (request, principal) => {
    if (principal === null || principal.profile === undefined) return unauthenticated;
    return holds(principal.profile, principal, request) ? met : unmet;
  };
}

/** Warns about an ignored operand: `accept: false` still accepts. */
export function warnIfIgnored({ criterion, report }: CriterionContext): void {
  if (criterion.data !== false) return;
  const { name, path } = criterion;
  report(path, `\`${name}\` is met whatever its value is`, `remove it, or write \`${name}: true\``, "warning");
}

/** One item, or a list of them. */
export function itemsOf(data: unknown): readonly unknown[] {
  return Array.isArray(data) ? data : [data];
}

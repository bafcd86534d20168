/**
 * Criterion parts: the types of a criterion, before and after it is compiled, and the shapes that all criteria share.
 *
 * - A criterion about the session is unmet with `user-unauthenticated` if the request has no session,
 *   whatever its matcher says. With `exclude`, `not` and `not_in` an anonymous caller does not count as a person.
 * - The same holds for a principal whose personal data does not open.
 * - `sessionTest` decides both, in one place.
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
  Readonly<{
    criterion: Criterion;
    reasons: ReasonTable;
    report: ReportPolicyProblem;
    /** The criterion's own reasons, from its descriptor. */
    words: ReasonPair;
  }>;
export type CompileCriterion = (context: CriterionContext) => CompiledCriterion | undefined;
export type ReasonPair = Readonly<{ ok: Reason; fail: Reason }>;

/** The reasons that a criterion gives, with a sentence for the person who is refused. */
export type CriterionReasons = ReasonPair &
  Readonly<{
    /** Names the kind of rule, never its content: a stranger learns no group name and no network from it. */
    sentence: string;
    /** Further reasons that refuse, each with its sentence. */
    others?: Readonly<Partial<Record<Reason, string>>>;
  }>;

/**
 * What a decision record says about a criterion when the decision is replayed under another policy.
 *
 * - `recorded`: the record holds all that the criterion looks at.
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
  /** It can ask for something else first (a device, a certificate, a data set), whatever the other rules say. */
  mayRequireMore?: true;
  /** Why no request to a listener of this build can meet it. Absent: requests can. */
  unsupported?: string;
}>;

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

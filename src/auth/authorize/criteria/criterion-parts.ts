/**
 * Criterion parts: what a compiled criterion is, and the few shapes that all of them are made of.
 *
 * A session criterion without a session is unmet with `user-unauthenticated`, whatever its matcher says: `exclude`, `not` and
 * `not_in` do not make somebody out of nobody. The same holds for a principal whose personal data does not open. `sessionTest` is the one
 * place where that is decided.
 */
import type { ClaimValue, Profile, UnixMs } from "../../../events/index.ts";
import type { DecisionRequest, Principal } from "../decision.ts";
import type { Criterion, Report } from "../ppl-parser.ts";

import type { Outcome, Reason, ReasonTable } from "../reasons.ts";
import type { Records } from "../records/records.ts";

/** Allocates nothing and never throws. */
export type Test = (request: DecisionRequest, principal: Principal | null, now: UnixMs) => Outcome;

/** The next moment at which time alone can change the answer of a criterion; null: never. */
export type Boundary = (request: DecisionRequest, now: UnixMs) => UnixMs | null;

/** What a criterion looks at beside the request, the session and its user. */
export type Reads = Readonly<{
  groups: readonly string[];
  deviceTypes: readonly string[];
  recordTypes: readonly string[];
  boundaries: readonly Boundary[];
}>;

export type CompiledCriterion = Readonly<{
  test: Test;
  phrase: string;
  /** The names of people it asks for, so that a description can count them. */
  people: readonly ClaimValue[];
  /** Set where the criterion asks whether one thing is one of some values; several of these become one look-up. */
  anyOf: AnyOf | null;
  reads: Reads;
  /** Whether it asks for a session. */
  ofSession: boolean;
  /** The answer where it is the same for every request: `accept`, `reject`, a matcher of nothing. */
  always: boolean | null;
}>;
export type AnyOf = Readonly<{
  /** Two criteria with one subject ask about the same thing. */
  subject: string;
  values: readonly ClaimValue[];
  build: (values: ReadonlySet<ClaimValue>) => Test;
  /** What somebody has of it, where it is theirs: then rules can be found by it. */
  held?: Held;
}>;
export type Held = (principal: Principal) => string | ReadonlySet<ClaimValue> | undefined;

/** What compiling needs beside the policy: the data sets that `record` may ask about. */
export type Surroundings = Readonly<{
  records: Records;
  /** Which facts requests bring: by default those of HTTP, so that a `deny` by a fact of SSH or MCP is refused. */
  facts?: "http" | "any";
}>;
export type Context = Surroundings & Readonly<{ criterion: Criterion; reasons: ReasonTable; report: Report }>;
export type Compile = (context: Context) => CompiledCriterion | undefined;
export type Words = Readonly<{ ok: Reason; fail: Reason }>;

export const readsNothing: Reads = { groups: [], deviceTypes: [], recordTypes: [], boundaries: [] };

/** A criterion of which nothing more is to be said than how it is tested. */
export function plain(test: Test, phrase: string, more: Partial<CompiledCriterion> = {}): CompiledCriterion {
  return { test, phrase, people: [], anyOf: null, reads: readsNothing, ofSession: false, always: null, ...more };
}

export function reading(parts: Partial<Reads>): Reads {
  return { ...readsNothing, ...parts };
}

export function requestTest(
  reasons: ReasonTable,
  { ok, fail }: Words,
  holds: (request: DecisionRequest, now: UnixMs) => boolean,
): Test {
  const met = reasons.of(ok).met;
  const unmet = reasons.of(fail).unmet;
  return (request, _principal, now) => (holds(request, now) ? met : unmet);
}

/** The one place where a session criterion meets a missing session. */
export function sessionTest(
  reasons: ReasonTable,
  { ok, fail }: Words,
  holds: (profile: Profile, principal: Principal, request: DecisionRequest) => boolean,
): Test {
  const met = reasons.of(ok).met;
  const unmet = reasons.of(fail).unmet;
  const nobody = reasons.of("user-unauthenticated").unmet;
  return (request, principal) => {
    if (principal === null || principal.profile === undefined) return nobody;
    return holds(principal.profile, principal, request) ? met : unmet;
  };
}

/** `accept: false` accepts all the same. */
export function warnIfIgnored({ criterion, report }: Context): void {
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
export function textsOf(data: unknown): readonly unknown[] {
  return Array.isArray(data) ? data : [data];
}

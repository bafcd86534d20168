/**
 * Requirements: what the policy of a route asks for, as data for the words of a page (src/console/text).
 *
 * - Pure. Made when a policy is compiled, so that a refused request only looks its route up.
 * - Every person who is refused may read them. A requirement names groups, domains, methods and paths, but no person,
 *   address or certificate; "one of 3 named people" is the most that it says.
 */
import type { ClaimValue, Fact } from "../../events/index.ts";
import type { ListMatcher, ListOperator, TextMatcher, TextOperator } from "./matchers.ts";
import type { PolicyOperator } from "./ppl-parser.ts";

/** What a text matcher is about. */
export type TextSubject = "method" | "path" | "email-domain" | "mcp-tool" | "ssh-user";

/** What one criterion requires. */
export type Requirement =
  | Fact<"text", { subject: TextSubject; operators: TextMatcher["operators"] }>
  /** One of so many named people. */
  | Fact<"people", { count: number }>
  /** `others`: everyone but some people. Otherwise: a name or an email of a certain form. */
  | Fact<"person", { others: boolean }>
  | Fact<"groups", { operators: ListMatcher<string>["operators"] }>
  /** A value is null where it may be a person's own. */
  | Fact<"claim", { claim: string; values: readonly Readonly<{ operator: ListOperator; value: ClaimValue | null }>[] }>
  /** Days of the week, Monday is 1. */
  | Fact<"days", { days: readonly number[] }>
  | Fact<"device", { approved: boolean }>
  | Fact<"record", { recordType: string }>
  | Fact<"ssh-user-claim", { claim: string }>
  | Fact<
      | "sign-in"
      | "nothing"
      | "impossible"
      | "cors-preflight"
      | "network"
      | "certificate"
      | "bad-certificate"
      | "date"
      | "time-of-day"
      | "ssh-user-email"
      | "ssh-key"
      | "ssh-authority",
      object
    >;

/** What one conditional (`and`, `or`, `not`, `nor`) requires of its criteria. */
export type ConditionalRequirement = Readonly<{ operator: PolicyOperator; requirements: readonly Requirement[] }>;

/** What a whole route requires. The conditionals of a side are alternatives. */
export type RouteRequirements = Readonly<{
  allow: readonly ConditionalRequirement[];
  deny: readonly ConditionalRequirement[];
}>;

export function textRequirement(subject: TextSubject, { operators }: TextMatcher): Requirement {
  return { type: "text", subject, operators };
}

/** For matchers on people: how many, never who. */
export function peopleRequirement(matcher: TextMatcher): Requirement {
  if (matcher.anyOf !== null) return countOf(matcher.anyOf);
  const excluding: readonly TextOperator[] = ["not", "not_in"];
  return { type: "person", others: matcher.operators.every(({ operator }) => excluding.includes(operator)) };
}

function countOf(names: readonly ClaimValue[]): Requirement {
  return { type: "people", count: new Set(names).size };
}

export function groupsRequirement({ operators }: ListMatcher<string>): Requirement {
  return { type: "groups", operators };
}

/** Claims whose value is a person's own: the claim is named, its value is not. */
const personalClaim =
  /(^|[./_])(sub|oid|uid|upn|email|mail|name|username|nickname|phone|phone_number|address|birthdate)$/i;

export function claimRequirement(claim: string, matcher: ListMatcher<ClaimValue>): Requirement {
  const isPersonal = personalClaim.test(claim);
  const hides = (value: ClaimValue): boolean => isPersonal || (typeof value === "string" && value.includes("@"));
  const values = matcher.operators.map(({ operator, operand }) => ({
    operator,
    value: hides(operand) ? null : operand,
  }));
  return { type: "claim", claim, values: isPersonal ? values.slice(0, 1) : values };
}

/** `people` are the names that a criterion contains: they are counted, and never shown. */
export type CriterionRequirement = Readonly<{ requirement: Requirement; people: readonly ClaimValue[] }>;

export function conditionalRequirement(
  operator: PolicyOperator,
  criteria: readonly CriterionRequirement[],
): ConditionalRequirement {
  const anyOf = operator === "or" || operator === "not";
  const named = anyOf ? criteria.flatMap(({ people }) => people) : [];
  const found = criteria
    .filter(({ people }) => !anyOf || people.length === 0)
    .map(({ requirement }) => requirement)
    .concat(named.length > 0 ? [countOf(named)] : []);
  const distinct = new Map(found.map((requirement) => [JSON.stringify(requirement), requirement]));
  return { operator, requirements: [...distinct.values()] };
}

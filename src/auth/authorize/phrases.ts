/**
 * Phrases: what a criterion requires, in words for an error page.
 *
 * Every person who is refused may read them. A phrase names groups, domains, methods and paths, but no person, address
 * or certificate; "one of 3 named people" is the most it says.
 */
import type { ClaimValue } from "../../events/index.ts";
import type { ListMatcher, TextMatcher, TextOperator } from "./matchers.ts";
import type { PolicyOperator } from "./ppl-parser.ts";

const operatorPrefix: Readonly<Record<TextOperator, string>> = {
  is: "",
  in: "",
  not: "other than ",
  not_in: "other than ",
  contains: "containing ",
  starts_with: "starting with ",
  ends_with: "ending with ",
};

/** `path starting with /api`, `method GET or HEAD`. */
export function textPhrase(noun: string, matcher: TextMatcher): string {
  const parts = matcher.operators.map(
    ({ operator, operands }) => `${operatorPrefix[operator]}${operands.join(" or ") || '""'}`,
  );
  return `${noun} ${parts.join(" and ")}`;
}

/** For matchers on people: how many, never who. */
export function peoplePhrase(matcher: TextMatcher): string {
  if (matcher.anyOf !== null) return countPhrase(matcher.anyOf);
  const excludes = matcher.operators.every(({ operator }) => operator === "not" || operator === "not_in");
  return excludes ? "anyone except certain people" : "a matching name or email";
}

function countPhrase(names: readonly ClaimValue[]): string {
  const people = new Set(names).size;
  return people === 1 ? "one named person" : `one of ${people} named people`;
}

export function groupsPhrase(matcher: ListMatcher<string>): string {
  const words = { has: "group", is: "only the group", exclude: "not being in group" } as const;
  return matcher.operators.map(({ operator, operand }) => `${words[operator]} ${operand}`).join(" and ");
}

/** Claims whose value is a person's own: the claim is named, its value is not. */
const personalClaim =
  /(^|[./_])(sub|oid|uid|upn|email|mail|name|username|nickname|phone|phone_number|address|birthdate)$/i;

export function claimPhrase(claim: string, matcher: ListMatcher<ClaimValue>): string {
  if (personalClaim.test(claim)) return `a particular value of ${claim}`;
  const words = { has: "", is: "only ", exclude: "other than " } as const;
  const values = matcher.operators.map(({ operator, operand }) => {
    const hidden = typeof operand === "string" && operand.includes("@");
    return `${words[operator]}${hidden ? "a particular value" : operand}`;
  });
  return `claim ${claim}: ${values.join(" and ")}`;
}

const operatorWords: Readonly<Record<PolicyOperator, string>> = {
  or: "one of",
  and: "all of",
  not: "none of",
  nor: "not all of",
};

/** A criterion in words. `people` are the names that it contains: they are counted, and never printed. */
export type CriterionPhrase = Readonly<{ phrase: string; people: readonly ClaimValue[] }>;

/** The requirements of one conditional: `one of: group eng; one named person`. */
export function conditionalPhrase(operator: PolicyOperator, criteria: readonly CriterionPhrase[]): string {
  const anyOf = operator === "or" || operator === "not";
  const named = anyOf ? criteria.flatMap(({ people }) => people) : [];
  const phrases = criteria.filter(({ people }) => !anyOf || people.length === 0).map(({ phrase }) => phrase);
  if (named.length > 0) phrases.push(countPhrase(named));
  const distinct = [...new Set(phrases)];
  const single = distinct.length === 1 && (operator === "or" || operator === "and");
  return single ? (distinct[0] ?? "") : `${operatorWords[operator]}: ${distinct.join("; ")}`;
}

/** The sentences of a whole route. Conditionals are alternatives on either side. */
export function describeRules(allow: readonly string[], deny: readonly string[]): readonly string[] {
  return [
    ...(allow.length === 0 ? ["No one has access."] : []),
    ...allow.map((asked, index) => (index === 0 ? firstSentence(asked) : `Or: ${asked}.`)),
    ...deny.map((refused) => `Blocked: ${refused}.`),
  ];
}

function firstSentence(asked: string): string {
  const [, group] = /^group ([^;:]+)$/.exec(asked) ?? [];
  return group === undefined || group.includes(" and ")
    ? `Access needs ${asked}.`
    : `Only members of ${group} have access.`;
}

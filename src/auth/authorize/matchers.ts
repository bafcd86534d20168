/**
 * Matchers: the operand of a criterion, checked when the policy is compiled and turned into one closure.
 *
 * - Text: a bare value means `is`; `is`, `not`, `contains`, `starts_with`, `ends_with`, `in`, `not_in`.
 * - Lists: a bare value means `has`; `has`, `is` (exactly one element, and it equals), `exclude`.
 * - Several operators must all hold.
 * - Comparison is exact, as in Pomerium: case counts, and `true` is not the text "true".
 * - An operand that can never match in Pomerium (a bare list, a number against text) is an error here, because `not`
 *   would turn it into "always".
 */
import type { ClaimValue } from "../../events/index.ts";
import {
  describeValue,
  isObject,
  type PolicyPath,
  type ReportPolicyProblem,
  suggestionFor,
  useOneOf,
} from "./ppl-parser.ts";

export type TextOperator = "is" | "not" | "contains" | "starts_with" | "ends_with" | "in" | "not_in";
export type TextMatcher = Readonly<{
  matches: (text: string) => boolean;
  /** The texts of a matcher that only means "one of these"; null: any other matcher. */
  anyOf: readonly string[] | null;
  operators: readonly Readonly<{ operator: TextOperator; operands: readonly string[] }>[];
  /** True if nothing matches: an empty list, or contradicting operators. */
  never: boolean;
}>;

const textOperators: readonly TextOperator[] = ["is", "not", "contains", "starts_with", "ends_with", "in", "not_in"];
const expectsList = (operator: TextOperator): boolean => operator === "in" || operator === "not_in";

export function parseTextMatcher(
  data: unknown,
  path: PolicyPath,
  report: ReportPolicyProblem,
): TextMatcher | undefined {
  const operators = parseOperators(data, { bare: "is", known: textOperators }, path, report)?.map(
    ({ operator, operand, at }) => {
      const operands = expectsList(operator) ? parseTexts(operand, at, report) : parseText(operand, at, report);
      if (operands?.includes("") && /contains|_with/.test(operator)) {
        report(at, `\`${operator}\` with an empty text matches everything`, "write the text to look for", "warning");
      }
      return operands && { operator, operands };
    },
  );
  if (!allDefined(operators)) return undefined;
  const [first] = operators;
  const plain = operators.length === 1 && (first?.operator === "is" || first?.operator === "in");
  const matches = allOf(operators.map(({ operator, operands }) => textTest(operator, operands)));
  const listed = operators.find(({ operator }) => operator === "is" || operator === "in")?.operands;
  return {
    matches,
    anyOf: plain ? first.operands : null,
    operators,
    never: listed !== undefined && !listed.some(matches),
  };
}

function textTest(operator: TextOperator, operands: readonly string[]): (text: string) => boolean {
  const [operand = ""] = operands;
  const set = new Set(operands);
  switch (operator) {
    case "is":
      return (text) => text === operand;
    case "not":
      return (text) => text !== operand;
    case "contains":
      return (text) => text.includes(operand);
    case "starts_with":
      return (text) => text.startsWith(operand);
    case "ends_with":
      return (text) => text.endsWith(operand);
    case "in":
      return (text) => set.has(text);
    case "not_in":
      return (text) => !set.has(text);
  }
}

export type ListOperator = "has" | "is" | "exclude";
export type ListMatcher<Value extends ClaimValue> = Readonly<{
  matchesList: (values: readonly ClaimValue[]) => boolean;
  matchesSet: (values: ReadonlySet<ClaimValue>) => boolean;
  /** The value of a matcher that is only `has`; null: any other matcher. */
  anyOf: readonly Value[] | null;
  operators: readonly Readonly<{ operator: ListOperator; operand: Value }>[];
  /** True if nothing matches because two operators contradict each other. */
  never: boolean;
}>;

const listOperators: readonly ListOperator[] = ["has", "is", "exclude"];

/** @param parseValue checks one operand: text only for groups, any scalar for claims */
export function parseListMatcher<Value extends ClaimValue>(
  data: unknown,
  path: PolicyPath,
  report: ReportPolicyProblem,
  parseValue: (operand: unknown, path: PolicyPath, report: ReportPolicyProblem) => Value | undefined,
): ListMatcher<Value> | undefined {
  const operators = parseOperators(data, { bare: "has", known: listOperators }, path, report)?.map(
    ({ operator, operand, at }) => {
      const value = parseValue(operand, at, report);
      return value === undefined ? undefined : { operator, operand: value };
    },
  );
  if (!allDefined(operators)) return undefined;
  const [first] = operators;
  const operandOf = (wanted: ListOperator): Value | undefined =>
    operators.find(({ operator }) => operator === wanted)?.operand;
  const [has, is, exclude] = [operandOf("has"), operandOf("is"), operandOf("exclude")];
  return {
    never:
      (is !== undefined && has !== undefined && is !== has) ||
      (exclude !== undefined && (exclude === is || exclude === has)),
    matchesList: allOf(operators.map(({ operator, operand }) => listTest(operator, operand))),
    matchesSet: allOf(operators.map(({ operator, operand }) => setTest(operator, operand))),
    anyOf: operators.length === 1 && first?.operator === "has" ? [first.operand] : null,
    operators,
  };
}

function listTest(operator: ListOperator, operand: ClaimValue): (values: readonly ClaimValue[]) => boolean {
  switch (operator) {
    case "has":
      return (values) => values.includes(operand);
    case "is":
      return (values) => values.length === 1 && values[0] === operand;
    case "exclude":
      return (values) => !values.includes(operand);
  }
}

function setTest(operator: ListOperator, operand: ClaimValue): (values: ReadonlySet<ClaimValue>) => boolean {
  switch (operator) {
    case "has":
      return (values) => values.has(operand);
    case "is":
      return (values) => values.size === 1 && values.has(operand);
    case "exclude":
      return (values) => !values.has(operand);
  }
}

/** One text operand. */
export function textOperand(operand: unknown, path: PolicyPath, report: ReportPolicyProblem): string | undefined {
  if (typeof operand === "string") return operand;
  const remedy = Array.isArray(operand)
    ? "write one criterion for each value, under `or`"
    : typeof operand === "number" || typeof operand === "boolean"
      ? `quote it: "${operand}"`
      : "write text";
  report(path, `${describeValue(operand)} can never equal text`, remedy);
  return undefined;
}

/** One claim value: text, number or boolean, compared by its type. */
export function claimOperand(operand: unknown, path: PolicyPath, report: ReportPolicyProblem): ClaimValue | undefined {
  if (typeof operand === "string" || typeof operand === "number" || typeof operand === "boolean") return operand;
  const remedy = Array.isArray(operand)
    ? "write one criterion for each value, under `or`"
    : "write text, a number, `true` or `false`";
  report(path, `${describeValue(operand)} can never equal the value of a claim`, remedy);
  return undefined;
}

function parseText(operand: unknown, path: PolicyPath, report: ReportPolicyProblem): readonly string[] | undefined {
  if (Array.isArray(operand)) {
    report(path, "a list can never equal text", "use `in:` to match any of several values");
    return undefined;
  }
  const text = textOperand(operand, path, report);
  return text === undefined ? undefined : [text];
}

/** A list of texts: the operand of `in` and `not_in`. */
function parseTexts(operand: unknown, path: PolicyPath, report: ReportPolicyProblem): readonly string[] | undefined {
  if (!Array.isArray(operand)) {
    report(path, `expected a list of text values, found ${describeValue(operand)}`, "write a list: `[one, two]`");
    return undefined;
  }
  if (operand.length === 0)
    report(path, "an empty list matches nothing", "list the values, or remove the criterion", "warning");
  const texts = operand.map((item: unknown, index) => textOperand(item, [...path, index], report));
  return allDefined(texts) ? texts : undefined;
}

type WrittenOperator<Operator> = Readonly<{ operator: Operator; operand: unknown; at: PolicyPath }>;

/** Splits a matcher into its operators. A value that is not an object is the operand of the bare operator. */
function parseOperators<Operator extends string>(
  data: unknown,
  { bare, known }: Readonly<{ bare: Operator; known: readonly Operator[] }>,
  path: PolicyPath,
  report: ReportPolicyProblem,
): WrittenOperator<Operator>[] | undefined {
  if (!isObject(data)) return [{ operator: bare, operand: data, at: path }];
  const entries = Object.entries(data);
  if (entries.length === 0) {
    report(path, "an empty matcher would match everything", `say what must match: ${useOneOf(known)}`);
    return undefined;
  }
  const written = entries.map(([key, operand]) => {
    const operator = known.find((o) => o === key);
    if (operator === undefined) report([...path, key], `unknown operator \`${key}\``, suggestionFor(key, known, data));
    return operator && { operator, operand, at: [...path, key] };
  });
  return allDefined(written) ? written : undefined;
}

function allDefined<T>(items: readonly (T | undefined)[] | undefined): items is T[] {
  return items?.every((item) => item !== undefined) ?? false;
}

/** Conjunction of tests. The common single test needs no loop. */
function allOf<T>(tests: readonly ((value: T) => boolean)[]): (value: T) => boolean {
  const [only] = tests;
  return tests.length === 1 && only !== undefined ? only : (value) => tests.every((test) => test(value));
}

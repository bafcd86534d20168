/**
 * Policy language parser: Pomerium's grammar (`allow`/`deny` over `and`/`or`/`not`/`nor` over criteria) as typed rules.
 *
 * - Pure and total: any input yields rules and problems, never an exception.
 * - Every element keeps its path in the source, so a problem can name its line.
 * - It knows no criterion; criteria.ts gives them meaning.
 */
import { suggest } from "../../config/index.ts";

/** Path of an element below the policy's root: object keys and array indexes. */
export type PolicyPath = readonly (string | number)[];
export type PolicyProblem = Readonly<{
  path: PolicyPath;
  problem: string;
  remedy: string;
  severity: "error" | "warning";
}>;
/** Reports a problem; severity defaults to an error. */
export type ReportPolicyProblem = (
  path: PolicyPath,
  problem: string,
  remedy: string,
  severity?: "error" | "warning",
) => void;

export type PolicyAction = "allow" | "deny";
export type PolicyOperator = "and" | "or" | "not" | "nor";
/** `{name: data}` or `{name/sub/path: data}`, split at the first slash. */
export type Criterion = Readonly<{ path: PolicyPath; name: string; subPath: string | null; data: unknown }>;
export type ParsedConditional = Readonly<{
  path: PolicyPath;
  operator: PolicyOperator;
  criteria: readonly Criterion[];
}>;
export type Rule = Readonly<{ path: PolicyPath; action: PolicyAction; conditionals: readonly ParsedConditional[] }>;

const actions: readonly PolicyAction[] = ["allow", "deny"];
const operators: readonly PolicyOperator[] = ["and", "or", "not", "nor"];

/** Parses one policy: a rules object or an array of them. Drops empty conditionals. */
export function parsePolicy(ppl: unknown, report: ReportPolicyProblem): readonly Rule[] {
  if (isObject(ppl)) return parseRules(ppl, [], report);
  if (Array.isArray(ppl)) {
    return ppl.flatMap((rules: unknown, index) => {
      if (isObject(rules)) return parseRules(rules, [index], report);
      report([index], `expected a rules object, found ${describeValue(rules)}`, rulesRemedy);
      return [];
    });
  }
  report([], `${describeValue(ppl)} is not a policy`, rulesRemedy);
  return [];
}

const rulesRemedy = "write an object with `allow:` or `deny:`, or a list of such objects";

function parseRules(rules: Readonly<Record<string, unknown>>, path: PolicyPath, report: ReportPolicyProblem): Rule[] {
  const parsed: Rule[] = [];
  for (const [key, body] of Object.entries(rules)) {
    const at = [...path, key];
    const action = actions.find((a) => a === key);
    if (action === undefined) report(at, `unknown action \`${key}\``, suggestionFor(key, actions, rules));
    else if (isObject(body)) parsed.push({ path: at, action, conditionals: parseConditionals(body, at, report) });
    else
      report(
        at,
        `expected an object, found ${describeValue(body)}`,
        `write \`${key}:\` with ${orList(operators)} below it`,
      );
  }
  return parsed;
}

function parseConditionals(
  body: Readonly<Record<string, unknown>>,
  path: PolicyPath,
  report: ReportPolicyProblem,
): ParsedConditional[] {
  const parsed: ParsedConditional[] = [];
  for (const [key, items] of Object.entries(body)) {
    const at = [...path, key];
    const operator = operators.find((o) => o === key);
    if (key === "action") report(at, "`action` has no effect", "remove it", "warning");
    else if (operator === undefined) report(at, `unknown operator \`${key}\``, suggestionFor(key, operators, body));
    else if (!Array.isArray(items)) {
      report(at, `expected a list of criteria, found ${describeValue(items)}`, `put a \`- \` before each criterion`);
    } else {
      const criteria = items.flatMap((item: unknown, index) => parseCriterion(item, [...at, index], report));
      if (criteria.length > 0) parsed.push({ path: at, operator, criteria });
    }
  }
  return parsed;
}

function parseCriterion(item: unknown, path: PolicyPath, report: ReportPolicyProblem): Criterion[] {
  const remedy = "write each criterion as its own list item, `- name: value`";
  if (!isObject(item)) {
    report(path, `expected a criterion, found ${describeValue(item)}`, remedy);
    return [];
  }
  const entries = Object.entries(item);
  const [first] = entries;
  if (first === undefined || entries.length > 1) {
    report(path, `a criterion has exactly one name, this one has ${entries.length}`, remedy);
    return [];
  }
  const [key, data] = first;
  const slash = key.indexOf("/");
  const name = slash === -1 ? key : key.slice(0, slash);
  return [{ path: [...path, key], name, subPath: slash === -1 ? null : key.slice(slash + 1), data }];
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Names the type of a value for a message. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string") return "text";
  if (typeof value === "boolean") return `\`${value}\``;
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/**
 * ``did you mean `email`?``, or every allowed word.
 *
 * @param written the object that has `word` as a key: keys that it already has are not suggested
 */
export function suggestionFor(
  word: string,
  allowed: readonly string[],
  written: Readonly<Record<string, unknown>> = {},
): string {
  const meant = word.length > 2 ? suggest(word, allowed) : undefined; // two letters are near to everything
  if (meant === undefined) return useOneOf(allowed);
  return Object.hasOwn(written, meant) ? `remove it: \`${meant}\` is already set here` : `did you mean \`${meant}\`?`;
}

/** ``use `and`, `or`, `not` or `nor` `` */
export function useOneOf(allowed: readonly string[]): string {
  return `use ${orList(allowed)}`;
}

function orList(words: readonly string[]): string {
  const quoted = words.map((word) => `\`${word}\``);
  return quoted.length < 2 ? quoted.join("") : `${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1)}`;
}

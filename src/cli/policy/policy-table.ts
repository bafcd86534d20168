/**
 * Policy table: cases with their expected answers, written in YAML, and the comparison with the actual answers.
 *
 * Pure. `people` names each person once; `defaults` apply to every case. A case holds only what differs, and `expect`
 * only what it checks.
 */
import { locationOf, type SourceLocation, type YamlDocument } from "../../config/index.ts";
import type { PolicyAnswer } from "./evaluate-policy.ts";
import { CaseError } from "./policy-case.ts";

type Tree = Readonly<Record<string, unknown>>;
export type Expected = Readonly<Partial<Pick<PolicyAnswer, "result" | "status" | "reasons" | "rule">>>;
export type TableCase = Readonly<{
  name: string;
  place: SourceLocation;
  value: Tree;
  route: string | null;
  expected: Expected;
}>;
export type Table = Readonly<{
  /** Relative to the table; null: the command line names it. */
  policy: string | null;
  config: string | null;
  cases: readonly TableCase[];
}>;

const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);
const results = ["permit", "deny", "signin", "device", "not_found"] as const;

/** @throws CaseError */
export function readTable({ value, locations }: Pick<YamlDocument, "value" | "locations">): Table {
  if (!isTree(value)) throw new CaseError("(document)", "is not a table: write `cases:` with a list");
  checkKeys(value, ["policy", "config", "defaults", "people", "cases"], "");
  const { cases } = value;
  if (!Array.isArray(cases) || cases.length === 0) throw new CaseError("cases", "is not a list of cases");
  const people = treeAt(value["people"], "people");
  const defaults = treeAt(value["defaults"], "defaults");
  return {
    policy: textOrNull(value["policy"], "policy"),
    config: textOrNull(value["config"], "config"),
    cases: (cases as readonly unknown[]).map((one, index) =>
      readCase(one, `cases[${index}]`, { people, defaults, place: locationOf(locations, ["cases", index]) }),
    ),
  };
}

function readCase(
  one: unknown,
  key: string,
  { people, defaults, place }: Readonly<{ people: Tree; defaults: Tree; place: SourceLocation }>,
): TableCase {
  if (!isTree(one)) throw new CaseError(key, "is not an object");
  checkKeys(one, ["name", "as", "url", "method", "route", "expect", ...caseKeys], `${key}.`);
  const { name, as, url, method, route, expect, ...rest } = one;
  const who = textOrNull(as, `${key}.as`);
  if (who !== null && who !== "nobody" && !Object.hasOwn(people, who))
    throw new CaseError(`${key}.as`, `people has no entry ${JSON.stringify(who)}`);
  const person = who === null || who === "nobody" ? {} : treeAt(people[who], `people.${who}`);
  const request = { ...(url === undefined ? {} : { url }), ...(method === undefined ? {} : { method }) };
  const layers = [defaults, person, { request }, rest];
  const value = layers.reduce(merge, { session: null });
  return {
    name: textOrNull(name, `${key}.name`) ?? key,
    place,
    value: who === "nobody" ? { ...value, session: null } : value,
    route: textOrNull(route, `${key}.route`),
    expected: readExpected(expect, `${key}.expect`),
  };
}

const caseKeys = ["request", "session", "user", "groups", "now", "ssh", "mcp", "records", "id"];

function readExpected(value: unknown, key: string): Expected {
  const expected = typeof value === "string" ? { result: value } : value;
  if (!isTree(expected)) throw new CaseError(key, "is missing: write a result, or {result, status, reasons, rule}");
  checkKeys(expected, ["result", "status", "reasons", "rule"], `${key}.`);
  const { result, status, reasons, rule } = expected;
  if (result !== undefined && !results.some((word) => word === result))
    throw new CaseError(`${key}.result`, `${JSON.stringify(result)} is not one of ${results.join(", ")}`);
  if (status !== undefined && typeof status !== "number") throw new CaseError(`${key}.status`, "is not a number");
  if (rule !== undefined && rule !== null && typeof rule !== "string")
    throw new CaseError(`${key}.rule`, "is not a string");
  const words: unknown = typeof reasons === "string" ? [reasons] : reasons;
  if (words !== undefined && !(Array.isArray(words) && words.every((word) => typeof word === "string")))
    throw new CaseError(`${key}.reasons`, "is not a list of reasons");
  return {
    ...(result === undefined ? {} : { result: result as PolicyAnswer["result"] }),
    ...(status === undefined ? {} : { status }),
    ...(words === undefined ? {} : { reasons: (words as string[]).toSorted() }),
    ...(rule === undefined ? {} : { rule }),
  };
}

function checkKeys(value: Tree, keys: readonly string[], prefix: string): void {
  const strange = Object.keys(value).find((key) => !keys.includes(key));
  if (strange !== undefined)
    throw new CaseError(`${prefix}${strange}`, `is not a known key; known keys are ${keys.join(", ")}`);
}

function treeAt(value: unknown, key: string): Tree {
  if (value === undefined || value === null) return {};
  if (!isTree(value)) throw new CaseError(key, "is not an object");
  return value;
}

function textOrNull(value: unknown, key: string): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "string") throw new CaseError(key, "is not a string");
  return value;
}

/** Merges objects recursively; any other value replaces the earlier one. */
function merge(under: Tree, over: Tree): Tree {
  const merged = new Map(Object.entries(under));
  for (const [key, value] of Object.entries(over)) {
    const before = merged.get(key);
    merged.set(key, isTree(before) && isTree(value) ? merge(before, value) : value);
  }
  return Object.fromEntries(merged);
}

// --- comparison

export type Difference = Readonly<{ what: keyof Expected; expected: unknown; actual: unknown }>;

export function differencesOf(expected: Expected, answer: PolicyAnswer): readonly Difference[] {
  const all: readonly (keyof Expected)[] = ["result", "status", "reasons", "rule"];
  return all
    .filter((what) => expected[what] !== undefined && JSON.stringify(expected[what]) !== JSON.stringify(answer[what]))
    .map((what) => ({ what, expected: expected[what], actual: answer[what] }));
}

/** A failed case in a few lines: expected and actual answer, and the outcome of every rule. */
export function failureText(one: TableCase, found: readonly Difference[], answer: PolicyAnswer): string {
  const { file, line, column } = one.place;
  const lines = [`✖ ${one.name}  (${file}:${line}:${column})`];
  for (const { what, expected, actual } of found) {
    if (what !== "reasons") lines.push(`    ${what.padEnd(8)} expected ${expected ?? "none"}, was ${actual ?? "none"}`);
    else lines.push(...reasonLines(expected as readonly string[], actual as readonly string[]));
  }
  for (const { rule, at, met, criteria } of answer.trace) {
    const each = criteria.map(({ criterion, met: isMet }) => `${isMet ? "+" : "-"}${criterion}`).join(" ");
    lines.push(`    ${met ? "met    " : "not met"}  ${rule}  ${each}  (${at})`);
  }
  return `${lines.join("\n")}\n`;
}

function reasonLines(expected: readonly string[], actual: readonly string[]): readonly string[] {
  const missing = expected.filter((word) => !actual.includes(word)).map((word) => `- ${word}`);
  const extra = actual.filter((word) => !expected.includes(word)).map((word) => `+ ${word}`);
  const both = expected.filter((word) => actual.includes(word)).map((word) => `  ${word}`);
  return [...missing, ...extra, ...both].map(
    (line, index) => `    ${(index === 0 ? "reasons" : "").padEnd(8)} ${line}`,
  );
}

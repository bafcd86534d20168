/**
 * Policy text: checks and table tests of a policy as it is written, for the policy lab. Pure.
 *
 * It answers as `cardea policy lint` and `cardea policy test` do, with lines and columns of the text.
 */
import { requirementsOf } from "../../auth/index.ts";
import { type Problem, type RouteConfig, readYaml, type SourceLocation } from "../../config/index.ts";
import { type CheckedText, describeRoute, type TestedText, type TextProblem } from "../../console/index.ts";
import type { UnixMs } from "../../events/index.ts";
import { certificateCheckerFor } from "../../proxy/index.ts";
import { type Finding, findInPolicy } from "./findings.ts";
import { CaseError } from "./policy-case.ts";
import { type OpenPolicyResult, openText } from "./policy-document.ts";
import { differencesOf, readTable } from "./policy-table.ts";
import { evaluateCase, TestRun } from "./table-run.ts";

export const policyFile = "policy.yaml";
export const tableFile = "cases.yaml";

const problemsMax = 200;
const findingsMax = 200;
const casesMax = 5_000;

type TextQuestion = Readonly<{ text: string; route: RouteConfig | null }>;

export function checkText({ text, route }: TextQuestion, now: UnixMs): CheckedText {
  const opened = open(text, route);
  if (!opened.ok) return { ok: false, problems: placed(opened.problems), findings: [], sentences: [], ppl: undefined };
  const { policies } = opened.target;
  const findings = [...policies.values()].flatMap((policy) => findInPolicy(policy, route, now));
  return {
    ok: true,
    problems: placed(opened.warnings),
    findings: findings
      .slice(0, findingsMax)
      .map(({ route: _route, ...finding }) => ({ ...finding, ...whereOf(finding) })),
    sentences: [...policies.keys()].flatMap((id) => sentencesOf(requirementsOf(policies, id))),
    ppl: readYaml(text, policyFile).value ?? null,
  };
}

export function testText({ text, table, route }: TextQuestion & Readonly<{ table: string }>): TestedText {
  const refused = (problems: readonly Problem[]): TestedText => {
    const nothing = { notes: [], cases: [], unmet: [], rules: 0 };
    return { problems: placed(problems), ...nothing };
  };
  const opened = open(text, route);
  if (!opened.ok) return refused(opened.problems);
  const document = readYaml(table, tableFile);
  const errors = document.problems.filter(({ severity }) => severity === "error");
  if (!document.readable || errors.length > 0) return refused(document.problems);
  let place: SourceLocation = { file: tableFile, line: 1, column: 1 };
  const notes = new Set<string>();
  const run = new TestRun();
  run.begin(opened.target);
  try {
    const { cases } = readTable(document);
    if (cases.length > casesMax) throw new CaseError("cases", `are more than ${casesMax}`);
    for (const one of cases) {
      ({ place } = one);
      const own = { ...one, route: null };
      const { answer, routeId } = evaluateCase(own, opened.target, (problem) => {
        if (notes.size < problemsMax) notes.add(problem);
      });
      run.add({ one, answer, found: differencesOf(one.expected, answer) }, routeId);
    }
  } catch (error) {
    if (!(error instanceof CaseError)) throw error;
    return refused([{ ...place, key: "cases", problem: error.message, remedy: "", severity: "error" }]);
  }
  return {
    problems: [],
    notes: [...notes],
    cases: run.results.map(({ one: { name, place: at, expected }, answer, found }) => {
      const { result, status, reasons, rule } = answer;
      return { name, line: at.line, ok: found.length === 0, expected, result, status, reasons, rule };
    }),
    unmet: run.unmet().map(({ rule, at }) => ({ rule, line: lineIn(at) })),
    rules: run.coverage().rules,
  };
}

const sentencesOf = (requirements: ReturnType<typeof requirementsOf>): readonly string[] =>
  requirements === null ? [] : describeRoute(requirements);

function open(text: string, route: RouteConfig | null): OpenPolicyResult {
  return openText(text, { file: policyFile, route, certificates: certificateCheckerFor(null) });
}

/** A problem of the route around the policy has no line in the text. */
function placed(problems: readonly Problem[]): readonly TextProblem[] {
  return problems.slice(0, problemsMax).map(({ file, line, column, key, problem, remedy, severity }) => {
    const isHere = file === policyFile || file === tableFile;
    const at = isHere ? { line, column } : { line: 0, column: 0 };
    return { ...at, key: key.replace(/^routes\[0\]\.?/, "") || "(route)", problem, remedy, severity };
  });
}

function whereOf({ at }: Pick<Finding, "at">): Readonly<{ line: number; column: number }> {
  const [, file, line, column] = /^(.*):(\d+):(\d+)$/.exec(at) ?? [];
  return file === policyFile ? { line: Number(line), column: Number(column) } : { line: 0, column: 0 };
}

const lineIn = (at: string): number => whereOf({ at }).line;

/** `cardea policy test`: runs table tests of a policy, and reports the rules that no case meets. */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { formatProblem, type Problem, readYaml } from "../../config/index.ts";
import { type Parsed, parse } from "../terminal/arguments.ts";
import { type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { maskControlCharacters } from "../terminal/print.ts";
import { formatLocation } from "./findings.ts";
import { CaseError } from "./policy-case.ts";
import { fillRecords, openPolicy } from "./policy-document.ts";
import { differencesOf, failureText, readTable, type Table } from "./policy-table.ts";
import { evaluateCase, TestRun } from "./table-run.ts";

export const policyTest: CliCommand = {
  name: "policy test",
  usage: "TABLE.yaml… [--policy FILE | -c cardea.yaml] [--shadow] [--coverage SHARE] [--json]",
  summary: "run table tests of a policy, and list the rules that no case meets",
  help: `A table names its policy (or config), people, and cases:
  policy: policy.yaml
  people: {alice: {session: {id: s, user_id: alice-1}, user: {email: alice@example.com}, groups: [eng]}}
  cases: [{name: engineers read, as: alice, url: "https://app.example.com/", expect: permit}]
A case can have request, session, user, groups, now, ssh, mcp and records as in \`cardea policy eval\`, and a route. expect is a result, or
{result, status, reasons, rule}. --policy and -c override the policy that a table names; --shadow uses the shadow_policy of routes that have
one. --coverage 90 fails if the cases meet less than 90 percent of the rules. --json prints one object. docs/policy-testing.md has examples.
Exit 0: every case is as expected; 1: one is not, coverage is too low, or the policy is invalid; 2: a table cannot be read.`,
  async run(args, terminal) {
    const options = {
      policy: { type: "string" },
      config: { type: "string", short: "c" },
      shadow: { type: "boolean" },
      coverage: { type: "string" },
      json: { type: "boolean" },
    } as const;
    const parsed = parse(args, options, { min: 1, max: 1_000 });
    const wanted = parsed.text("coverage");
    if (wanted !== undefined && !/^\d{1,3}$/.test(wanted))
      throw new UsageError("--coverage takes a percentage, such as 90");
    const run = new TestRun();
    for (const file of parsed.positionals) {
      const code = await runTable(file, { parsed, terminal, run });
      if (code !== 0) return code;
    }
    const failed = run.results.filter(({ found }) => found.length > 0);
    const { rules, met, percent } = run.coverage();
    if (parsed.flag("json")) terminal.out(`${JSON.stringify(run.report())}\n`);
    else {
      for (const { one, found, answer } of failed) terminal.out(failureText(one, found, answer));
      for (const { rule, called, at } of run.unmet())
        terminal.out(
          maskControlCharacters(`no case meets ${called === null ? "" : `${called}: `}${rule}  (${at})`).concat("\n"),
        );
      terminal.out(
        `${run.results.length - failed.length} of ${run.results.length} as expected; ${met} of ${rules} rules met (${percent} %)\n`,
      );
    }
    return failed.length > 0 || percent < Number(wanted ?? 0) ? 1 : 0;
  },
};

type RunContext = Readonly<{ parsed: Parsed; terminal: Terminal; run: TestRun }>;

async function runTable(file: string, { parsed, terminal, run }: RunContext): Promise<ExitCode> {
  const table = loadTable(file, terminal);
  if (table === undefined) return 2;
  const opened = openPolicy(withTablePaths(table, file, parsed), terminal);
  if (!opened.ok) {
    for (const problem of opened.problems) terminal.err(`${formatProblem(problem)}\n`);
    return 1;
  }
  const { target } = opened;
  await fillRecords(target, terminal);
  run.begin(target);
  for (const one of table.cases) {
    const at = formatLocation(one.place);
    try {
      const { answer, routeId } = evaluateCase(one, target, (problem) => terminal.err(`${at}: ${problem}\n`));
      run.add({ one, answer, found: differencesOf(one.expected, answer) }, routeId);
    } catch (error) {
      if (!(error instanceof CaseError)) throw error;
      terminal.err(`${at}: ${error.message}\n`);
      return 2;
    }
  }
  return 0;
}

function loadTable(file: string, terminal: Terminal): Table | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new UsageError(`${file} cannot be read`, { cause });
  }
  const document = readYaml(text, file);
  const errors: readonly Problem[] = document.problems.filter(({ severity }) => severity === "error");
  if (!document.readable || errors.length > 0) {
    for (const problem of document.problems) terminal.err(`${formatProblem(problem)}\n`);
    return undefined;
  }
  try {
    return readTable(document);
  } catch (error) {
    if (!(error instanceof CaseError)) throw error;
    terminal.err(`${file}: ${error.message}\n`);
    return undefined;
  }
}

/** Paths in a table are relative to it; the command line overrides them. */
function withTablePaths(table: Table, file: string, parsed: Parsed): Parsed {
  const given = { policy: parsed.text("policy"), config: parsed.text("config") };
  if (given.policy !== undefined || given.config !== undefined) return parsed;
  if (table.policy === null && table.config === null)
    throw new UsageError(`${file} names neither a policy nor a config; add one, or use --policy or -c`);
  const fromTable = (name: string | null): string | undefined =>
    name === null ? undefined : resolve(dirname(file), name);
  const named: Readonly<Record<string, string | undefined>> = {
    policy: fromTable(table.policy),
    config: fromTable(table.config),
  };
  return { ...parsed, text: (name) => named[name] };
}

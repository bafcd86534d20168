/** `cardea policy eval`: evaluates a policy for written cases, without a server. */
import { formatProblem } from "../../config/index.ts";
import { parse } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";
import { isDeeperThan, readValues } from "../terminal/read-lines.ts";
import { evaluatePolicy } from "./evaluate-policy.ts";
import { CaseError, readCase } from "./policy-case.ts";
import { documentOptions, fillRecords, openPolicy } from "./policy-document.ts";

const depthMax = 200;

export const policyEval: CliCommand = {
  name: "policy eval",
  usage: "(--policy FILE | -c cardea.yaml [--route R] [--shadow]) [--input FILE|-] [--client-ca FILE]",
  summary: "evaluate a policy: one JSON case in, one JSON answer out",
  help: `Reads cases as JSON or JSON lines from --input FILE or from standard input (-, the default), and prints an answer for each.
  case    {id?, request: {method, url, headers, ip, client_certificate?}, session: {id, user_id, claims, device_credentials?} | null,
          user?: {id, email, name, claims}, groups?: [], now?: RFC 3339, records?: {type: {…} | null}}
  answer  {id, result: permit|deny|signin|device|not_found, status, reasons, rule, trace, read}
--policy evaluates a bare policy document, whatever the URL. -c evaluates the route that the URL matches, or the route that --route names (id,
name or from); --shadow uses its shadow_policy if it has one. --client-ca names the authorities of client certificates. No server is
contacted. docs/policy-testing.md has examples.
Exit 0 whatever the answers; 1: the policy or configuration is invalid, and there are no answers; 2: a case cannot be read.`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      { ...documentOptions, input: { type: "string" }, json: { type: "boolean" } },
      { min: 0, max: 0 },
    );
    const opened = openPolicy(parsed, terminal);
    if (!opened.ok) {
      for (const problem of opened.problems) terminal.err(`${formatProblem(problem)}\n`);
      return 1;
    }
    const { target } = opened;
    await fillRecords(target, terminal);
    const { from } = typeof target.route === "object" ? (target.route?.route ?? {}) : {};
    const defaults = { scheme: "https", authority: from?.host ?? "localhost" } as const;
    let unreadable = false;
    for await (const read of readValues(parsed.text("input") ?? "-")) {
      try {
        if ("problem" in read) throw new CaseError("(case)", read.problem);
        if (isDeeperThan(read.value, depthMax))
          throw new CaseError("(case)", `is nested more than ${depthMax} levels deep`);
        const one = readCase(read.value, defaults, (problem) => terminal.err(`${read.at}: ${problem}\n`));
        terminal.out(`${JSON.stringify(evaluatePolicy(target, one, Date.now).answer)}\n`);
      } catch (error) {
        if (!(error instanceof CaseError)) throw error;
        unreadable = true;
        terminal.err(`${read.at}: ${error.message}\n`);
      }
    }
    return unreadable ? 2 : 0;
  },
};

/** `cardea check`: validates a configuration with its policies, and prints every problem with its location. */
import { formatProblem } from "../../config/index.ts";
import { configPathOf, readConfiguration } from "../build/load.ts";
import { parse } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";

export const check: CliCommand = {
  name: "check",
  usage: "[-c cardea.yaml]",
  summary: "validate a configuration; prints every problem as file:line:column: error or warning: key: problem; remedy",
  help: "Checks the file, environment overrides, the files that it names, and the policy of every route. Without -c the configuration comes from\nenvironment variables. Exit 1: there is an error; warnings alone: exit 0.",
  async run(args, terminal) {
    const parsed = parse(
      args,
      { config: { type: "string", short: "c" }, json: { type: "boolean" } },
      { min: 0, max: 1 },
    );
    const path = configPathOf(parsed, terminal);
    const { problems } = readConfiguration(path, {
      env: terminal.env,
      missingSecrets: "forget",
      generate: ["shared_secret", "cookie_secret", "idp_client_secret"],
    });
    const errors = problems.filter((p) => p.severity === "error").length;
    if (parsed.flag("json")) terminal.out(`${JSON.stringify(problems)}\n`);
    else {
      for (const problem of problems) terminal.err(`${formatProblem(problem)}\n`);
      const warnings = problems.length - errors;
      const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;
      const counts = [
        ...(errors === 0 ? [] : [count(errors, "error")]),
        ...(warnings === 0 ? [] : [count(warnings, "warning")]),
      ];
      const verdict = errors === 0 ? "valid" : "not valid";
      const text = `${path ?? "environment"}: ${[verdict, ...counts].join(", ")}\n`;
      if (errors === 0) terminal.out(text);
      else terminal.err(text);
    }
    return errors === 0 ? 0 : 1;
  },
};

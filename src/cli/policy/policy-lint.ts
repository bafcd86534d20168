/** `cardea policy lint`: finds mistakes in valid policies. */
import { type Config, formatProblem } from "../../config/index.ts";
import type { UnixMs } from "../../events/index.ts";
import { parse } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";
import { maskControlCharacters } from "../terminal/print.ts";
import { type Finding, findInPolicy, findShadowed } from "./findings.ts";
import { openPolicy, routeLabel } from "./policy-document.ts";

export const policyLint: CliCommand = {
  name: "policy lint",
  usage: "(--policy FILE | -c cardea.yaml) [--strict] [--json]",
  summary: "find rules that can never be met, criteria without effect, hidden routes, and routes open to everyone",
  help: `Prints one finding per line, as file:line:column: finding; remedy. A route that is open to everyone is a note, because it may be intended.
--json prints a list of {kind, severity, at, route, rule, finding, remedy}; kinds are never-met, no-effect, nobody, shadowed, public, without-session.
Exit 0: at most notes; 1: a warning, with --strict also a note, or the policy is invalid; 2: usage error.`,
  async run(args, terminal) {
    const options = {
      policy: { type: "string" },
      config: { type: "string", short: "c" },
      strict: { type: "boolean" },
      json: { type: "boolean" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const opened = openPolicy(parsed, terminal);
    if (!opened.ok) {
      for (const problem of opened.problems) terminal.err(`${formatProblem(problem)}\n`);
      return 1;
    }
    const { policies, shadows, config } = opened.target;
    for (const problem of opened.warnings) terminal.err(`${formatProblem(problem)}\n`);
    const now = Date.now() as UnixMs;
    const routes = config?.routes ?? [];
    const findings = [
      ...[...policies.values(), ...shadows.values()].flatMap((policy) =>
        findInPolicy(policy, routes.find(({ id }) => id === policy.routeId) ?? null, now),
      ),
      ...findShadowed(routes),
    ];
    if (parsed.flag("json")) terminal.out(`${JSON.stringify(findings)}\n`);
    else terminal.out(findings.map((finding) => lineOf(finding, config)).join("") || "nothing found\n");
    const counted = findings.filter(({ severity }) => severity === "warning" || parsed.flag("strict"));
    return counted.length === 0 ? 0 : 1;
  },
};

function lineOf({ at, severity, route, rule, finding, remedy }: Finding, config: Config | null): string {
  const called = route === null ? null : routeLabel(config, route);
  const where = [called, rule].filter((part) => part !== null).join(": ");
  return maskControlCharacters(
    `${at}: ${severity === "note" ? "note: " : ""}${where === "" ? "" : `${where}: `}${finding}; ${remedy}`,
  ).concat("\n");
}

/** `cardea check`: validates a configuration with its policies, and prints every problem with its location. */
import { X509Certificate } from "node:crypto";
import { type Config, formatProblem } from "../../config/index.ts";
import { configPathOf, readConfiguration } from "../build/load.ts";
import { flagsForGc, gcFacts, gcThreadsOf, problemOfGcSetting } from "../process/gc/gc-threads.ts";
import { parse } from "../terminal/arguments.ts";
import { type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";

const mainThreadNote =
  "with the cores and settings here, `cardea run` collects garbage on the main thread (docs/deploy.md)";

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
    const wrong = problemOfGcSetting(terminal.env);
    if (wrong !== null) throw new UsageError(wrong);
    const path = configPathOf(parsed, terminal);
    const { problems, loaded } = readConfiguration(path, {
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
      for (const advice of loaded === undefined ? [] : adviceFor(loaded.config)) terminal.err(`advice: ${advice}\n`);
      if (loaded !== undefined && collectsOnMainThread(loaded.config, terminal.env))
        terminal.err(`note: ${mainThreadNote}\n`);
      if (errors === 0) terminal.out(text);
      else terminal.err(text);
    }
    return errors === 0 ? 0 : 1;
  },
};

function collectsOnMainThread({ workers }: Pick<Config, "workers">, env: Terminal["env"]): boolean {
  const facts = { ...gcFacts({ processes: workers }), execArgv: [], env }; // flags of that process are not known here
  return gcThreadsOf(flagsForGc(facts)) === "main thread";
}

/** What is valid, and could be better. It is no warning, since it would be logged at each start. */
function adviceFor({ certificates }: Pick<Config, "certificates">): readonly string[] {
  const rsa = certificates
    .map(({ cert }) => new X509Certificate(cert))
    .filter(({ publicKey }) => publicKey.asymmetricKeyType === "rsa")
    .map(({ subjectAltName, subject }) => subjectAltName ?? subject);
  if (rsa.length === 0) return [];
  const named = rsa.slice(0, 3).join("; ") + (rsa.length > 3 ? `; and ${rsa.length - 3} more` : "");
  return [`an ECDSA P-256 key makes each new TLS connection cheaper than the RSA key of ${named}`];
}

/** Configuration loading: a configuration with its compiled policies, or all of its problems. */
import {
  AnyRecords,
  checkPolicies,
  checkRequestAccess,
  compilePolicies,
  type Policies,
  type Records,
  recordSetsOf,
} from "../../auth/index.ts";
import { type Config, formatProblem, type LoadOptions, loadConfig, type Problem } from "../../config/index.ts";
import { checkDirectories } from "../process/open-directories.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { type Terminal, UsageError } from "../terminal/command.ts";

export type LoadedConfig = Readonly<{
  config: Config;
  policies: Policies;
  /** The shadow policies of routes that have one. */
  shadows: Policies;
  /** The data sets of the policies; nothing is read yet. */
  records: Records;
}>;

export type ConfigurationResult = Readonly<{
  loaded: LoadedConfig | undefined;
  problems: readonly Problem[];
  /** Every file that it depends on, including unreadable ones. */
  files: readonly string[];
}>;

/** One of these variables is in every complete configuration by environment. */
const tellTaleVariables = ["ROUTES", "POLICY", "SHARED_SECRET", "SHARED_SECRET_FILE", "AUTHENTICATE_SERVICE_URL"];

/**
 * The configuration file that the command line names; null: the configuration comes from the environment, as in
 * Pomerium.
 *
 * @throws UsageError if there is neither
 */
export function configPathOf(parsed: Parsed, { env }: Pick<Terminal, "env">): string | null {
  const path = parsed.text("config") ?? parsed.positionals[0] ?? null;
  if (path === null && !tellTaleVariables.some((name) => (env[name] ?? "") !== ""))
    throw new UsageError("name the configuration with -c, or set ROUTES and the other keys as environment variables");
  return path;
}

/** Problems go to standard error, warnings too. */
export function loadOrReport(
  path: string | null,
  terminal: Terminal,
  options: Omit<LoadOptions, "env">,
): Pick<ConfigurationResult, "loaded" | "files"> {
  const { loaded, problems, files } = readConfiguration(path, { env: terminal.env, ...options });
  for (const problem of problems) terminal.err(`${formatProblem(problem)}\n`);
  return { loaded, files };
}

/** @returns `problems`: errors and warnings in the order of the file; with an error, nothing is loaded */
export function readConfiguration(path: string | null, options: LoadOptions): ConfigurationResult {
  const read = loadConfig(path, options);
  const { files } = read;
  if (!read.ok)
    return {
      loaded: undefined,
      problems: sortedByLocation([...read.problems, ...checkPolicies(read.policies, { records: new AnyRecords() })]),
      files,
    };
  const records = recordSetsOf(read.config.dataSources);
  const compiled = compilePolicies(read.config.routes, { records });
  const directories = checkDirectories(read.config, path ?? "environment");
  const problems = sortedByLocation([
    ...read.warnings,
    ...directories,
    ...(compiled.ok ? compiled.warnings : compiled.problems),
    ...(compiled.ok ? checkRequestAccess(read.config.routes, compiled.policies) : []),
  ]);
  return {
    loaded:
      compiled.ok && directories.length === 0
        ? { config: read.config, policies: compiled.policies, shadows: compiled.shadows, records }
        : undefined,
    problems,
    files,
  };
}

function sortedByLocation(problems: readonly Problem[]): readonly Problem[] {
  return problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
}

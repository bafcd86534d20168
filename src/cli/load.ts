/** Loads a configuration with its policies, or says everything that is wrong with it. */
import {
  AnyRecords,
  checkPolicies,
  compilePolicies,
  type Policies,
  type Records,
  recordSetsOf,
} from "../auth/index.ts";
import { type Config, formatProblem, type LoadOptions, loadConfig, type Problem } from "../config/index.ts";
import type { Terminal } from "./command.ts";

export type Loaded = Readonly<{
  config: Config;
  policies: Policies;
  /** Of the routes that have a `shadow_policy`. */
  shadows: Policies;
  /** The data sets that policies ask about; nothing is read yet. */
  records: Records;
}>;

export type Reading = Readonly<{
  loaded: Loaded | undefined;
  problems: readonly Problem[];
  /** Every file that it depends on, those too that could not be read. */
  files: readonly string[];
}>;

/** Problems go to standard error, warnings too. */
export function loadAll(
  path: string,
  terminal: Terminal,
  options: Omit<LoadOptions, "env">,
): Pick<Reading, "loaded" | "files"> {
  const { loaded, problems, files } = readConfiguration(path, { env: terminal.env, ...options });
  for (const problem of problems) terminal.err(`${formatProblem(problem)}\n`);
  return { loaded, files };
}

/** @returns `problems`: warnings too, in the order of the file; with an error among them there is nothing loaded */
export function readConfiguration(path: string, options: LoadOptions): Reading {
  const read = loadConfig(path, options);
  const { files } = read;
  if (!read.ok)
    return {
      loaded: undefined,
      problems: inOrder([...read.problems, ...checkPolicies(read.policies, { records: new AnyRecords() })]),
      files,
    };
  const records = recordSetsOf(read.config.dataSources);
  const compiled = compilePolicies(read.config.routes, { records });
  const problems = inOrder([...read.warnings, ...(compiled.ok ? compiled.warnings : compiled.problems)]);
  return {
    loaded: compiled.ok
      ? { config: read.config, policies: compiled.policies, shadows: compiled.shadows, records }
      : undefined,
    problems,
    files,
  };
}

function inOrder(problems: readonly Problem[]): readonly Problem[] {
  return problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
}

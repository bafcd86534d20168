/**
 * Command: one verb of the command line. Exit codes: 0 done; 1 the check failed or is incomplete; 2 usage error;
 * 3 could not be done.
 */
import { CodedError } from "../../events/index.ts";

export type ExitCode = 0 | 1 | 2 | 3;

export type Terminal = Readonly<{
  out(text: string): void;
  err(text: string): void;
  /** Whether progress may be drawn. */
  interactive: boolean;
  /** The width of the terminal to which `out` writes. Absent: it is no terminal. */
  columns?: () => number;
  /** Asks the person at the terminal, and answers with one line. Absent: standard input is no terminal. */
  ask?: (question: string) => Promise<string>;
  env: Readonly<Record<string, string | undefined>>;
}>;

export type CliCommand = Readonly<{
  /** `sessions revoke` */
  name: string;
  /** Arguments after the name, for the usage line. */
  usage: string;
  summary: string;
  help: string;
  run(args: readonly string[], terminal: Terminal): Promise<ExitCode>;
}>;

/** A long option that does not exist, without its dashes, and those that do. */
export type UnknownWord = Readonly<{ word: string; known: readonly string[] }>;

/** Wrong use of the command line: printed with a pointer to `--help`, exit 2. */
export class UsageError extends CodedError<"ERR_CLI_USAGE"> {
  override readonly code = "ERR_CLI_USAGE";
  readonly unknown: UnknownWord | null;
  constructor(problem: string, { unknown = null, ...options }: ErrorOptions & { unknown?: UnknownWord | null } = {}) {
    super(problem, options);
    this.unknown = unknown;
  }
}

/** Could not be done: printed as one line, exit 3. */
export class CannotError extends CodedError<"ERR_CLI_CANNOT"> {
  override readonly code = "ERR_CLI_CANNOT";
}

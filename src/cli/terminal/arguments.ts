/** Command-line arguments: Node's parser, with its errors as UsageError. */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { type UnknownWord, UsageError } from "./command.ts";

export type Parsed = Readonly<{
  positionals: readonly string[];
  text(name: string): string | undefined;
  /** All values of an option that may be repeated. */
  all(name: string): readonly string[];
  flag(name: string): boolean;
}>;

/** Options that operator commands share. */
export const operatorOptions = {
  config: { type: "string", short: "c" },
  url: { type: "string" },
  "data-dir": { type: "string" },
  json: { type: "boolean" },
} as const satisfies ParseArgsOptionsConfig;

export const waitOptions = {
  wait: { type: "boolean" },
  /** Alone: the region of the server. With a name, which `text("region")` returns: that region. */
  region: { type: "boolean" },
  timeout: { type: "string" },
  output: { type: "string", short: "o" },
} as const satisfies ParseArgsOptionsConfig;

/**
 * `--region` may stand alone or name a region, as `--region=NAME` or `--region NAME`. A word after it is its name,
 * unless the command would then lack an argument.
 * @throws UsageError naming the option or the number of arguments
 */
export function parse(
  args: readonly string[],
  options: ParseArgsOptionsConfig,
  positionals: { min: number; max: number },
): Parsed {
  const named = options["region"]?.type === "boolean" ? namedRegion(args) : null;
  if (named === null) return parseStrictly(args, options, positionals);
  const { region, rest, isJoined } = named;
  const parsed = parseStrictly(rest, options, isJoined ? positionals : { min: 0, max: positionals.max });
  if (parsed.positionals.length < positionals.min) return parseStrictly(args, options, positionals);
  return { ...parsed, text: (name) => (name === "region" ? region : parsed.text(name)) };
}

type NamedRegion = Readonly<{ region: string; rest: readonly string[]; isJoined: boolean }>;

/** The name behind `--region`, and the arguments with the option alone; null: there is no name. */
function namedRegion(args: readonly string[]): NamedRegion | null {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const at = args.findIndex((arg, i) => i < end && (arg === "--region" || arg.startsWith("--region=")));
  const option = args[at];
  if (option === undefined) return null;
  const isJoined = option !== "--region";
  const region = isJoined ? option.slice("--region=".length) : at + 1 < end ? args[at + 1] : undefined;
  if (region === undefined || region === "" || (!isJoined && region.startsWith("-"))) return null;
  return { region, rest: [...args.slice(0, at), "--region", ...args.slice(at + (isJoined ? 1 : 2))], isJoined };
}

function parseStrictly(
  args: readonly string[],
  options: ParseArgsOptionsConfig,
  positionals: { min: number; max: number },
): Parsed {
  try {
    const parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    if (parsed.positionals.length < positionals.min) throw new UsageError("an argument is missing");
    if (parsed.positionals.length > positionals.max) {
      throw new UsageError(`unexpected argument ${JSON.stringify(parsed.positionals[positionals.max])}`);
    }
    const values: Readonly<Record<string, unknown>> = parsed.values;
    return {
      positionals: parsed.positionals,
      text: (name) => (typeof values[name] === "string" ? values[name] : undefined),
      all: (name) => [values[name]].flat().filter((value) => typeof value === "string"),
      flag: (name) => values[name] === true,
    };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const problem = error instanceof Error ? (error.message.split(". ")[0] ?? error.message) : String(error);
    const isUnknown = error instanceof Error && "code" in error && error.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION";
    throw new UsageError(problem, { cause: error, unknown: isUnknown ? unknownOption(args, options) : null });
  }
}

/** The first unknown long option, and the known ones; null: every option is known. */
function unknownOption(args: readonly string[], options: ParseArgsOptionsConfig): UnknownWord | null {
  const words = args.flatMap((arg) => /^--([^=]+)/.exec(arg)?.[1] ?? []);
  const word = words.find((one) => !Object.hasOwn(options, one));
  return word === undefined ? null : { word, known: Object.keys(options) };
}

/** `10s`, `500ms`, `2m`, or plain seconds, in milliseconds. */
export function parseWait(text: string | undefined, fallbackMs: number): number {
  if (text === undefined) return fallbackMs;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  if (match === null) throw new UsageError(`--timeout ${text}: write a duration such as 10s, 500ms or 2m`);
  const unit = { ms: 1, s: 1_000, m: 60_000 }[match[2] ?? "s"] ?? 1_000;
  return Number(match[1]) * unit;
}

/**
 * Source locations: file, line and column of each value of a document, so that every problem can point at it.
 *
 * - Plain data: a tree of the same shape as the document, so it can be copied to another thread.
 * - A path that does not exist gets the location of its nearest existing ancestor. So a missing key is reported at the
 *   mapping where it belongs.
 */

/**
 * PPL as data, which src/auth/authorize compiles. `location` is its beginning in the file. `locations` covers every
 * value and key inside it, for `locationIn` (source/source-locations.ts); absent: the policy does not come from a file.
 */
export type PolicySource = Readonly<{ ppl: unknown; location: SourceLocation; locations?: SourceLocationTree }>;

/**
 * Lines and columns start at 1. Line 0: a source without lines, such as an environment variable or the command line.
 */
export type SourceLocation = Readonly<{ file: string; line: number; column: number }>;

/** Locations of a value, of its key (null: the value has no key), and of everything inside the value. */
export type SourceLocationTree = Readonly<{
  value: SourceLocation;
  key: SourceLocation | null;
  inner: ReadonlyMap<string | number, SourceLocationTree>;
}>;

/** A problem in the configuration, printed as `file:line:column: error: key: problem; remedy`, or `warning`. */
export type Problem = SourceLocation &
  Readonly<{ key: string; problem: string; remedy: string; severity: "error" | "warning" }>;

export type Path = readonly (string | number)[];

/** Locations for a source without lines, such as an environment variable. Line and column are 0. */
export function sourceWithoutLines(file: string): SourceLocationTree {
  const location: SourceLocation = { file, line: 0, column: 0 };
  return { value: location, key: location, inner: new Map() };
}

/** The location of the value at `path`, or with `at: "key"` of its key, if it has one. */
export function locationOf(locations: SourceLocationTree, path: Path, at: "key" | "value" = "value"): SourceLocation {
  let here = locations;
  for (const step of path) {
    const next = here.inner.get(step);
    if (next === undefined) return here.value;
    here = next;
  }
  return at === "key" ? (here.key ?? here.value) : here.value;
}

/**
 * The location of something inside a policy. For an entry of a mapping it is the key, or with `at: "value"` the value;
 * for an entry of a list it is the value. `locationIn(source, [0, "allow", "and", 1, "groups"])` points at the word
 * `groups`.
 */
export function locationIn(source: PolicySource, path: Path, at: "key" | "value" = "key"): SourceLocation {
  return source.locations === undefined ? source.location : locationOf(source.locations, path, at);
}

/** `routes[2].allowed_users[0]` */
export function formatPath(path: Path): string {
  let text = "";
  for (const step of path) text += typeof step === "number" ? `[${step}]` : text === "" ? step : `.${step}`;
  return text;
}

/** `file:line:column: error: key: problem; remedy`, with `warning` for a warning; without lines, only the file. */
export function formatProblem(problem: Problem): string {
  const where = problem.line === 0 ? problem.file : `${problem.file}:${problem.line}:${problem.column}`;
  const what = problem.remedy === "" ? problem.problem : `${problem.problem}; ${problem.remedy}`;
  return `${where}: ${problem.severity}: ${problem.key}: ${what}`;
}

/** Collects problems while a document is read. */
export class ProblemReporter {
  readonly problems: Problem[] = [];
  readonly #locations: SourceLocationTree;
  readonly #prefix: Path;
  constructor(
    locations: SourceLocationTree,
    options: Readonly<{ prefix: Path; into: Problem[] }> = { prefix: [], into: [] },
  ) {
    this.#locations = locations;
    this.#prefix = options.prefix;
    this.problems = options.into;
  }
  /** A reporter for one part of the document, which adds to the same list. */
  under(...path: Path): ProblemReporter {
    return new ProblemReporter(this.#locations, { prefix: [...this.#prefix, ...path], into: this.problems });
  }
  error(path: Path, problem: string, remedy: string, at: "key" | "value" = "value"): void {
    this.#add({ path, problem, remedy, at, severity: "error" });
  }
  warn(path: Path, problem: string, remedy: string, at: "key" | "value" = "value"): void {
    this.#add({ path, problem, remedy, at, severity: "warning" });
  }
  locationOf(path: Path, at: "key" | "value" = "value"): SourceLocation {
    return locationOf(this.#locations, [...this.#prefix, ...path], at);
  }
  get hasErrors(): boolean {
    return this.problems.some((problem) => problem.severity === "error");
  }
  #add(
    found: Readonly<{
      path: Path;
      problem: string;
      remedy: string;
      at: "key" | "value";
      severity: Problem["severity"];
    }>,
  ): void {
    const path = [...this.#prefix, ...found.path];
    this.problems.push({
      ...locationOf(this.#locations, path, found.at),
      key: formatPath(path),
      problem: found.problem,
      remedy: found.remedy,
      severity: found.severity,
    });
  }
}

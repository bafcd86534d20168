/**
 * Log throttle: lets one line per cause and minute pass, and counts the repetitions of an outage.
 *
 * - A line has a cause if it carries an error or a code. The key is its level, message and texts, without numbers and
 *   ids, so that two upstreams or two broken sinks are two causes. Lines without a cause pass.
 * - The first line of a cause passes at once. The next one, after a minute or from `due`, says how many were left out.
 * - It remembers at most `keysMax` causes. It forgets the oldest, whose next line then passes early.
 *
 * Pure. Shared by the whole process, which has one logger.
 */
const windowMs = 60_000;
const keysMax = 1_000;
const keyCharsMax = 400;
const causesMax = 8;

type Fields = Readonly<Record<string, unknown>>;
/** The last omitted line of a cause, for `due`. */
export type LeftOut<Line> = Readonly<{ line: Line; omitted: number }>;
type Entry<Line> = { startedAt: number; omitted: number; last: Line | null };

/** A line with one of these fields has a cause. */
const causeFields = ["err", "error", "code", "why"] as const;
/** Fields that differ between lines of one cause. */
const variableFields: ReadonlySet<string> = new Set(
  "err requestId sessionId userId commandId peer ip host path url version trace span at time".split(" "),
);

/** Undefined: the line has no cause. */
export function causeKeyOf(level: number, fields: unknown, message: string): string | undefined {
  if (typeof fields !== "object" || fields === null) return undefined;
  const named: Fields = fields instanceof Error ? { err: fields } : (fields as Fields);
  if (!causeFields.some((name) => named[name] !== undefined && named[name] !== null)) return undefined;
  const texts = Object.entries(named).flatMap(([name, value]) =>
    typeof value === "string" && !variableFields.has(name) ? [`${name}=${value}`] : [],
  );
  const key = [String(level), message, causeOf(named["err"]), ...texts].join("|");
  return key
    .slice(0, 4 * keyCharsMax)
    .replace(/[0-9a-f-]{12,}|\d+/gi, "#")
    .slice(0, keyCharsMax);
}

/** The innermost error code, else all messages: the innermost error is the cause. */
function causeOf(error: unknown): string {
  const chain = chainOf(error);
  const code = chain.findLast((one) => codeOf(one) !== undefined);
  return code === undefined ? chain.map(({ message }) => message).join(": ") : String(codeOf(code));
}

export class LogThrottle<Line> {
  readonly #entries = new Map<string, Entry<Line>>();
  #omitted = 0;

  /** @returns how many lines of the cause were left out before this one; undefined: leave this one out */
  admit(key: string, line: Line, nowMs: number): number | undefined {
    const entry = this.#entries.get(key);
    if (entry !== undefined && nowMs - entry.startedAt < windowMs) {
      entry.omitted += 1;
      entry.last = line;
      this.#omitted += 1;
      return undefined;
    }
    this.#entries.delete(key);
    this.#entries.set(key, { startedAt: nowMs, omitted: 0, last: null });
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > keysMax && oldest !== undefined) this.#entries.delete(oldest);
    return entry?.omitted ?? 0;
  }

  /**
   * Handles causes whose minute has passed: with omitted lines they start another minute, otherwise they are forgotten.
   */
  due(nowMs: number): readonly LeftOut<Line>[] {
    const all: LeftOut<Line>[] = [];
    for (const [key, entry] of this.#entries) {
      if (nowMs - entry.startedAt < windowMs) continue;
      if (entry.last === null) {
        this.#entries.delete(key);
        continue;
      }
      all.push({ line: entry.last, omitted: entry.omitted });
      Object.assign(entry, { startedAt: nowMs, omitted: 0, last: null });
    }
    return all;
  }

  /** Omitted lines so far. */
  get omitted(): number {
    return this.#omitted;
  }
}

/**
 * An error as a log line shows it. An expected error (with a code or a class of its own) has no stack, because an
 * outage is no fault of the code. Others have one.
 */
export function describeError(error: unknown): object {
  const chain = chainOf(error);
  const [first] = chain;
  if (first === undefined) return { message: String(error) };
  const messages = [...new Set(chain.map(({ message }) => message).filter((message) => message !== ""))];
  const expected = chain.some((one) => !isProgrammingError(one) && (codeOf(one) !== undefined || isNamed(one)));
  const code = chain.map(codeOf).find((one) => one !== undefined);
  return {
    type: first.name,
    message: messages.join(": "),
    ...(code === undefined ? {} : { code }),
    ...(expected ? {} : { stack: chain.map(({ stack }) => stack).join("\ncaused by: ") }),
  };
}

/** The error and its causes, outermost first. An AggregateError counts with its first error. */
function chainOf(error: unknown): readonly Error[] {
  const chain: Error[] = [];
  for (let at = error; at instanceof Error && chain.length < causesMax; ) {
    chain.push(at);
    at = at instanceof AggregateError ? at.errors[0] : at.cause;
  }
  return chain;
}

function codeOf(error: Error): string | undefined {
  return "code" in error && typeof error.code === "string" && error.code !== "" ? error.code : undefined;
}

function isProgrammingError(error: Error): boolean {
  return (
    error instanceof TypeError ||
    error instanceof RangeError ||
    error instanceof SyntaxError ||
    error instanceof ReferenceError
  );
}

function isNamed({ name }: Error): boolean {
  return name !== "Error" && name !== "AssertionError" && name !== "AggregateError";
}

/**
 * Logger: structured logs, one line of JSON each (pino), through the process's output, which never blocks.
 *
 * Callers must not log secrets; known fields are redacted all the same. Repeated warnings and errors are throttled by
 * cause (log-throttle.ts).
 */
import { type Logger as PinoLogger, pino } from "pino";
import type { Config } from "../../config/index.ts";
import { type Output, openOutput } from "../terminal/output.ts";
import { causeKeyOf, describeError, LogThrottle } from "./log-throttle.ts";

/** pino's number of the level `warn`. */
const warnLevel = 40;
const flushEveryMs = 5_000;

/** Standard output of a process that runs services. The queue is also written when the process exits. */
export function openStandardOutput(): Output {
  // Node makes a pipe non-blocking when it opens the stream. Then a reader that stalls occupies no thread.
  void process.stdout;
  const output = openOutput({ fd: 1, noticeOf: droppedNotice("standard output") });
  process.once("exit", () => output.closeNow());
  queueStandardError();
  return output;
}

/**
 * Puts standard error behind a bounded queue. Node writes to it synchronously if it is a file, and queues without a
 * bound for a stalled pipe. It carries warnings of the runtime and what libraries print (`console.error`).
 */
function queueStandardError(): void {
  const output = openOutput({ fd: process.stderr.fd, noticeOf: droppedNotice("standard error") });
  process.stderr.write = (chunk: Uint8Array | string, ...rest: readonly unknown[]): boolean => {
    output.write(typeof chunk === "string" ? chunk : Buffer.from(chunk).toString());
    const done = rest.find((one) => typeof one === "function");
    if (done !== undefined) process.nextTick(done as () => void);
    return true;
  };
  process.once("exit", () => output.closeNow());
}

export function createLogger(
  level: Config["logLevel"],
  { facts, output }: Readonly<{ facts: Readonly<Record<string, string>>; output: Output }>,
): PinoLogger {
  const throttle = new LogThrottle<(omitted: number) => void>();
  const logger = pino(
    {
      level,
      base: { pid: process.pid, ...facts },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: "message",
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
      hooks: {
        logMethod(args, method, level) {
          const [fields, message] = args as unknown as readonly [unknown, unknown];
          const key = level < warnLevel ? undefined : causeKeyOf(level, fields, String(message));
          if (key === undefined) return method.apply(this, args);
          const write = (omitted: number): void => {
            const more = fields instanceof Error ? { err: fields } : (fields as object);
            method.apply(this, omitted === 0 ? args : [{ ...more, omitted }, String(message)]);
          };
          const omitted = throttle.admit(key, write, performance.now());
          if (omitted === undefined) output.countThrottled();
          else write(omitted);
        },
      },
      redact: ["cookie", "authorization", "token", "secret", "*.cookie", "*.authorization", "*.token", "*.secret"],
    },
    output,
  );
  const flush = setInterval(() => {
    for (const { line, omitted } of throttle.due(performance.now())) line(omitted);
  }, flushEveryMs);
  flush.unref();
  return logger;
}

function droppedNotice(stream: "standard output" | "standard error"): (lines: number, reason: string) => string {
  const message = `log lines were dropped because ${stream} was full or failed; it works again`;
  return (lines, reason) =>
    JSON.stringify({ level: "warn", time: new Date().toISOString(), pid: process.pid, lines, reason, message });
}

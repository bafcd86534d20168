/**
 * Structured logs: one line of JSON each (pino), through the process's output, which never blocks. Secrets do not belong here; known
 * fields are redacted all the same.
 */
import { type Logger as PinoLogger, pino } from "pino";
import type { Config } from "../config/index.ts";
import { type Output, openOutput } from "./output.ts";

/** The standard output of a process that runs services. What is queued is written when the process exits, too. */
export function openStandardOutput(): Output {
  // Node makes a pipe non-blocking when it opens the stream. Then a reader that stalls occupies no thread.
  void process.stdout;
  const output = openOutput({ fd: 1, noticeOf: droppedNotice });
  process.once("exit", () => output.closeNow());
  return output;
}

export function createLogger(
  level: Config["logLevel"],
  { facts, output }: Readonly<{ facts: Readonly<Record<string, string>>; output: Output }>,
): PinoLogger {
  return pino(
    {
      level,
      base: { pid: process.pid, ...facts },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: "message",
      formatters: { level: (label) => ({ level: label }) },
      redact: ["cookie", "authorization", "token", "secret", "*.cookie", "*.authorization", "*.token", "*.secret"],
    },
    output,
  );
}

function droppedNotice(lines: number, reason: string): string {
  const message = "log lines were dropped because standard output was full or failed; it works again";
  return JSON.stringify({ level: "warn", time: new Date().toISOString(), pid: process.pid, lines, reason, message });
}

/** Structured logs: one line of JSON each, on standard output (pino). Secrets have no business here; known fields are cut all the same. */
import { type Logger as PinoLogger, pino } from "pino";
import type { Config } from "../config/index.ts";

export function createLogger(level: Config["logLevel"], facts: Readonly<Record<string, string>>): PinoLogger {
  return pino({
    level,
    base: { pid: process.pid, ...facts },
    timestamp: pino.stdTimeFunctions.isoTime,
    messageKey: "message",
    formatters: { level: (label) => ({ level: label }) },
    redact: ["cookie", "authorization", "token", "secret", "*.cookie", "*.authorization", "*.token", "*.secret"],
  });
}

/** Observers: the access log, the log of decisions and the traces of a process that serves requests or decisions. */
import { Counter, type Registry } from "prom-client";
import type { Config } from "../../config/index.ts";
import { compileAuthorizeLine, createTracing, type ProxyDeps } from "../../proxy/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { Output } from "../terminal/output.ts";
import { version } from "../terminal/version.ts";

export type Observers = Pick<ProxyDeps, "accessLog" | "authorizeLog" | "tracing"> &
  Readonly<{ close(): Promise<unknown> }>;

export async function startObservers(
  config: Config,
  { output, ...context }: Readonly<{ node: string; logger: Logger; registry: Registry; output: Output }>,
): Promise<Observers> {
  const { accessLogFields, authorizeLogFields, logLevel, region } = config;
  const logsInfo = logLevel === "info" || logLevel === "debug";
  const wantsAccessLog = accessLogFields.length > 0 && config.services.has("proxy");
  const lineOutput = logsInfo ? output : null;
  const traces = config.tracing === null || !config.services.has("proxy") ? null : config.tracing;
  const tracing = traces === null ? null : await createTracing(traces, { ...context, region, version });
  return {
    accessLog:
      lineOutput === null || !wantsAccessLog ? null : { write: lineOutput.writeLine, probes: logLevel === "debug" },
    authorizeLog:
      lineOutput === null || authorizeLogFields === null
        ? null
        : authorizeLogOf(authorizeLogFields, lineOutput.writeLine, context.registry),
    tracing,
    close: async () => tracing?.close(),
  };
}

function authorizeLogOf(
  fields: NonNullable<Config["authorizeLogFields"]>,
  write: (line: string) => boolean,
  registry: Registry,
): NonNullable<ProxyDeps["authorizeLog"]> {
  const lineOf = compileAuthorizeLine(fields);
  const lost = new Counter({
    name: "cardea_authorize_log_lost_total",
    help: "Lines of the authorize log that were dropped because the output was full",
    registers: [registry],
  });
  return (facts) => {
    if (!write(lineOf(facts))) lost.inc();
  };
}

/** Observers: the access log and the traces of a process that runs a proxy. */
import type { Config } from "../config/index.ts";
import { createTracing, type ProxyPorts } from "../proxy/index.ts";
import type { Logger } from "../replication/index.ts";
import { openAccessLog } from "./access-log.ts";
import { version } from "./version.ts";

export type Observers = Pick<ProxyPorts, "accessLog" | "tracing"> & Readonly<{ close(): Promise<unknown> }>;

export async function startObservers(
  config: Config,
  who: Readonly<{ node: string; logger: Logger }>,
): Promise<Observers> {
  const { accessLogFields, logLevel, region } = config;
  const wanted = accessLogFields.length > 0 && (logLevel === "info" || logLevel === "debug");
  const accessLog = wanted ? openAccessLog() : null;
  const tracing = config.tracing === null ? null : await createTracing(config.tracing, { ...who, region, version });
  return {
    accessLog: accessLog === null ? null : { write: accessLog.write, probes: logLevel === "debug" },
    tracing,
    close: () => Promise.all([accessLog?.close(), tracing?.close()]),
  };
}

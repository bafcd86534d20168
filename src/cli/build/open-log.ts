/** Opens the log that a configuration names. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import type { Config } from "../../config/index.ts";
import {
  createMemoryLog,
  type EventLog,
  LogRefusedError,
  LogUnavailableError,
  openPostgresLog,
  openSqliteLog,
} from "../../replication/log/index.ts";
import { CannotError } from "../terminal/command.ts";

export type OpenLogOptions = Readonly<{
  /** `wait`: calls of the log wait for a store that is not reachable yet. Default: `fail`. */
  whenUnavailable?: "fail" | "wait";
  /** The Postgres servers to use, named as in the connection string. Default: all. */
  onlyHosts?: ReadonlySet<string> | undefined;
}>;

/** @throws CannotError in one line that says what to do */
export async function openLog(
  config: Config,
  logger: Parameters<typeof openPostgresLog>[0]["logger"],
  { whenUnavailable = "fail", onlyHosts }: OpenLogOptions = {},
): Promise<EventLog> {
  const { store } = config;
  const cluster = config.broker.clusterName;
  try {
    switch (store.type) {
      case "memory":
        return createMemoryLog();
      case "file":
        mkdirSync(dirname(store.path), { recursive: true, mode: 0o700 });
        return await openSqliteLog({ path: store.path, cluster });
      case "postgres":
        return await openPostgresLog({
          connectionString: store.connectionString,
          cluster,
          whenUnavailable,
          ...(onlyHosts === undefined ? {} : { onlyHosts }),
          ...(logger === undefined ? {} : { logger }),
        });
    }
  } catch (error) {
    if (error instanceof LogRefusedError || error instanceof LogUnavailableError) {
      throw new CannotError(`cannot open the event log: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

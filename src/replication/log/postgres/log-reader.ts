/** Postgres log reader: the log of one named server, for reading only. */
import { type EventLog, LogRefusedError } from "../log.ts";
import { parsePostgresHosts } from "./hosts.ts";
import { openPostgresLog, type PostgresLogOptions } from "./log.ts";

/** A log that is only read. */
export type LogReader = Pick<EventLog, "read" | "epochs" | "base" | "close">;

/**
 * Opens the log of one server. It may be a standby, or refuse writes.
 * @param options.host the name of one host in the connection string
 * @throws LogUnavailableError, LogRefusedError
 */
export async function openPostgresReader({
  host,
  ...options
}: Pick<PostgresLogOptions, "connectionString" | "cluster" | "schema"> &
  Readonly<{ host: string }>): Promise<LogReader> {
  const found = parsePostgresHosts(options.connectionString).find(({ name }) => name === host);
  if (found === undefined) throw new LogRefusedError(`the Postgres connection string has no host ${host}`);
  return openPostgresLog({ ...options, connectionString: found.connectionString, use: "read" });
}

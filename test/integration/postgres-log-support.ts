/**
 * Test support for the Postgres log: a separate schema and database for each test, with queries as the server's
 * superuser.
 */
import { randomBytes } from "node:crypto";
import { type EventLog, openPostgresLog, type PostgresLogOptions } from "../../src/replication/log/index.ts";
import { withClient } from "../support/postgres-client.ts";
import type { PostgresServer } from "../support/service.ts";

export type OwnStore = Readonly<{
  schema: string;
  connectionString: string;
  open(options?: Partial<PostgresLogOptions>): Promise<EventLog>;
  /** Queries the server as its superuser, over a separate connection. */
  sql(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}>;

export async function ownStore(server: PostgresServer): Promise<OwnStore> {
  const schema = `log_${randomBytes(5).toString("hex")}`;
  const connectionString = await server.newDatabase();
  const opened: EventLog[] = [];
  return {
    schema,
    connectionString,
    open: async (options = {}) => {
      const log = await openPostgresLog({ connectionString, cluster: "test", schema, ...options });
      opened.push(log);
      return log;
    },
    sql: async (text, values = []) =>
      withClient(connectionString, async (client) => {
        await client.query("set default_transaction_read_only = off"); // a test may have made the server read-only
        return (await client.query(text, [...values])).rows;
      }),
    close: async () => {
      await Promise.all(opened.map((log) => log.close()));
    },
  };
}

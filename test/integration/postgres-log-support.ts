/** What the tests of the Postgres log share: a log of its own for each test, and the server's superuser beside it. */
import { randomBytes } from "node:crypto";
import { type EventLog, openPostgresLog, type PostgresLogOptions } from "../../src/replication/index.ts";
import { withClient } from "../support/postgres-client.ts";
import type { PostgresServer } from "../support/service.ts";

export type OwnStore = Readonly<{
  schema: string;
  connectionString: string;
  open(options?: Partial<PostgresLogOptions>): Promise<EventLog>;
  /** Asks the server as its superuser, over a connection of its own. */
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
        await client.query("set default_transaction_read_only = off"); // whatever a test has made of the server
        return (await client.query(text, [...values])).rows;
      }),
    close: async () => {
      await Promise.all(opened.map((log) => log.close()));
    },
  };
}

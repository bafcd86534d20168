/** Postgres client: the queries that tests send to any Postgres server, local or in a container. */
import { randomBytes } from "node:crypto";
import pg from "pg";
import type { PostgresServer } from "./service.ts";

/** Makes an empty database and returns its connection string. */
export async function newDatabase(server: Pick<PostgresServer, "connectionString">): Promise<string> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await withClient(server.connectionString(), (client) => client.query(`create database ${name}`));
  return server.connectionString(name);
}

/** Connects, calls the function with the client, and closes the connection. */
export async function withClient<T>(connectionString: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 20_000 });
  client.on("error", () => {}); // the query itself reports a lost connection
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

/** Audit database: a database for the tests of the Postgres sink, with an owner and roles of fewer rights. */
import { type AuditSink, createPostgresAuditSink } from "../../../src/audit/index.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { PostgresServer } from "../../support/service.ts";

export type AuditDatabase = Readonly<{
  url: string;
  /** The address of another role; its password is its name. */
  urlOf(role: string): string;
  troubles: string[];
  sink(options?: Partial<Parameters<typeof createPostgresAuditSink>[0]>): AuditSink;
  query(text: string, values?: readonly unknown[]): Promise<readonly Readonly<Record<string, unknown>>[]>;
  lines(): Promise<readonly string[]>;
}>;

export const limits = { connectMs: 1_000, statementMs: 5_000 };

export async function newAuditDatabase(server: PostgresServer): Promise<AuditDatabase> {
  const url = await server.newDatabase();
  const troubles: string[] = [];
  const query: AuditDatabase["query"] = (text, values = []) =>
    withClient(url, async (client) => (await client.query(text, [...values])).rows);
  return {
    url,
    urlOf: (role) => url.replace(/\/\/[^@]*@/, `//${role}:${role}@`),
    troubles,
    sink: (options = {}) =>
      createPostgresAuditSink({
        ...{ connectionString: url, schema: "cardea_audit", cluster: "main", retentionDays: null, node: "node-1" },
        onTrouble: (problem, error) => troubles.push(`${problem}: ${error instanceof Error ? error.message : error}`),
        limits,
        ...options,
      }),
    query,
    lines: async () =>
      (await query("select line from cardea_audit.records order by boot, seq, day")).map(({ line }) => String(line)),
  };
}

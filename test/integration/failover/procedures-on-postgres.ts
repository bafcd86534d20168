/**
 * An installation whose log is in Postgres, for the procedures of docs/backup.md. The process that lets people
 * through goes on while the broker and its database are replaced.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { startArchivedPostgres } from "../../support/postgres-backup.ts";
import { startInstallation } from "./procedures.ts";

/** A broker on a new database, whose connection string lies in a file as the page has it. */
export async function startOnPostgres(t: TestContext) {
  const postgres = await startArchivedPostgres();
  t.after(() => postgres.stop());
  const folder = new TemporaryFolder("connection-string");
  t.after(() => folder.remove());
  const urlFile = join(folder.path, "database_url");
  const databaseUrl = await postgres.newDatabase();
  writeFileSync(urlFile, databaseUrl, { mode: 0o600 });
  const store = { databroker_storage_type: "postgres", databroker_storage_connection_string_file: urlFile };
  const server = await startInstallation(t, store, { split: true });
  return { postgres, server, urlFile, databaseUrl };
}

/**
 * An installation with its log in Postgres, for the procedures of docs/backup.md. The process that serves people keeps
 * running while the broker and its database are replaced.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { startArchivedPostgres } from "../../support/postgres-backup.ts";
import { startInstallation } from "./procedures.ts";

/** Starts an installation on a new database; its connection string is in a file, as the page describes. */
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

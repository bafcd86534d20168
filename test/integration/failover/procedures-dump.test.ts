/**
 * A restore of a dump of a Postgres log (docs/backup.md), run from the page against real processes, twice. People sign
 * in before, between and after.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { assertBackupRestores, commandsAfter } from "./procedures.ts";
import { startOnPostgres } from "./procedures-on-postgres.ts";

const timeout = 1_800_000;
const skip = findPostgresBinaries() === undefined ? "a backup needs local binaries of Postgres" : false;

test("a log in Postgres is restored from a dump twice, as docs/backup.md describes", { timeout, skip }, async (t) => {
  const [backup = "", restore = ""] = commandsAfter("**A dump**", 2);
  const { postgres, server, urlFile, databaseUrl } = await startOnPostgres(t);
  let url = databaseUrl;
  for (const round of [1, 2]) {
    const BACKUP = join(server.folder, `dump-${round}`);
    mkdirSync(BACKUP);
    const RESTORED_URL = await postgres.newDatabase();
    const env = { DATABASE_URL: url, BACKUP, RESTORED_URL, URL_FILE: urlFile, PATH: postgres.binaries };
    const takeBackup = (): Promise<void> => server.perform(backup, env);
    await assertBackupRestores(server, { back: takeBackup, restore: () => server.perform(restore, env) }, round);
    url = RESTORED_URL;
  }
});

/**
 * A dump of a log in Postgres, restored (docs/backup.md): run from the page against real processes, twice, with
 * people signed in before, between and after.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { assertBackupRestores, commandsAfter } from "./procedures.ts";
import { startOnPostgres } from "./procedures-on-postgres.ts";

const timeout = 1_800_000;
const skip = findPostgresBinaries() === undefined ? "a backup needs local binaries of Postgres" : false;

test("a dump of a log in Postgres, restored twice", { timeout, skip }, async (t) => {
  const [backup = "", restore = ""] = commandsAfter("**A dump**", 2);
  const { postgres, server, urlFile, databaseUrl } = await startOnPostgres(t);
  let url = databaseUrl;
  for (const round of [1, 2]) {
    const BACKUP = join(server.folder, `dump-${round}`);
    mkdirSync(BACKUP);
    const RESTORED_URL = await postgres.newDatabase();
    const env = { DATABASE_URL: url, BACKUP, RESTORED_URL, URL_FILE: urlFile, PATH: postgres.binaries };
    const back = (): Promise<void> => server.perform(backup, env);
    await assertBackupRestores(server, { back, restore: () => server.perform(restore, env) }, round);
    url = RESTORED_URL;
  }
});

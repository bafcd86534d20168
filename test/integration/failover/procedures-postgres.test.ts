/**
 * Backup and restore of a Postgres log to a point in time (docs/backup.md), run from the page against real processes,
 * twice. People sign in before, between and after.
 */
import { join } from "node:path";
import { test } from "node:test";
import { freePort } from "../../support/free-port.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { assertBackupRestores, commandsAfter } from "./procedures.ts";
import { startOnPostgres } from "./procedures-on-postgres.ts";

const timeout = 1_800_000;
const skip = findPostgresBinaries() === undefined ? "a backup needs local binaries of Postgres" : false;

test("a log in Postgres is restored to a point in time twice, as docs/backup.md describes", {
  timeout,
  skip,
}, async (t) => {
  const [backup = "", restore = ""] = commandsAfter("**Postgres, to a point in time.**", 2);
  const { postgres, server, urlFile, databaseUrl } = await startOnPostgres(t);
  let current = { url: databaseUrl, stop: () => postgres.kill() };
  for (const round of [1, 2]) {
    const folder = postgres.newFolder(`round-${round}`);
    const restored = new URL(databaseUrl);
    const port = await freePort();
    restored.port = String(port);
    const env = {
      ...{ DATABASE_URL: current.url, BACKUP: folder, ARCHIVE: postgres.archive, POINT: `noon-${round}` },
      ...{
        RESTORED: join(folder, "restored"),
        RESTORED_URL: restored.href,
        URL_FILE: urlFile,
        PATH: postgres.binaries,
      },
    };
    const before = current;
    const next = { url: restored.href, stop: async (): Promise<void> => {} };
    const otherUnits = {
      "stop postgresql": () => before.stop(),
      "start postgresql-restored": async () => {
        next.stop = (await postgres.serve(env.RESTORED, port)).stop;
      },
    };
    const takeBackup = async (): Promise<void> => {
      await server.perform(backup, env);
      await postgres.restorePoint(env.POINT, before.url);
    };
    await assertBackupRestores(
      server,
      { back: takeBackup, restore: () => server.perform(restore, env, otherUnits) },
      round,
    );
    current = next;
  }
});

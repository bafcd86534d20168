/**
 * Backup and restore of a log in a file (docs/backup.md), run from the page against a real process, twice. People sign
 * in before, between and after.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertBackupRestores, commandsAfter, startInstallation } from "./procedures.ts";

const timeout = 1_800_000;

test("a log in a file is backed up and restored twice, as docs/backup.md describes", { timeout }, async (t) => {
  const [backup = "", restore = ""] = commandsAfter("**A log in a file.**", 2);
  const server = await startInstallation(t, { databroker_storage_type: "file" });
  for (const round of [1, 2]) {
    const folder = join(server.folder, `backup-${round}`);
    mkdirSync(folder);
    const env = { DATA: server.dataDir, BACKUP: folder };
    const takeBackup = (): Promise<void> => server.perform(backup, env);
    await assertBackupRestores(server, { back: takeBackup, restore: () => server.perform(restore, env) }, round);
  }
});

/**
 * A new log started from a snapshot with the saved keys of people (docs/backup.md, "Without any backup"), run from the
 * page against a real process, twice. People sign in before, between and after.
 */
import { join } from "node:path";
import { test } from "node:test";
import { assertBackupRestores, commandsAfter, startInstallation } from "./procedures.ts";

const timeout = 1_800_000;

test("a log is restarted from a snapshot and the saved keys of people twice, as docs/backup.md describes", {
  timeout,
}, async (t) => {
  const [saveKeys = "", restore = ""] = commandsAfter("**Without any backup**", 2);
  const server = await startInstallation(t, { databroker_storage_type: "file" });
  for (const round of [1, 2]) {
    const env = { DATA: server.dataDir, KEYS: join(server.folder, `keys-${round}`) };
    const takeBackup = async (): Promise<void> => {
      await server.cardea("snapshot", "create");
      await server.perform(saveKeys, env);
    };
    await assertBackupRestores(server, { back: takeBackup, restore: () => server.perform(restore, env) }, round);
  }
});

/**
 * A log begun anew behind a snapshot with the saved keys of people (docs/backup.md, "Without any backup"), run from
 * the page against a real process, twice, with people signed in before, between and after.
 */
import { join } from "node:path";
import { test } from "node:test";
import { assertBackupRestores, commandsAfter, startInstallation } from "./procedures.ts";

const timeout = 1_800_000;

test("a log begun anew behind a snapshot, with the keys of people, twice", { timeout }, async (t) => {
  const [saveKeys = "", restore = ""] = commandsAfter("**Without any backup**", 2);
  const server = await startInstallation(t, { databroker_storage_type: "file" });
  for (const round of [1, 2]) {
    const env = { DATA: server.dataDir, KEYS: join(server.folder, `keys-${round}`) };
    const back = async (): Promise<void> => {
      await server.cardea("snapshot", "create");
      await server.perform(saveKeys, env);
    };
    await assertBackupRestores(server, { back, restore: () => server.perform(restore, env) }, round);
  }
});

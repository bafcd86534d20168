/** The contract of an EventLog, for the memory log and the SQLite log. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { UnixMs } from "../../src/events/index.ts";
import { createMemoryLog, openSqliteLog } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { describeConfigurationStore, describeConfigurations } from "./configurations.ts";
import { describeEventLog } from "./event-log.ts";
import { describeRetention } from "./retention.ts";

const makeMemory = async () => {
  let ahead = 0;
  const log = createMemoryLog({ clock: { ...systemClock, wall: () => (systemClock.wall() + ahead) as UnixMs } });
  return {
    log,
    peer: async () => log,
    ageCommands: async (byMs: number) => {
      ahead += byMs;
      return log;
    },
    pieces: 1,
    close: () => log.close(),
  };
};
describeEventLog("memory", makeMemory);
describeRetention("memory", makeMemory);
describeConfigurations("memory", makeMemory);
describeConfigurationStore("memory", makeMemory);

const makeSqlite = async () => {
  const folder = mkdtempSync(join(tmpdir(), "cardea-log-"));
  const path = join(folder, "data", "log.db");
  const open = () => openSqliteLog({ path, cluster: "test" });
  const first = await open();
  let log = first;
  return {
    log: first,
    peer: async () => log,
    reopen: async () => {
      await log.close();
      log = await open();
      return log;
    },
    ageCommands: async (byMs: number) => {
      await log.close();
      const file = new DatabaseSync(path);
      file.prepare("update command set at = at - ?").run(byMs);
      file.close();
      log = await open();
      return log;
    },
    pieces: 1,
    close: async () => {
      await log.close();
      rmSync(folder, { recursive: true });
    },
  };
};
describeEventLog("SQLite", makeSqlite);
describeRetention("SQLite", makeSqlite);
describeConfigurations("SQLite", makeSqlite);
describeConfigurationStore("SQLite", makeSqlite);

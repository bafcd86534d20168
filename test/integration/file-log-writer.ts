/**
 * File-log writer: a process that appends to a file log until it is killed.
 *
 * It prints each command id once the command is acknowledged.
 */
import { writeSync } from "node:fs";
import { openSqliteLog } from "../../src/replication/log/index.ts";
import { aCommandId, aSession, LogWriter } from "../support/log-writer.ts";

const [path = "", cluster = "test"] = process.argv.slice(2);
const log = await openSqliteLog({ path, cluster });
const writer = await LogWriter.open(log);
writeSync(1, "open\n");
for (;;) {
  const commandId = aCommandId();
  const events = Array.from({ length: 1 + Math.floor(Math.random() * 40) }, () => aSession());
  const outcome = await writer.append([{ commandId, events }]);
  if (outcome.type !== "appended") throw new Error(outcome.type);
  writeSync(1, `${commandId} ${events.length}\n`);
}

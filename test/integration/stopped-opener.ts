/** Stopped opener: a process that stops itself with SIGSTOP while it opens an epoch, as on a suspended machine. */
import { openPostgresLog } from "../../src/replication/log/index.ts";
import { openEpochRequest } from "../support/log-writer.ts";

const [connectionString = "", schema = ""] = process.argv.slice(2);
const log = await openPostgresLog({ connectionString, schema, cluster: "test" });
const { epoch } = await log.observe();
const request = openEpochRequest(epoch);
const outcome = await log.openEpoch({
  ...request,
  firstEvent: (at) => {
    process.kill(process.pid, "SIGSTOP");
    return request.firstEvent(at);
  },
});
process.stdout.write(`${outcome.type}\n`);
await log.close();

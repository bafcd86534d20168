/** The contract of an EventLog for the Postgres log, on a server from local binaries or in a container. */
import { after, before } from "node:test";
import { openPostgresLog } from "../../src/replication/log/index.ts";
import { withClient } from "../support/postgres-client.ts";
import type { PostgresOptions, PostgresServer } from "../support/service.ts";
import { describeConfigurationStore, describeConfigurations } from "./configurations.ts";
import { describeEventLog } from "./event-log.ts";
import { describeRetention } from "./retention.ts";

export function describePostgresEventLog(
  name: string,
  start: (options?: PostgresOptions) => Promise<PostgresServer>,
): void {
  let server: PostgresServer;
  let schemas = 0;
  before(async () => {
    server = await start();
  });
  after(() => server.stop());

  const partitionEvents = 4;
  const make = async () => {
    schemas += 1;
    const schema = `contract_${schemas}`;
    const connectionString = server.connectionString();
    const open = () => openPostgresLog({ connectionString, cluster: "test", schema });
    const log = await open();
    const smaller = `update ${schema}.log_head set partition_size = ${partitionEvents}`;
    await withClient(connectionString, (client) => client.query(smaller));
    const opened = [log];
    const peer = async () => {
      const another = await open();
      opened.push(another);
      return another;
    };
    return {
      log,
      peer,
      reopen: async () => {
        await log.close();
        return peer();
      },
      ageCommands: async (byMs: number) => {
        const text = `update ${schema}.command set at = at - $1 * interval '1 millisecond'`;
        await withClient(connectionString, (client) => client.query(text, [byMs]));
        return log;
      },
      pieces: partitionEvents,
      close: async () => {
        await Promise.all(opened.map((each) => each.close()));
      },
    };
  };
  describeRetention(name, make);
  describeConfigurations(name, make);
  describeConfigurationStore(name, make);
  describeEventLog(name, async () => {
    const harness = await make();
    const large = `update contract_${schemas}.log_head set partition_size = 1000000`;
    await withClient(server.connectionString(), (client) => client.query(large));
    return harness;
  });
}

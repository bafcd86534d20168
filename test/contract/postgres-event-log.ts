/** The contract of an EventLog for the Postgres log, on a server from local binaries or in a container. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type CardeaEvent, decodeEvents, genesis, streamOf } from "../../src/events/index.ts";
import { openPostgresLog } from "../../src/replication/log/index.ts";
import { postgresMigrations } from "../../src/replication/log/migrations/postgres-migrations.ts";
import { aCommandId, aSession, LogWriter } from "../support/log-writer.ts";
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

  test(`${name}: a leader of the build before appends while a newer one replaces the function that it calls`, async () => {
    const { log, peer, close } = await make();
    try {
      await withClient(server.connectionString(), (client) => client.query(asBefore(`contract_${schemas}`)));
      const writer = await LogWriter.open(log);
      const groups = Array.from({ length: 40 }, (_, n) => ({
        type: "GroupUpserted",
        groupId: `g${n}`,
        name: "a",
      })) as unknown as readonly CardeaEvent[];
      const append = async () => {
        const sessions = Array.from({ length: 20 }, () => aSession());
        assert.deepEqual((await writer.appendEach(...groups, ...sessions)).type, "appended");
      };
      for (let n = 0; n < 7; n += 1) await append(); // the statement is prepared, and has its generic plans
      const [newer] = await Promise.all([peer(), append().then(append)]);
      await append();
      const repeated = aCommandId();
      await writer.append([{ commandId: repeated, events: [aSession()] }]);
      const again = await writer.append([{ events: [aSession()] }, { commandId: repeated, events: [aSession()] }]);
      assert.deepEqual(again.type === "duplicate-command" && again.commandId, repeated);
      writer.versions.set(streamOf(groups[3] as CardeaEvent), 2);
      writer.versions.set(streamOf(groups[5] as CardeaEvent), 0);
      const conflict = await writer.appendEach(...groups);
      assert.ok(conflict.type === "version-conflict");
      assert.deepEqual(conflict.streams, [
        { stream: "group:g3", actual: 10 },
        { stream: "group:g5", actual: 10 },
      ]);
      const next = await LogWriter.open(newer);
      assert.equal((await writer.appendEach(aSession())).type, "fenced");
      assert.equal((await next.appendEach(aSession(), aSession())).type, "appended");
      await next.beat();
      const read = await newer.read(genesis, 1_000);
      assert.ok(read.type === "page");
      assert.equal(decodeEvents(read.page.entries, genesis).length, 1 + 10 * 60 + 1 + 1 + 2);
    } finally {
      await close();
    }
  });
}

/** Undoes the newest step of a schema: what the build before has. */
function asBefore(schema: string): string {
  const steps = postgresMigrations(schema);
  const functions = steps[0]?.sql.matchAll(/create (function "\w+"\.append\([\s\S]*?end \$\$;)/g) ?? [];
  const [append] = [...functions].map(([, body]) => `create or replace ${body}`);
  assert.ok(append?.includes("with ordinality as e("));
  return `${append} delete from "${schema}".schema_version where version = ${steps.length}`;
}

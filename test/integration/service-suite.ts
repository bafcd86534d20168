/** Service suite: what tests can rely on when they start Postgres and NATS, from local binaries or containers alike. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import pg from "pg";
import type { NatsCluster, NatsOptions, PostgresOptions, PostgresServer } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

export type Starters = Readonly<{
  startPostgres: (options?: PostgresOptions) => Promise<PostgresServer>;
  startNats: (options?: NatsOptions) => Promise<NatsCluster>;
}>;

export function describeServices(name: string, { startPostgres, startNats }: Starters): void {
  describe(name, () => {
    test("Postgres is 15 or newer and has the given settings", async () => {
      await using server = await startPostgres({ settings: { synchronous_commit: "remote_apply" } });
      const [row] = await query(
        server.connectionString(),
        "select current_setting('server_version_num')::int as version, current_setting('synchronous_commit') as setting",
      );
      assert.ok(Number(row?.["version"]) >= 150_000);
      assert.equal(row?.["setting"], "remote_apply");
    });

    test("a killed or restarted Postgres is back at its address with its committed data", async () => {
      await using server = await startPostgres();
      const database = await server.newDatabase();
      await query(database, "create table kept (n int)");
      await query(database, "insert into kept values (1)");
      await server.kill();
      await assert.rejects(query(database, "select 1"));
      await server.start();
      await query(database, "insert into kept values (2)");
      await server.restart();
      assert.deepEqual(await query(database, "select n from kept order by n"), [{ n: 1 }, { n: 2 }]);
    });

    test("a paused Postgres answers no client, not even on open connections, until it resumes", async () => {
      await using server = await startPostgres();
      const client = new pg.Client({ connectionString: server.connectionString() });
      await client.connect();
      await server.pause();
      let answered = false;
      const pending = client.query("select 1").then(() => {
        answered = true;
      });
      await assert.rejects(query(server.connectionString(), "select 1", { connectionTimeoutMillis: 300 }));
      assert.equal(answered, false);
      await server.resume();
      await pending;
      await client.end();
    });

    test("databases of one server do not see each other's tables", async () => {
      await using server = await startPostgres();
      const [one, other] = [await server.newDatabase(), await server.newDatabase()];
      await query(one, "create table mine (n int)");
      await assert.rejects(query(other, "select * from mine"), /does not exist/);
    });

    test("a single NATS server has JetStream, and keeps a stream when it is killed", async () => {
      await using nats = await startNats();
      await publish(nats, { replicas: 1, payload: "before" });
      await nats.kill();
      await nats.start();
      assert.equal(await messagesIn(nats), 1);
    });

    test("three NATS servers keep a replicated stream and accept messages while one of them is down", async () => {
      await using nats = await startNats({ size: 3 });
      await publish(nats, { replicas: 3, payload: "before" });
      await nats.node(0).kill();
      await publish(nats, { replicas: 3, payload: "meanwhile", place: "there" });
      await nats.node(0).start();
      // Right after an election, a server may not have the last message yet.
      await waitFor("both messages", async () => (await messagesIn(nats)) === 2, electionBounds);
    });
  });
}

type Row = Record<string, unknown>;

async function query(connectionString: string, sql: string, options: pg.ClientConfig = {}): Promise<Row[]> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5_000, ...options });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

const stream = "suite";
const electionBounds = { withinMs: 30_000, everyMs: 100 };

/** `place: "there"`: the stream exists already. A cluster that has just lost a server may be unable to place one. */
type Published = Readonly<{ replicas: number; payload: string; place?: "there" }>;

/** Publishes until the server acknowledges it. A cluster that has just lost a server must elect a leader first. */
async function publish(nats: NatsCluster, options: Published): Promise<void> {
  await using connection = await connected(nats);
  await waitFor(
    "an acknowledgement",
    async () => {
      if (options.place !== "there")
        await connection.manager.streams.add({ name: stream, subjects: [stream], num_replicas: options.replicas });
      return jetstream(connection.nc).publish(stream, options.payload, { msgID: options.payload, timeout: 1_000 });
    },
    electionBounds,
  );
}

async function messagesIn(nats: NatsCluster): Promise<number> {
  await using connection = await connected(nats);
  const info = await waitFor("the stream", () => connection.manager.streams.info(stream), electionBounds);
  return info.state.messages;
}

async function connected(nats: NatsCluster) {
  const nc = await connect({ servers: [...nats.urls], timeout: 5_000 });
  const manager = await jetstreamManager(nc, { checkAPI: false, timeout: 1_000 });
  return { nc, manager, [Symbol.asyncDispose]: () => nc.close() };
}

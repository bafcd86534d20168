/** Whether a Postgres log may have lost leases: restarts, crashes, promotions and copies of a real server. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Incarnation } from "../../src/events/index.ts";
import { type EventLog, LogUnavailableError, openPostgresLog } from "../../src/replication/index.ts";
import { anIncarnation, LogWriter, openEpoch } from "../support/log-writer.ts";
import { findPostgresBinaries, startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import { startStandby } from "../support/postgres-standby.ts";
import type { PostgresServer } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";
import { type OwnStore, ownStore } from "./postgres-log-support.ts";

let server: PostgresServer;
let store: OwnStore;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());
beforeEach(async () => {
  store = await ownStore(server);
});
afterEach(() => store.close());

/** @returns why leases may be lost, and the window of the row that stands for them, ms; false: there is none */
async function next(log: EventLog, led: Incarnation | null = null): Promise<readonly [string | null, number | false]> {
  const opened = await waitFor("an epoch", async () => {
    const outcome = await openEpoch(log, { led, windowMaxMs: 60_000 }).catch((error: unknown) => {
      if (error instanceof LogUnavailableError) return undefined; // the server is not back yet
      throw error;
    });
    return outcome?.type === "opened" ? outcome : undefined;
  });
  const held = opened.lessees.find(({ boot }) => boot === `@lost-history.${opened.epoch}`);
  return [opened.beatsLost, held?.windowMs ?? false];
}

test("another broker on the same running server knows that no lease is lost", async () => {
  await LogWriter.open(await store.open());
  assert.deepEqual(await next(await store.open()), [null, false]);
});

test("after a clean restart the broker that led goes on at once, and another one waits", async () => {
  const [log, incarnation] = [await store.open(), anIncarnation()];
  await LogWriter.open(log, { incarnation });
  await server.restart();
  assert.deepEqual(await next(log, incarnation), [null, false]);
  await server.restart();
  const [reason, held] = await next(log, incarnation);
  assert.match(reason ?? "", /did not lead the epoch before/);
  assert.ok(held);
});

test("after a crash of the server every broker waits", async () => {
  const [log, incarnation] = [await store.open(), anIncarnation()];
  await LogWriter.open(log, { incarnation });
  await server.kill();
  await server.start();
  const [reason, held] = await next(log, incarnation);
  assert.match(reason ?? "", /did not shut down cleanly/);
  assert.ok(held);
});

test("rows that were copied into the database prove nothing", async () => {
  const log = await store.open();
  await LogWriter.open(log);
  const epochs = `${store.schema}.log_epoch`;
  await store.sql(`create table ${store.schema}.dump as select * from ${epochs}`);
  await store.sql(`truncate ${epochs}`);
  await store.sql(`insert into ${epochs} select * from ${store.schema}.dump`);
  const [reason, held] = await next(log);
  assert.match(reason ?? "", /copied into this database/);
  assert.ok(held);
});

test("a copy of the whole database on the same running server proves nothing", async () => {
  const original = await store.open();
  await LogWriter.open(original);
  await original.close();
  const name = new URL(store.connectionString).pathname.slice(1);
  await withClient(server.connectionString(), (admin) =>
    // A session that was closed a moment ago may still be there.
    waitFor("the copy", () =>
      admin.query(`create database ${name}_copy template ${name}`).catch((error: unknown) => {
        if (error instanceof Error && "code" in error && error.code === "55006") return undefined;
        throw error;
      }),
    ),
  );
  const copy = await store.open({ connectionString: server.connectionString(`${name}_copy`) });
  const [reason, held] = await next(copy);
  assert.match(reason ?? "", /another Postgres server or database/);
  assert.ok(held);
});

test("an epoch that an older build opened proves nothing", async () => {
  const log = await store.open();
  await LogWriter.open(log);
  const columns = ["pg_system", "pg_start", "pg_xact", "window_max_ms"];
  await store.sql(`update ${store.schema}.log_epoch set ${columns.map((column) => `${column} = null`).join()}`);
  const [reason, held] = await next(log);
  assert.match(reason ?? "", /does not record where the epoch before was opened/);
  assert.equal(held, 960_000, "what it granted is not recorded: the longest that any build grants");
});

test("a session that may commit without waiting for the disk proves nothing to the next epoch", async () => {
  const lax = await store.open({ asynchronousCommit: "accept" });
  await LogWriter.open(lax);
  assert.match((await next(await store.open()))[0] ?? "", /does not record/);
});

test("a server that does not say which system it is proves nothing, and epochs are opened there all the same", async () => {
  const log = await store.open();
  await store.sql(
    `create or replace function ${store.schema}.system_identifier() returns text language sql as 'select null'`,
  );
  await LogWriter.open(log);
  assert.match((await next(log))[0] ?? "", /does not record/);
});

test("a promoted standby is on another timeline at once, before its first checkpoint", {
  skip: findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false,
}, async () => {
  await LogWriter.open(await store.open());
  await using standby = await startStandby(server);
  const [{ lsn } = { lsn: "" }] = await store.sql("select pg_current_wal_lsn()::text as lsn");
  const database = new URL(store.connectionString).pathname.slice(1);
  await waitFor("the standby to have it all", async () => {
    const [row] = await store.sql("select 1 as replayed from pg_stat_replication where replay_lsn >= $1::pg_lsn", [
      lsn,
    ]);
    return row;
  });
  await standby.promote();
  const log = await openPostgresLog({
    ...{ connectionString: standby.connectionString(database), cluster: "test", schema: store.schema },
  });
  try {
    const [reason, held] = await next(log);
    assert.match(reason ?? "", /timeline 00000002, and the epoch before was opened on 00000001/);
    assert.ok(held);
    assert.deepEqual((await next(log))[0], null, "the epoch after that is on the same run");
  } finally {
    await log.close();
  }
});

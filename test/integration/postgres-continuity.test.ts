/**
 * Continuity of a Postgres log: whether leases may be lost, after restarts, crashes, promotions and copies of a real
 * server.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Incarnation } from "../../src/events/index.ts";
import { type EventLog, LogUnavailableError, openPostgresLog } from "../../src/replication/log/index.ts";
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

/**
 * Opens the next epoch. @returns why leases may be lost (null: none are), and the window (ms) of the row for lost
 * leases (false: no row)
 */
async function next(log: EventLog, led: Incarnation | null = null): Promise<readonly [string | null, number | false]> {
  const opened = await waitFor("an epoch", async () => {
    const outcome = await openEpoch(log, { led, windowMaxMs: 60_000 }).catch((error: unknown) => {
      if (error instanceof LogUnavailableError) return undefined; // the server is not up yet
      throw error;
    });
    return outcome?.type === "opened" ? outcome : undefined;
  });
  const lostWindowMs = opened.lessees.find(({ boot }) => boot === `@lost-history.${opened.epoch}`);
  return [opened.beatsLost, lostWindowMs?.windowMs ?? false];
}

test("no lease is lost for another broker on the same running server", async () => {
  await LogWriter.open(await store.open());
  assert.deepEqual(await next(await store.open()), [null, false]);
});

test("after a clean restart of the server, the broker that led before continues at once, and another broker waits", async () => {
  const [log, incarnation] = [await store.open(), anIncarnation()];
  await LogWriter.open(log, { incarnation });
  await server.restart();
  assert.deepEqual(await next(log, incarnation), [null, false]);
  await server.restart();
  const [reason, lostWindowMs] = await next(log, incarnation);
  assert.match(reason ?? "", /did not lead the previous epoch/);
  assert.ok(lostWindowMs);
});

test("after a crash of the server every broker waits", async () => {
  const [log, incarnation] = [await store.open(), anIncarnation()];
  await LogWriter.open(log, { incarnation });
  await server.kill();
  await server.start();
  const [reason, lostWindowMs] = await next(log, incarnation);
  assert.match(reason ?? "", /did not shut down cleanly/);
  assert.ok(lostWindowMs);
});

test("rows copied into the database prove nothing", async () => {
  const log = await store.open();
  await LogWriter.open(log);
  const epochs = `${store.schema}.log_epoch`;
  await store.sql(`create table ${store.schema}.dump as select * from ${epochs}`);
  await store.sql(`truncate ${epochs}`);
  await store.sql(`insert into ${epochs} select * from ${store.schema}.dump`);
  const [reason, lostWindowMs] = await next(log);
  assert.match(reason ?? "", /copied into this database/);
  assert.ok(lostWindowMs);
});

test("a copy of the whole database on the same running server proves nothing", async () => {
  const original = await store.open();
  await LogWriter.open(original);
  await original.close();
  const name = new URL(store.connectionString).pathname.slice(1);
  await withClient(server.connectionString(), (admin) =>
    // A session closed a moment ago may still exist.
    waitFor("the copy", () =>
      admin.query(`create database ${name}_copy template ${name}`).catch((error: unknown) => {
        if (error instanceof Error && "code" in error && error.code === "55006") return undefined;
        throw error;
      }),
    ),
  );
  const copy = await store.open({ connectionString: server.connectionString(`${name}_copy`) });
  const [reason, lostWindowMs] = await next(copy);
  assert.match(reason ?? "", /another Postgres server or database/);
  assert.ok(lostWindowMs);
});

test("an epoch opened by an older build proves nothing", async () => {
  const log = await store.open();
  await LogWriter.open(log);
  const columns = ["pg_system", "pg_start", "pg_xact", "window_max_ms"];
  await store.sql(`update ${store.schema}.log_epoch set ${columns.map((column) => `${column} = null`).join()}`);
  const [reason, lostWindowMs] = await next(log);
  assert.match(reason ?? "", /does not record where the previous epoch was opened/);
  assert.equal(lostWindowMs, 960_000, "without a recorded limit, the longest window of any build applies");
});

test("an epoch opened by a session with asynchronous commits proves nothing to the next one", async () => {
  const lax = await store.open({ asynchronousCommit: "accept" });
  await LogWriter.open(lax);
  assert.match((await next(await store.open()))[0] ?? "", /does not record/);
});

test("a server that hides its system identifier proves nothing, but epochs can still be opened there", async () => {
  const log = await store.open();
  await store.sql(
    `create or replace function ${store.schema}.system_identifier() returns text language sql as 'select null'`,
  );
  await LogWriter.open(log);
  assert.match((await next(log))[0] ?? "", /does not record/);
});

test("a promoted standby is on another timeline at once, even before its first checkpoint", {
  skip: findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false,
}, async () => {
  await LogWriter.open(await store.open());
  await using standby = await startStandby(server);
  const [{ lsn } = { lsn: "" }] = await store.sql("select pg_current_wal_lsn()::text as lsn");
  const database = new URL(store.connectionString).pathname.slice(1);
  await waitFor("the standby to have replayed everything", async () => {
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
    const [reason, lostWindowMs] = await next(log);
    assert.match(reason ?? "", /timeline 00000002, and the previous epoch was opened on 00000001/);
    assert.ok(lostWindowMs);
    assert.deepEqual((await next(log))[0], null, "the next epoch is in the same run of the server");
  } finally {
    await log.close();
  }
});

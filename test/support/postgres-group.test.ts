/** A group of Postgres servers whose primary something else has replaced. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { findPostgresBinaries } from "./postgres.ts";
import { withClient } from "./postgres-client.ts";
import { startPostgresGroup } from "./postgres-group.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;

test("an old primary comes back as a standby of the new one, there and back again", {
  skip,
  timeout: 120_000,
}, async () => {
  await using group = await startPostgresGroup({ synchrony: "quorum" });
  const [first] = group.standbys;
  await group.sql("create table kept (n int)");
  await group.sql("insert into kept values (1)");
  await first?.promote();
  await group.adopt("pg_2");
  await group.rejoin();
  await group.attachStandbys();
  await group.sql("insert into kept values (2)");
  assert.equal(group.primary().port, first?.port);

  const [old] = group.servers;
  assert.ok(old !== undefined);
  await group.replicated();
  await withClient(old.connectionString(), (client) => client.query("select pg_promote(true, 30)"));
  await group.adopt("pg_1");
  await group.rejoin();
  await group.attachStandbys();
  assert.equal(group.primary().port, old.port);
  assert.deepEqual(
    (await group.sql("select n from kept order by n")).map((row) => row["n"]),
    [1, 2],
  );
  const streaming = await group.sql("select application_name from pg_stat_replication order by 1");
  assert.deepEqual(
    streaming.map((row) => row["application_name"]),
    ["pg_2", "pg_3"],
  );
});

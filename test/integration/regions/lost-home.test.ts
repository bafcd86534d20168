/**
 * The home region is lost with its Postgres, broker and NATS hub. The us become the home region by one command. Then
 * the east comes back: its old primary is found, named and fenced, and its broker serves its region.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import { waitFor } from "../../support/wait-for.ts";
import { runCardea, type Session } from "../cluster/cluster.ts";
import { type RegionName, regionNames } from "./leaf-chain.ts";
import { startThreeRegions, type ThreeRegions } from "./three-regions.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let regions: ThreeRegions;
let early: Session;

before(
  async () => {
    if (skip === false) regions = await startThreeRegions("short");
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const statusOf = (region: RegionName) => regions.client(region, "operator").status();

test("a lost home: the us lead after one command, and the ap follow", {
  skip,
  timeout: 300_000,
}, async () => {
  early = await regions.session("east", "alice");
  for (const name of regionNames) assert.equal((await regions.get(name, "app", early)).permitted, true, name);
  const east = regions.of("east");
  await Promise.all([east.postgres.kill(), east.broker.kill(), east.nats.kill()]);
  const { configFile } = regions.of("us").broker;
  const unnamed = await runCardea(["region", "move-home", "us", "-c", configFile]);
  assert.equal(unnamed.code, 1, unnamed.out + unnamed.err);
  assert.match(unnamed.err, /not moved: .*--old-primary/);
  const moved = await runCardea(["region", "move-home", "us", "-c", configFile, "--old-primary", "pg_1"]);
  assert.equal(moved.code, 0, moved.out + moved.err);
  assert.match(moved.out, /the home region is lost/);
  for (const name of ["us", "ap"] as const) {
    await waitFor("the leader to be known", async () => (await statusOf(name)).leader?.brokerId === "broker-us", {
      withinMs: 60_000,
    });
    assert.equal(
      (await regions.get(name, "app", early)).permitted,
      true,
      "a session that was acknowledged before the loss",
    );
  }
  const later = await regions.session("ap", "bob");
  for (const name of ["us", "ap"] as const) assert.equal((await regions.get(name, "app", later)).permitted, true, name);
});

test("the east comes back: its broker serves its region and names the old primary, which the next run fences", {
  skip,
  timeout: 300_000,
}, async () => {
  const east = regions.of("east");
  await Promise.all([east.postgres.start(), east.nats.start()]);
  await east.broker.start();
  await waitFor("the broker to serve its region", async () => (await statusOf("east")).broker.store === "region", {
    withinMs: 60_000,
  });
  await waitFor("the old primary to be named", async () => /rivals the newest log/.test(east.broker.log()), {
    withinMs: 60_000,
  });
  const verified = await runCardea(["log", "verify", "-c", east.broker.configFile]);
  assert.equal(verified.code, 1, verified.err);
  assert.match(verified.err, new RegExp(`rival: 127.0.0.1:${east.postgres.port} acts as a primary`));
  const again = await runCardea(["region", "move-home", "us", "-c", east.broker.configFile]);
  assert.equal(again.code, 0, again.out + again.err);
  assert.match(again.err, /is an old primary.*it refuses writes/);
  const database = new URL(east.postgres.connectionString()).pathname.slice(1);
  const shown = await withClient(
    east.postgres.connectionString(database),
    async (client) => (await client.query("show default_transaction_read_only")).rows[0],
  );
  assert.equal(shown.default_transaction_read_only, "on");
  assert.equal((await runCardea(["log", "verify", "-c", east.broker.configFile])).code, 0);
  const session = await regions.session("east", "dora");
  for (const name of regionNames)
    await waitFor(`the ${name} to permit`, async () => (await regions.get(name, "app", session)).permitted, {
      withinMs: 60_000,
    });
});

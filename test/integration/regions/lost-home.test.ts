/**
 * The home region is lost with its Postgres, broker and NATS hub. The us, which have revoked a session by themselves
 * meanwhile, become the home region by one command, and the log has that revocation. Then the east comes back: its old
 * primary is found, named and fenced, and its broker serves its region. The same holds when it comes back with a
 * configuration from before broker.homes.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { type CommandId, parseCommandId, parseSessionId } from "../../../src/events/index.ts";
import type { LocalResult } from "../../../src/replication/index.ts";
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
    if (skip === false) regions = await startThreeRegions("default");
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const statusOf = (region: RegionName) => regions.client(region, "operator").status();

/** The us accept it by themselves: their home region is out of reach, and their broker still holds a lease. */
async function revokeInUs({ id }: Session): Promise<CommandId> {
  const commandId = parseCommandId(randomUUID());
  const command = { type: "revokeSession", sessionId: parseSessionId(id), reason: "operator" } as const;
  const request = { commandId, actor: "operator:alice", command };
  let last: LocalResult | undefined;
  await waitFor(
    "the us to accept the revocation",
    async () => {
      last = await regions.client("us", "operator").revokeLocally(request);
      return last.type === "local";
    },
    { withinMs: 50_000 },
  ).catch((error: unknown) => assert.fail(`${error}: ${JSON.stringify(last)}`));
  return commandId;
}

test("a lost home: the us lead after one command, record what they had revoked by themselves, and the ap follow", {
  skip,
  timeout: 300_000,
}, async () => {
  early = await regions.session("east", "alice");
  const stolen = await regions.session("east", "mallory");
  for (const session of [early, stolen])
    for (const name of regionNames) assert.equal((await regions.get(name, "app", session)).permitted, true, name);
  const east = regions.of("east");
  await Promise.all([east.postgres.kill(), east.broker.kill(), east.nats.kill()]);
  const commandId = await revokeInUs(stolen);
  const { configFile } = regions.of("us").broker;
  const moved = await runCardea(["region", "move-home", "us", "-c", configFile]);
  assert.equal(moved.code, 0, moved.out + moved.err);
  assert.match(moved.err, /: the old primary \(pg_1\): every standby that answers received from it last/);
  assert.match(moved.out, /the home region is lost/);
  assert.match(moved.out, /warning: us has revocations of its own that the log does not have yet \(1\)/);
  assert.doesNotMatch(moved.err, /are not in the log yet/);
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
  const { link } = await regions
    .client("ap", "operator")
    .receipt({ type: "command", commandId }, { wait: "none", timeoutMs: 0 });
  assert.ok(link !== null, "the log has the revocation under its command id");
  for (const name of ["us", "ap"] as const)
    await waitFor(`the ${name} to deny it`, async () => !(await regions.get(name, "app", stolen)).permitted, {
      withinMs: 60_000,
    });
  const later = await regions.session("ap", "bob");
  for (const name of ["us", "ap"] as const) assert.equal((await regions.get(name, "app", later)).permitted, true, name);
});

const readOnlyInEast = async (): Promise<string> => {
  const { postgres } = regions.of("east");
  const shown = await withClient(
    postgres.connectionString(),
    async (client) => (await client.query("show default_transaction_read_only")).rows[0],
  );
  return String(shown.default_transaction_read_only);
};

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
  assert.equal(await readOnlyInEast(), "on");
  assert.equal((await runCardea(["log", "verify", "-c", east.broker.configFile])).code, 0);
  const session = await regions.session("east", "dora");
  for (const name of regionNames)
    await waitFor(`the ${name} to permit`, async () => (await regions.get(name, "app", session)).permitted, {
      withinMs: 60_000,
    });
});

/** The broker of the east leads by itself as in a cluster of one region, and knows no server but its own. */
function staleConfigOf(text: string): string {
  const config = JSON.parse(text) as { broker: object; databroker_storage_connection_string: string };
  const all = config.databroker_storage_connection_string;
  const { postgres } = regions.of("east");
  return JSON.stringify({
    ...config,
    broker: { ...config.broker, homes: undefined },
    databroker_storage_connection_string: postgres.connectionString(all.slice(all.lastIndexOf("/") + 1)),
  });
}

test("the east comes back with stale files: its broker decides nothing for those who know it, and its primary is fenced", {
  skip,
  timeout: 400_000,
}, async () => {
  const east = regions.of("east");
  const session = await regions.session("ap", "zoe");
  for (const name of regionNames) assert.equal((await regions.get(name, "app", session)).permitted, true, name);
  await east.broker.kill();
  const current = readFileSync(east.broker.configFile, "utf8");
  writeFileSync(east.broker.configFile, staleConfigOf(current));
  await withClient(east.postgres.connectionString(), async (client) => {
    await client.query("alter system reset default_transaction_read_only");
  });
  await east.postgres.restart();
  assert.equal(await readOnlyInEast(), "off");
  await east.broker.launch();
  await waitFor("the stale broker to contend", async () => (await statusOf("east")).broker.store === "postgres", {
    withinMs: 120_000,
  });
  // Its own clients ask it for a session and for leases all the time.
  const eve = regions.session("east", "eve").then(
    () => "accepted",
    () => "refused",
  );
  const commandId = parseCommandId(randomUUID());
  const command = { type: "revokeSession", sessionId: parseSessionId(session.id), reason: "operator" } as const;
  const operator = regions.client("ap", "operator");
  assert.equal((await operator.submit({ commandId, actor: "operator:alice", command })).type, "done");
  const receipt = () => operator.receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 60_000 });
  await waitFor("a complete receipt", async () => (await receipt()).complete, { withinMs: 240_000 });
  for (const each of [session, early])
    assert.equal((await regions.getNow("east", "app", each)).permitted, false, "its window has passed");
  const { broker, leader } = await statusOf("east");
  assert.deepEqual([broker.leading, leader], [false, null]);
  assert.equal(await eve, "refused");

  // Elsewhere the stale broker, whose address is in broker.homes, is no obstacle.
  const later = await regions.session("ap", "frank");
  for (const name of ["us", "ap"] as const) {
    assert.equal((await regions.get(name, "app", later)).permitted, true, name);
    assert.equal((await statusOf(name)).leader?.brokerId, "broker-us");
  }
  const { configFile } = regions.of("us").broker;
  const address = `127\\.0\\.0\\.1:${east.postgres.port}`;
  const verified = await runCardea(["log", "verify", "-c", configFile]);
  assert.equal(verified.code, 1, verified.err);
  assert.match(verified.err, new RegExp(`rival: ${address} acts as a primary`));
  const again = await runCardea(["region", "move-home", "us", "-c", configFile, "--timeout", "5s"]);
  assert.match(again.err, new RegExp(`${address} is an old primary.*it refuses writes`));
  assert.match(again.err, /left to do: \S+ of east still contends for the lead: .* or has no broker\.homes/);
  assert.equal(await readOnlyInEast(), "on");
  assert.equal((await statusOf("east")).broker.leading, false);
  assert.equal((await regions.getNow("east", "app", session)).permitted, false);

  await east.broker.kill();
  writeFileSync(east.broker.configFile, current);
  await east.broker.start();
  await waitFor("the east to permit", async () => (await regions.get("east", "app", later)).permitted, {
    withinMs: 120_000,
  });
  assert.equal((await regions.get("east", "app", session)).permitted, false);
});

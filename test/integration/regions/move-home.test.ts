/**
 * The home region moves from the east to the us by one command while people work: the leader, the Postgres primary, the
 * brokers of every region follow, and no file is edited.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { parseCommandId, parseSessionId } from "../../../src/events/index.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
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

async function leaderSeenBy(region: RegionName): Promise<string | null> {
  return (await regions.client(region, "operator").status()).leader?.brokerId ?? null;
}
async function partOf(region: RegionName): Promise<string> {
  return (await regions.client(region, "operator").status()).broker.store;
}

test("one configuration for all regions: the broker beside the primary leads, the others serve their regions", {
  skip,
}, async () => {
  for (const name of regionNames)
    await waitFor("the leader to be known", async () => (await leaderSeenBy(name)) === "broker-east", {
      withinMs: 60_000,
    });
  assert.deepEqual(await Promise.all(regionNames.map(partOf)), ["postgres", "region", "region"]);
  early = await regions.session("ap", "alice");
  for (const name of regionNames) assert.equal((await regions.get(name, "app", early)).permitted, true, name);
});

test("a planned move: the us lead, every region takes changes again, and the east serves its region", {
  skip,
  timeout: 240_000,
}, async () => {
  const { configFile } = regions.of("ap").broker;
  const moved = await runCardea(["region", "move-home", "us", "-c", configFile]);
  assert.equal(moved.code, 0, moved.out + moved.err);
  assert.match(moved.out, /a planned move of the home region to us/);
  assert.match(moved.out, /us is the home region: \S+ is the primary, \S+ leads epoch \d+/);
  assert.match(moved.out, /no change was accepted for \d+\.\d s/);
  assert.match(moved.err, /is an old primary.*; it refuses writes/);
  assert.match(moved.err, /NATS: the replay buffer is in the domain us/);
  assert.match(moved.err, /NATS: mirrors in (east, ap|ap, east)/);
  for (const name of regionNames)
    await waitFor("the leader to be known", async () => (await leaderSeenBy(name)) === "broker-us", {
      withinMs: 60_000,
    });
  assert.deepEqual(await Promise.all(regionNames.map(partOf)), ["region", "postgres", "region"]);
  for (const name of regionNames)
    assert.equal((await regions.get(name, "app", early)).permitted, true, "a session from before the move");
  for (const from of regionNames) {
    const session = await regions.session(from, `after-${from}`);
    for (const name of regionNames)
      assert.equal((await regions.get(name, "app", session)).permitted, true, `${from} to ${name}`);
  }
});

test("no broker counts as absent after it has changed its part: its goodbye reaches the new leader", {
  skip,
}, async () => {
  await waitFor(
    "the former regional broker of the us to be no node any more",
    async () => {
      const { absent, nodes } = await regions.client("us", "operator").status();
      return [...(absent ?? []), ...nodes].every(({ node }) => node !== "broker-us");
    },
    { withinMs: 60_000 },
  );
});

test("a revocation by a former home reaches every region", { skip, timeout: 120_000 }, async () => {
  const session = await regions.session("east", "carol");
  for (const name of regionNames) assert.equal((await regions.get(name, "app", session)).permitted, true, name);
  const { receiptFor } = await revoke("east", session);
  const receipt = await receiptFor();
  assert.equal(receipt.complete, true, JSON.stringify(receipt.nodes));
  for (const name of regionNames) assert.equal((await regions.get(name, "app", session)).permitted, false, name);
});

async function revoke(region: RegionName, session: Session) {
  const client = regions.client(region, "operator");
  const commandId = parseCommandId(randomUUID());
  const command = { type: "revokeSession", sessionId: parseSessionId(session.id), reason: "operator" } as const;
  const result = await client.submit({ commandId, actor: "operator:test", command });
  assert.equal(result.type, "done", JSON.stringify(result));
  return { receiptFor: () => client.receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 60_000 }) };
}

test("the command again changes nothing and says that all is in place", { skip, timeout: 120_000 }, async () => {
  const again = await runCardea(["region", "move-home", "us", "-c", regions.of("east").broker.configFile]);
  assert.equal(again.code, 0, again.out + again.err);
  for (const step of ["fence", "open", "follow"]) assert.match(again.out, new RegExp(`${step} \\(done\\)`));
  assert.doesNotMatch(again.err, /has no mirror/, again.err);
  assert.equal((await regions.get("us", "app", early)).permitted, true);
});

test("without the NATS of the new home region, the command says so, and every region still takes and enforces changes", {
  skip,
  timeout: 180_000,
}, async () => {
  const us = regions.of("us");
  await us.nats.kill();
  const again = await runCardea(["region", "move-home", "us", "-c", us.broker.configFile, "--timeout", "10s"]);
  assert.equal(again.code, 0, again.out + again.err);
  assert.match(again.err, /left to do: NATS does not show the replay buffer in the domain us \(/);
  const session = await regions.session("ap", "nora");
  for (const name of regionNames) assert.equal((await regions.get(name, "app", session)).permitted, true, name);
  const { receiptFor } = await revoke("us", session);
  assert.equal((await receiptFor()).complete, true);
  for (const name of regionNames) assert.equal((await regions.get(name, "app", session)).permitted, false, name);
});

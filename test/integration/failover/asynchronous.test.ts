/**
 * Failover to an asynchronous standby that lacks the newest events.
 *
 * - The loss is detected and logged.
 * - No node that had applied a lost revocation undoes it, and the log records the revocation again.
 * - Lost events are never confused with the new events at the same positions.
 */
import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import { after, before, test } from "node:test";
import {
  decodeEvents,
  genesis,
  type Recorded,
  type SessionId,
  sessionStream,
  userStream,
  uuidOfHash,
} from "../../../src/events/index.ts";
import { statementIn } from "../../../src/replication/wire/index.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "../cluster/cluster.ts";
import { waitForLogDigest } from "../cluster/digests.ts";
import { groupOf, logAt } from "./failover-support.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let cluster: Cluster;

before(
  async () => {
    if (skip !== false) return;
    cluster = await startCluster({
      timing: "short",
      regions: ["north", "south"],
      postgres: () => startPostgresGroup({ synchrony: "asynchronous" }),
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

test("events that no standby had are lost: revocations among them stay in force, sessions among them end, and old receipts say lost", {
  skip,
  timeout: 400_000,
}, async (t) => {
  const group = groupOf(cluster);
  const permittedAt = async (session: Parameters<Cluster["get"]>[2]): Promise<boolean[]> =>
    Promise.all(cluster.proxies.map(async (proxy) => (await cluster.get(proxy, "app", session)).permitted));
  const [unaffected, early, late] = [
    await cluster.session("alice"),
    await cluster.session("bob"),
    await cluster.session("carol"),
  ];
  await cluster.operator.revoke(early, { wait: "all" });
  await group.replicated();

  await group.detachStandbys();
  const revoked = await cluster.operator.revoke(late, { wait: "all" });
  assert.equal(revoked.receipt?.complete, true, "the revocation is acknowledged and enforced everywhere");
  assert.equal(
    statementIn(revoked.receipt.signed ?? "")?.durability,
    "asynchronous",
    "the receipt says that the revocation may be lost",
  );
  assert.match((await cluster.cardea("cluster", "status")).out, /durability asynchronous\n/);
  const suspended = await cluster.session("frank");
  assert.equal((await cluster.operator.post(`/users/${suspended.userId}/suspend`, { wait: "all" })).status, 200);
  const lostSession = await cluster.session("dave");
  await waitFor("the session to work everywhere", async () => (await permittedAt(lostSession)).every(Boolean));
  const joined = await cluster.operator.post("/groups/ops/members", { add: [unaffected.userId], wait: "all" });
  assert.equal(joined.status, 200, joined.body);
  assert.deepEqual(await permittedAt(late), [false, false]);
  const epochBefore = (await cluster.status()).leader?.epoch ?? 0;

  await group.kill();
  const { promotedAt } = await group.failOver();
  const first = await waitFor("a session to be created", () => cluster.session("erin"), { withinMs: 60_000 });
  t.diagnostic(`from the promotion to the next change acknowledged: ${Math.round(performance.now() - promotedAt)} ms`);
  assert.ok(first.link.epoch > epochBefore, "the new epoch is above all earlier ones");

  await waitFor(
    "the surviving session to be permitted everywhere",
    async () => (await permittedAt(unaffected)).every(Boolean),
    {
      withinMs: 30_000,
    },
  );
  assert.deepEqual(await permittedAt(early), [false, false], "a revocation that was not lost");
  assert.deepEqual(await permittedAt(late), [false, false], "a revocation that was lost");
  assert.deepEqual(await permittedAt(lostSession), [false, false], "a session that was lost");

  for (const proxy of cluster.proxies) {
    const lostLines = proxy.log().match(/.*the log has lost changes that this node had applied.*/g) ?? [];
    assert.equal(lostLines.length, 1, `${proxy.name} logs the lost changes once`);
    for (const stream of ["group:ops", userStream(suspended.userId), sessionStream(lostSession.id as SessionId)])
      assert.ok(lostLines[0]?.includes(JSON.stringify(stream)), `${stream} is not named: ${lostLines[0]}`);
  }

  // The nodes return the lost revocations that they had applied, and the log records each once, for newcomers as well.
  const reassertedEvents = await waitFor("the lost revocations to be in the log again", async () => {
    const events = await readReasserted(cluster);
    return events.length >= 3 ? events : undefined;
  });
  assert.deepEqual(
    reassertedEvents.map(({ event, stream }) => [event.type, stream]).sort(),
    [
      ["SessionRevoked", sessionStream(late.id as SessionId)],
      ["SessionRevoked", sessionStream(suspended.id as SessionId)], // lost with the suspension
      ["UserSuspended", userStream(suspended.userId)],
    ].sort(),
    "each revocation is recorded once, though every node returned it",
  );
  const lateReasserted = reassertedEvents.find(({ stream }) => stream === sessionStream(late.id as SessionId));
  assert.equal(lateReasserted?.cause, uuidOfHash(revoked.link.hash), "its cause is derived from the lost link");
  const newcomer = cluster.proxy(2);
  await newcomer.kill();
  rmSync(newcomer.dataDir, { recursive: true, force: true });
  mkdirSync(newcomer.dataDir, { mode: 0o700 });
  await newcomer.start();
  assert.equal(await newcomer.metric("cardea_replica_rebuilds"), 0, "the newcomer has never held the lost events");
  assert.deepEqual(await permittedAt(late), [false, false], "the revocation also holds for a node that never held it");
  for (const proxy of cluster.proxies) {
    await waitFor(
      "the node to have returned every lost revocation",
      async () => (await proxy.metric("cardea_replica_reasserting")) === 0 || undefined,
    );
  }
  assert.equal((await readReasserted(cluster)).length, 3);

  // Positions repeat; their links differ.
  while ((await cluster.session("filler")).link.position < lostSession.link.position + 3);
  await logAt(cluster, group.primary(), async (log) => {
    const current = await log.linkAt(revoked.link.position);
    assert.ok(current !== undefined && current.hash !== revoked.link.hash, "another event is at that position now");
  });
  for (const target of [revoked.link, revoked.commandId, lostSession.link]) {
    const receipt = await cluster.operator.receipt(target);
    assert.deepEqual([receipt.status, receipt.complete], ["lost", false]);
  }
  for (const proxy of cluster.proxies) {
    const answer = await cluster.get(proxy, "app", lostSession);
    assert.equal(answer.permitted, false);
    assert.ok(answer.status !== 200, `${answer.status}`);
  }
  const rebuilds = await cluster.proxy(1).metric("cardea_replica_rebuilds");
  assert.ok(rebuilds > 0, "a node that had applied the lost events has rebuilt");

  assert.deepEqual(await permittedAt(unaffected), [true, true]);
  await waitForLogDigest(cluster);
});

/** The events on the current primary that nodes have reasserted. */
async function readReasserted(cluster: Cluster): Promise<Recorded[]> {
  return logAt(cluster, groupOf(cluster).primary(), async (log) => {
    const page = await log.read(genesis, 10_000);
    if (page.type !== "page") throw new Error(`the log cannot be read: ${page.type}`);
    const all = [...decodeEvents(page.page.entries, genesis)];
    return all.filter(({ event }) => "reason" in event && event.reason === "reasserted");
  });
}

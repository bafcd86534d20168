/**
 * Replacement of a Postgres primary with a quorum of standbys, as an operator must do it, under a cluster of real
 * processes and load.
 *
 * The old primary stays alive, reachable and writable. No acknowledged change is lost, no session ends, and nothing
 * that the old primary answers afterwards is accepted.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { statementIn } from "../../../src/replication/wire/index.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "../cluster/cluster.ts";
import { waitForLogDigest } from "../cluster/digests.ts";
import { assertNeverSignedOut, groupOf, hammerAll, logAt, sqlAt, startWriting } from "./failover-support.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let cluster: Cluster;

before(
  async () => {
    if (skip !== false) return;
    cluster = await startCluster({
      timing: "default",
      regions: ["north", "south"],
      postgres: () => startPostgresGroup({ synchrony: "quorum" }),
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

test("after a primary that keeps running is replaced, acknowledged changes and sessions last, and the old primary is ignored", {
  skip,
  timeout: 400_000,
}, async (t) => {
  const group = groupOf(cluster);
  const [unaffected, revoked, pending] = [
    await cluster.session("alice"),
    await cluster.session("bob"),
    await cluster.session("carol"),
  ];
  const change = await cluster.operator.revoke(revoked, { wait: "all" });
  assert.equal(change.receipt?.complete, true);
  assert.equal(statementIn(change.receipt.signed ?? "")?.durability, "synchronous");
  assert.match((await cluster.cardea("cluster", "status")).out, /durability synchronous\n/);
  const epochBefore = (await cluster.status()).leader?.epoch ?? 0;
  const hammering = hammerAll(cluster, unaffected);
  t.after(() => hammering.stop());
  const writing = startWriting(cluster, unaffected.userId);
  t.after(() => writing.stop());
  await waitFor("some changes", () => writing.done() > 20);

  // The failover, and a revocation submitted in the middle of it.
  const failing = group.failOver();
  const revoking = cluster.operator.revoke(pending, { wait: "all" });
  const { oldPrimary: zombie, promotedAt } = await failing;
  const firstAfter = await waitFor(
    "changes to be acknowledged again",
    () => writing.written.find(({ startedAt, result }) => startedAt > promotedAt && result.type === "done"),
    { withinMs: 60_000 },
  );
  t.diagnostic(`from the promotion to the next change acknowledged: ${Math.round(firstAfter.endedAt - promotedAt)} ms`);
  const revocation = await revoking.catch(() => undefined);
  const completed = revocation ?? (await cluster.operator.revoke(pending, { wait: "all" }));
  // Nodes that the lost history may have known are awaited for the longest window, which no single answer waits for.
  await waitFor(
    "the receipt to be complete",
    async () => (await cluster.operator.receipt(completed.commandId)).complete,
    { withinMs: 120_000 },
  );
  const written = await writing.stop();
  const shots = await hammering.stop();

  assertNeverSignedOut(cluster, shots);
  const strict = shots.filter(({ name, permitted }) => /strict/.test(name) && !permitted).length;
  t.diagnostic(`${shots.length} requests; ${strict} found no lease on the route that denies without one`);

  // A new epoch, on the new timeline, after every acknowledged change.
  const { leader } = await cluster.status();
  assert.ok(leader !== null && leader.epoch > epochBefore);
  const epochs = await sqlAt(
    cluster,
    group.primary(),
    "select epoch, start_pos, pg_timeline from cardea.log_epoch order by epoch",
  );
  assert.equal(epochs.at(-1)?.["pg_timeline"], "00000002");
  const done = written.filter(({ result }) => result.type === "done");
  t.diagnostic(
    `${done.length} changes acknowledged, ${written.length - done.length} without a definite answer in time`,
  );
  await logAt(cluster, group.primary(), async (log) => {
    for (const { result } of done) {
      if (result.type === "done") assert.deepEqual(await log.linkAt(result.link.position), result.link);
    }
    assert.deepEqual(await log.linkAt(change.link.position), change.link);
  });

  // No node held an event that the new primary lacks, so none had to rebuild.
  for (const node of [cluster.authenticate, ...cluster.proxies]) {
    assert.equal(await node.metric("cardea_replica_rebuilds"), 0, node.name);
  }
  for (const proxy of cluster.proxies) {
    for (const session of [revoked, pending]) assert.equal((await cluster.get(proxy, "app", session)).permitted, false);
    assert.equal((await cluster.get(proxy, "app", unaffected)).permitted, true);
  }

  // Cancels the waits on the old primary, which makes their commits visible there.
  const ended = await sqlAt(
    cluster,
    zombie,
    "select count(pg_cancel_backend(pid))::int as n from pg_stat_activity where wait_event = 'SyncRep'",
  );
  t.diagnostic(`${ended[0]?.["n"]} commits were waiting on the old primary`);
  const [head] = await sqlAt(
    cluster,
    zombie,
    "select epoch::int as epoch, durable_pos::int as durable from cardea.log_head",
  );
  const [primaryHead] = await sqlAt(
    cluster,
    group.primary(),
    "select durable_pos::int as durable from cardea.log_head",
  );
  assert.ok(
    Number(head?.["durable"]) < Number(primaryHead?.["durable"]),
    "the durable position of the old primary no longer moves",
  );

  // The leader dies while the old primary is first in every connection string; the next leader uses the right server.
  const [leading, standby] = [await cluster.leader(), await cluster.follower()];
  await leading.kill();
  const killedAt = performance.now();
  const session = await cluster.session("dave");
  t.diagnostic(
    `from the kill of the leader to the next change acknowledged: ${Math.round(performance.now() - killedAt)} ms`,
  );
  assert.equal((await cluster.leader()).name, standby.name);
  await logAt(cluster, group.primary(), async (log) =>
    assert.deepEqual(await log.linkAt(session.link.position), session.link),
  );
  await leading.start();
  await waitFor(
    "a restarted broker to follow the right log",
    async () => {
      const first = await cluster.session("erin");
      return logAt(
        cluster,
        group.primary(),
        async (log) => (await log.linkAt(first.link.position))?.hash === first.link.hash,
      );
    },
    { withinMs: 30_000 },
  );
  assert.equal(
    (await cluster.status()).leader?.brokerId,
    standby.name,
    "a broker started beside the old primary does not lead",
  );

  await zombie.kill();
  await waitForLogDigest(cluster);
});

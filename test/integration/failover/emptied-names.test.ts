/**
 * `synchronous_standby_names` is emptied while a revocation waits for its standbys, as a cluster manager that is not
 * strict does, under a cluster of real processes.
 *
 * Postgres answers the commit as if a standby had it. The receipt says asynchronous, and after a failover the
 * revocation is lost. A revocation whose receipt says synchronous is not lost.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Receipt } from "../../../src/replication/index.ts";
import { statementIn } from "../../../src/replication/wire/index.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "../cluster/cluster.ts";
import { groupOf, logAt } from "./failover-support.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let cluster: Cluster;

before(
  async () => {
    if (skip !== false) return;
    cluster = await startCluster({
      timing: "short",
      regions: ["north", "south"],
      postgres: () => startPostgresGroup({ synchrony: "quorum" }),
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const durabilityIn = (receipt: Receipt | null | undefined) => statementIn(receipt?.signed ?? "")?.durability;

test("a revocation released by emptied standby names is complete and asynchronous, and lost after a failover; a synchronous one survives", {
  skip,
  timeout: 400_000,
}, async () => {
  const group = groupOf(cluster);
  const [names] = await group.sql("show synchronous_standby_names");
  const setNames = async (value: string): Promise<void> => {
    await group.sql(`alter system set synchronous_standby_names = '${value}'`);
    await group.sql("select pg_reload_conf()");
  };
  const [early, late] = [await cluster.session("alice"), await cluster.session("bob")];
  const synchronous = await cluster.operator.revoke(early, { wait: "all" });
  assert.equal(synchronous.receipt?.complete, true);
  assert.equal(durabilityIn(synchronous.receipt), "synchronous");

  await group.detachStandbys();
  const revoking = cluster.operator.revoke(late, { wait: "all" });
  await waitFor("a commit to wait for a standby", async () => {
    const rows = await group.sql("select 1 from pg_stat_activity where wait_event = 'SyncRep'");
    return rows.length > 0;
  });
  await setNames("");
  const released = await revoking;
  const receipt = await waitFor("the receipt to be complete", async () => {
    const latest = await cluster.operator.receipt(released.link, { wait: "all" });
    return latest.complete ? latest : undefined;
  });
  assert.equal(durabilityIn(receipt), "asynchronous");
  assert.notEqual(durabilityIn(released.receipt), "synchronous");
  assert.equal(
    durabilityIn(await cluster.operator.receipt(synchronous.link)),
    "asynchronous",
    "without standbys nothing proves that the earlier revocation is durable",
  );
  assert.match((await cluster.cardea("cluster", "status")).out, /durability asynchronous\n/);
  const leader = await cluster.leader();
  assert.match(leader.log(), /commits no longer wait for a synchronous standby/);
  assert.equal(await leader.metric("cardea_broker_commits_wait"), 0);

  // The names are restored, so the operator who promotes a standby sees no trace of the change.
  await setNames(String(names?.["synchronous_standby_names"]));
  await group.kill();
  await group.failOver();
  await waitFor("a session to be created", () => cluster.session("carol"), { withinMs: 60_000 });
  await logAt(cluster, group.primary(), async (log) => {
    assert.deepEqual(
      await log.linkAt(synchronous.link.position),
      synchronous.link,
      "the synchronous revocation is in the log",
    );
    assert.notDeepEqual(
      await log.linkAt(released.link.position),
      released.link,
      "the released revocation is not in the log",
    );
  });
  assert.equal((await cluster.operator.receipt(released.link)).status, "lost");
  await waitFor("the standbys of the new primary to hold the surviving revocation", async () => {
    const latest = await cluster.operator.receipt(synchronous.link);
    return durabilityIn(latest) === "synchronous";
  });
});

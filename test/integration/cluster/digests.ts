/** Digest checks: wait until the projections of a cluster agree with the log, or with the leader. */
import assert from "node:assert/strict";
import { decodeEvents, Projection } from "../../../src/events/index.ts";
import { openPostgresLog } from "../../../src/replication/log/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { Cluster } from "./cluster.ts";

const pageEvents = 1_000;

/** The projection that the test folds from the log in Postgres, from the first event. */
export async function foldLog({ setup }: Cluster): Promise<Projection> {
  const log = await openPostgresLog({ connectionString: setup.postgres, cluster: setup.clusterName });
  try {
    const projection = new Projection();
    for (;;) {
      const outcome = await log.read(projection.applied, pageEvents);
      assert.equal(outcome.type, "page");
      if (outcome.type !== "page" || outcome.page.entries.length === 0) return projection;
      for (const recorded of decodeEvents(outcome.page.entries, projection.applied)) projection.apply(recorded);
    }
  } finally {
    await log.close();
  }
}

/** Waits until the leader and all nodes have applied the head, each with the digest that the log folds to. */
export async function waitForLogDigest(cluster: Cluster): Promise<void> {
  const names = [cluster.authenticate, ...cluster.proxies].map(({ name }) => name);
  await waitFor(
    "every projection to match the digest of the log",
    async () => {
      const { leader, nodes } = await cluster.status();
      assert.ok(
        nodes.every((node) => !node.digestMismatch),
        "a node's projection differs from the leader's",
      );
      const settled =
        leader !== null &&
        names.every((name) => nodes.some((node) => node.node === name && node.applied?.hash === leader.head.hash));
      if (!settled) return false;
      const expected = await foldLog(cluster);
      if (expected.applied.hash !== leader.head.hash) return false; // another event was appended meanwhile
      assert.equal(leader.digest, expected.digest(), "the leader's state");
      const current = nodes.filter((node) => node.applied?.hash === leader.head.hash);
      return names.every((name) => current.some((node) => node.node === name && node.digest === expected.digest()));
    },
    { withinMs: 30_000, everyMs: 100 },
  );
  await waitFor("cardea cluster status to show no mismatch", async () => {
    const status = await cluster.cardea("cluster", "status");
    assert.equal(status.code, 0, `${status.out}${status.err}`);
    assert.doesNotMatch(status.out, /MISMATCH/);
    return true;
  });
}

/** Waits until at least `nodesMin` nodes have applied the head, and all of them have the leader's digest. */
export async function waitForOneDigest(cluster: Cluster, nodesMin: number): Promise<void> {
  await waitFor("all nodes to apply the head with one digest", async () => {
    const { leader, nodes } = await cluster.status();
    return (
      leader !== null &&
      nodes.filter(({ lag }) => lag === 0).length >= nodesMin &&
      nodes.every((node) => node.lag !== 0 || node.digest === null || node.digest === leader.digest)
    );
  });
}

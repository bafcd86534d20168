/** Alike: whether every projection of a cluster has, at the head of the log, the digest of the log itself. */
import assert from "node:assert/strict";
import { decodeEvents, Projection } from "../../../src/events/index.ts";
import { openPostgresLog } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { Cluster } from "./cluster.ts";

const pageEvents = 1_000;

/** Folded from Postgres by the test itself, from the first event on. */
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

/** Waits until all nodes stand at the head, and the leader too, each with the digest that the log comes to. */
export async function waitForLogDigest(cluster: Cluster): Promise<void> {
  const names = [cluster.authenticate, ...cluster.proxies].map(({ name }) => name);
  await waitFor(
    "every projection to have the digest of the log",
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
      const own = await foldLog(cluster);
      if (own.applied.hash !== leader.head.hash) return false; // something was appended meanwhile
      assert.equal(leader.digest, own.digest(), "the leader's ledger");
      const current = nodes.filter((node) => node.applied?.hash === leader.head.hash);
      return names.every((name) => current.some((node) => node.node === name && node.digest === own.digest()));
    },
    { withinMs: 30_000, everyMs: 100 },
  );
  await waitFor("the command line to say so", async () => {
    const status = await cluster.cardea("cluster", "status");
    assert.equal(status.code, 0, `${status.out}${status.err}`);
    assert.doesNotMatch(status.out, /MISMATCH/);
    return true;
  });
}

/** Waits until so many nodes stand at the head, and each of them has the leader's digest. */
export async function waitForOneDigest(cluster: Cluster, nodesMin: number): Promise<void> {
  await waitFor("all nodes to stand at the head with one digest", async () => {
    const { leader, nodes } = await cluster.status();
    return (
      leader !== null &&
      nodes.filter(({ lag }) => lag === 0).length >= nodesMin &&
      nodes.every((node) => node.lag !== 0 || node.digest === null || node.digest === leader.digest)
    );
  });
}

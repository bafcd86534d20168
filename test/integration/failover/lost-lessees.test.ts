/**
 * A lease that the store loses: an asynchronous standby without it is promoted, or a file log is replaced by an older
 * copy.
 *
 * The node that holds the lease is cut off and still permits, so the new leader must not complete a receipt before that
 * node's window has passed.
 */
import assert from "node:assert/strict";
import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import type { ConfigHash, NodeId } from "../../../src/events/index.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import { openSqliteLog } from "../../../src/replication/log/index.ts";
import { cluster, createSession, revoke } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, type TestBroker, type TestNode, waitToLead } from "./in-process.ts";

const timing = { deltaMs: 1_000, windowMs: 6_000 };
const withoutBinaries = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let testCluster: InProcessCluster;
afterEach(() => testCluster.stop());

test("after the promotion of an asynchronous standby that lacks a node's lease, no receipt is complete before the window of that node has passed, and the receipt names it", {
  skip: withoutBinaries,
  timeout: 240_000,
}, async (t) => {
  await using group = await startPostgresGroup({ synchrony: "asynchronous" });
  testCluster = new InProcessCluster(await group.newDatabase(), timing);
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  const second = await testCluster.broker("broker-2");
  const near = await testCluster.node("near", [first, second]);
  await submitCommand(first, createSession("s", "alice"));
  await submitCommand(first, activateConfiguration("far"));
  await waitFor("the node to permit", () => near.permits("s"), { withinMs: 20_000 });
  await group.replicated();
  await group.detachStandbys();
  const far = await testCluster.node("far", [first, second]);
  await waitFor("the node to permit", () => far.permits("s"), { withinMs: 20_000 });

  far.relay.cut();
  await first.crash();
  await group.kill();
  await group.failOver();
  await waitToLead(second);
  const observed = await revokeAndWatch(far, second);
  t.diagnostic(`complete ${Math.round(observed.completeMs)} ms after the revocation`);
  const unconfirmedNodes = observed.receipts.find(({ nodes }) => nodes.length > 1)?.nodes ?? [];
  assert.deepEqual(
    unconfirmedNodes.filter(({ node }) => node !== "near").map(({ node, status }) => [node, status]),
    [
      ["@unknown-nodes", "unconfirmed"],
      ["far", "unconfirmed"],
    ],
  );
  await waitFor("the other node to enforce the revocation", () => !near.permits("s"));
});

test("after a file log is replaced by an older copy, no receipt is complete before the window of a lease that the copy lacks has passed", {
  timeout: 120_000,
}, async (t) => {
  const folder = new TemporaryFolder("lost-lessees");
  t.after(() => folder.remove());
  const [path, copy] = [join(folder.path, "log.db"), join(folder.path, "copy.db")];
  const openLog = () => openSqliteLog({ path, cluster });
  testCluster = new InProcessCluster("", timing);
  const before = await testCluster.broker("broker-1", { openLog });
  await waitToLead(before);
  await submitCommand(before, createSession("s", "alice"));
  await before.crash();
  copyFileSync(path, copy);

  const current = await testCluster.broker("broker-1", { openLog });
  await waitToLead(current);
  const far = await testCluster.node("far", [current]);
  await waitFor("the node to permit", () => far.permits("s"), { withinMs: 20_000 });
  far.relay.cut();
  await current.crash();
  for (const suffix of ["-wal", "-shm"]) rmSync(`${path}${suffix}`, { force: true });
  copyFileSync(copy, path);

  const restored = await testCluster.broker("broker-1", { openLog });
  await waitToLead(restored);
  const observed = await revokeAndWatch(far, restored);
  t.diagnostic(`complete ${Math.round(observed.completeMs)} ms after the revocation`);
  assert.deepEqual(
    observed.receipts[0]?.nodes.map(({ node, status }) => [node, status]),
    [["@unknown-nodes", "unconfirmed"]],
  );
});

test("after a restart on the same file log, a broker waits for no lost lease", { timeout: 120_000 }, async (t) => {
  const folder = new TemporaryFolder("same-file");
  t.after(() => folder.remove());
  const openLog = () => openSqliteLog({ path: join(folder.path, "log.db"), cluster });
  testCluster = new InProcessCluster("", timing);
  const before = await testCluster.broker("broker-1", { openLog });
  await waitToLead(before);
  const near = await testCluster.node("near", [before]);
  await submitCommand(before, createSession("s", "alice"));
  await waitFor("the node to permit", () => near.permits("s"), { withinMs: 20_000 });
  await before.crash();
  const restarted = await testCluster.broker("broker-1", { openLog });
  await waitToLead(restarted);
  near.relay.setTargets([restarted.port]);
  const { commandId } = await submitCommand(restarted, revoke("s"));
  const target = { type: "command", commandId } as const;
  const receipt = await restarted.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 20_000 });
  assert.deepEqual(
    receipt.nodes.map(({ node, status }) => [node, status]),
    [["near", "applied"]],
  );
});

const activateConfiguration = (node: string) =>
  ({ type: "activateConfiguration", nodeId: node as NodeId, configHash: "c".repeat(64) as ConfigHash }) as const;

/**
 * Revokes the session, and watches the receipt and the cut-off node until the receipt has been complete for a while.
 */
async function revokeAndWatch(
  far: TestNode,
  leader: TestBroker,
): Promise<Readonly<{ receipts: readonly Receipt[]; completeMs: number }>> {
  const { commandId } = await submitCommand(leader, revoke("s"));
  const revokedAt = performance.now();
  const databroker = leader.broker.databroker("operator");
  const receipts: Receipt[] = [];
  const permitted: boolean[] = [];
  let completeMs = Number.NaN;
  await waitFor(
    "the receipt to be complete for a while",
    async () => {
      // Checked before the receipt: a permit after a complete receipt breaks the promise.
      const permits = far.permits("s");
      if (receipts.at(-1)?.complete === true) permitted.push(permits);
      const receipt = await databroker.receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 0 });
      if (receipt.complete && Number.isNaN(completeMs)) completeMs = performance.now() - revokedAt;
      receipts.push(receipt);
      return permitted.length > 100 || undefined;
    },
    { withinMs: 60_000 },
  );
  assert.equal(receipts[0]?.complete, false, "the first receipt is incomplete, since a lease may be lost");
  assert.ok(!permitted.includes(true), "permitted after a complete receipt");
  return { receipts, completeMs };
}

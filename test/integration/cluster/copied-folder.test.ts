/**
 * A copied data folder: a second process starts on a copy of a running proxy's folder, so two boots of one node decide
 * at once. Receipts count both, and the operator is notified once, with both boots.
 */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { ClusterProcess } from "./cluster-process.ts";

const patience = { withinMs: 60_000 };
let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "short", brokers: 1, regions: ["north"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

/** Starts a second process of the same node on a copy of its data folder, with its configuration. */
async function startCopy(original: ClusterProcess, folder: TemporaryFolder): Promise<ClusterProcess> {
  const [address = 0, metrics = 0, broker = 0] = await freePorts(3);
  const dataDir = `${folder.path}/data`;
  mkdirSync(dataDir, { mode: 0o700 });
  cpSync(original.dataDir, dataDir, { recursive: true, preserveTimestamps: true });
  const copy = new ClusterProcess({
    ...{ name: original.name, region: original.region, folder: folder.path, dataDir },
    ports: { address, metrics, broker },
    config: {
      ...(JSON.parse(readFileSync(original.configFile, "utf8")) as object),
      ...{ address: `127.0.0.1:${address}`, metrics_address: `127.0.0.1:${metrics}`, data_dir: dataDir },
    },
  });
  await copy.start();
  return copy;
}

const bootsOf = async (name: string): Promise<readonly string[]> =>
  (await cluster.status()).nodes.filter(({ node }) => node === name).map(({ boot }) => boot);

test("a copy of a running proxy counts as a second boot in receipts, and the operator is notified once", {
  timeout: 400_000,
}, async (t) => {
  using folder = new TemporaryFolder("copied-folder");
  const original = cluster.proxy(1);
  const broker = cluster.brokers[0] ?? assert.fail();
  const copies = (): Promise<number> => broker.metric("cardea_broker_copied_nodes");
  const session = await cluster.session("alice");
  assert.equal((await cluster.get(original, "app", session)).permitted, true);
  const [first] = await bootsOf(original.name);
  assert.ok(first !== undefined);
  assert.equal(await copies(), 0);

  const copy = await startCopy(original, folder);
  t.after(() => copy.kill());
  const second = await waitFor("both boots to have a lease", async () => {
    const boots = await bootsOf(original.name);
    return boots.includes(first) ? boots.find((boot) => boot !== first) : undefined;
  });
  for (const process of [original, copy])
    assert.equal((await cluster.get(process, "app", session)).permitted, true, "both hold a lease and permit");
  await waitFor("the leader to find the two boots", async () => (await copies()) === 1, patience);
  const { code, out, err } = await cluster.cardea("cluster", "status");
  assert.equal(code, 0, err);
  const copied = out.split("\n").filter((line) => line.startsWith("COPIED"));
  assert.equal(copied.length, 1, out);
  for (const fact of ["node proxy-1", first, second])
    assert.ok(copied[0]?.includes(fact), `${copied[0]} names ${fact}`);

  // The original is paused while it holds a lease: only the end of its window fences it.
  original.pause();
  const { link } = await cluster.operator.revoke(session);
  const open = await waitFor("the copy alone to have confirmed", async () => {
    const receipt = await cluster.operator.receipt(link, { wait: "none" });
    const ofNode = receipt.nodes.filter(({ node }) => node === original.name);
    return ofNode.some(({ boot, status }) => boot === second && status === "applied") ? { receipt, ofNode } : undefined;
  });
  const statuses = new Map(open.ofNode.map(({ boot, status }) => [boot as string, status]));
  assert.deepEqual([...statuses.keys()].sort(), [first, second].sort(), "the receipt names both boots");
  assert.equal(open.receipt.complete, statuses.get(first) === "fenced", "the receipt waits for the original");
  const complete = await cluster.operator.receipt(link);
  assert.equal(complete.complete, true);
  assert.equal(complete.nodes.find(({ boot }) => boot === first)?.status, "fenced");
  original.resume();
  for (const process of [original, copy])
    for (const route of ["app", "strict"])
      assert.equal(
        (await cluster.getOnce(process, route, session)).permitted,
        false,
        "permitted after a complete receipt",
      );
  await original.ready();
  for (const process of [original, copy])
    assert.equal((await cluster.get(process, "app", session)).permitted, false, "permitted with a new lease");

  // Both renew again; the leader does not report the same two boots twice.
  const next = await cluster.session("bob");
  for (const process of [original, copy]) assert.equal((await cluster.get(process, "app", next)).permitted, true);
  const both = await cluster.operator.receipt((await cluster.operator.revoke(next)).link);
  assert.equal(both.complete, true);
  const applied = both.nodes.filter(({ node, status }) => node === original.name && status === "applied");
  assert.deepEqual(applied.map(({ boot }) => boot as string).sort(), [first, second].sort());
  assert.equal(await copies(), 1);
  const lines = broker
    .log()
    .split("\n")
    .filter((line) => line.includes("two processes of one node are alive"));
  assert.equal(lines.length, 1, lines.join("\n"));
  for (const boot of [first, second]) assert.ok(lines[0]?.includes(boot), `the log line names ${boot}`);

  // The remedy of docs/operations.md: stop one of them.
  await copy.end();
  assert.deepEqual(await bootsOf(original.name), [first]);
  assert.ok(!(await cluster.cardea("cluster", "status")).out.includes("COPIED"));
  const last = await cluster.session("carol");
  assert.equal((await cluster.get(original, "app", last)).permitted, true, "the original serves alone");
});

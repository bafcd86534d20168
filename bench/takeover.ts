/**
 * Bench: how long no change is acknowledged when the primary is replaced under load, and when the leader is killed
 * right after that, with NATS and without it. Beside both, in the same round: a change on the quiet cluster, requested
 * in the same way.
 *
 *   node bench/takeover.ts [--rounds 5]
 *
 * Real processes: a primary with a quorum of standbys, one of which is promoted while the old primary stays alive and
 * is named first; two brokers, two proxies. Each round is a new cluster. There is no budget; docs/postgres.md has the
 * promises.
 */
import { parseArgs } from "node:util";
import { type Cluster, startCluster } from "../test/integration/cluster/cluster.ts";
import { groupOf, startWriting } from "../test/integration/failover/failover-support.ts";
import { startPostgresGroup } from "../test/support/postgres-group.ts";
import { waitFor } from "../test/support/wait-for.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const rounds = Number(values.rounds);
const quietChanges = 20;

type Row = Readonly<{ quietMs: number; promotedMs: number; killedMs: number }>;

async function round(nats: "with" | "without"): Promise<Row> {
  const cluster = await startCluster({
    ...{ timing: "default", regions: ["north", "south"] },
    postgres: () => startPostgresGroup({ synchrony: "quorum" }),
  });
  try {
    if (nats === "without") {
      await cluster.nats.stop();
      await waitFor("changes to go on without NATS", () => cluster.session("first"), { withinMs: 30_000 });
    }
    return await failOver(cluster);
  } finally {
    await cluster.stop();
  }
}

async function failOver(cluster: Cluster): Promise<Row> {
  const change = async (user: string, from: number): Promise<number> => {
    await cluster.session(user);
    return performance.now() - from;
  };
  const quiet: number[] = [];
  for (let n = 0; n < quietChanges; n++) quiet.push(await change(`quiet-${n}`, performance.now()));
  const users = await Promise.all(["alice", "bob", "carol"].map((user) => cluster.session(user)));
  const writing = users.map(({ userId }) => startWriting(cluster, userId)); // so that commits wait on the old primary
  await waitFor("some changes", () => writing.every((one) => one.done() > 10));
  const { promotedAt, oldPrimary: zombie } = await groupOf(cluster).failOver();
  const acknowledged = () =>
    writing
      .flatMap(({ written }) => written)
      .filter(({ endedAt, result }) => endedAt > promotedAt && result.type === "done")
      .map(({ endedAt }) => endedAt - promotedAt);
  await waitFor("changes to be acknowledged again", () => acknowledged().length > 0, { withinMs: 60_000 });
  const promotedMs = Math.min(...acknowledged());
  await (await cluster.leader()).kill();
  const killedMs = await change("behind the kill", performance.now());
  await Promise.all(writing.map((one) => one.stop()));
  await zombie.kill();
  return { quietMs: middle(quiet), promotedMs, killedMs };
}

function middle(all: readonly number[]): number {
  return all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;
}

const shown = (all: readonly number[]): string =>
  `${all
    .toSorted((a, b) => a - b)
    .map((ms) => (ms / 1_000).toFixed(2))
    .join(", ")} s`;

for (const nats of ["with", "without"] as const) {
  const rows: Row[] = [];
  for (let n = 0; n < rounds; n++) rows.push(await round(nats));
  console.log(
    `${nats} NATS, ${rounds} rounds, sorted; a change on the quiet cluster: ${shown(rows.map((row) => row.quietMs))}`,
  );
  console.log(`  promotion → next change acknowledged           ${shown(rows.map((row) => row.promotedMs))}`);
  console.log(`  leader killed after it → next acknowledged    ${shown(rows.map((row) => row.killedMs))}`);
}

/** Ending: checks after the last fault that all processes are ready, the log verifies, and all copies agree. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { decodeEvents, genesis, linkOf } from "../../src/events/index.ts";
import type { ClusterStatus, NodeStatus } from "../../src/replication/index.ts";
import { openPostgresReader, readServerHeads } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient } from "../../src/replication/wire/index.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { Ending, LoggedEvent } from "../judge/history.ts";
import type { HistoryFile } from "../judge/history-file.ts";
import { watchLoad } from "../judge/machine-load.ts";
import type { RunClock } from "../judge/run-clock.ts";
import { programFile } from "../program.ts";
import { cluster as clusterName } from "../world.ts";
import { readAuditCopies } from "./audit-copies.ts";
import { metricIn } from "./metric.ts";
import { type SealEntry, verifyRecords } from "./verify-records.ts";

const run = promisify(execFile);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const pollEveryMs = 500;
const agreeWithinMs = 15_000;
/** A node submits from its own disk up to a minute after its start, when the brokers that had it are gone. */
const mergeWithinMs = 80_000;
const pageEvents = 1_000;
/** Far above what any machine needs: a command that does not end says nothing of the log. */
const verifyWithinMs = 300_000;

export function statusClient({ addresses, regions, home, topology }: Cluster): BrokerClient {
  const leading = topology.homes === "movable" ? regions : [home];
  return createBrokerClient({
    urls: leading.flatMap(({ brokers }) => brokers).map(({ ports }) => new URL(`http://127.0.0.1:${ports.broker}`)),
    cluster: clusterName,
    role: "operator",
    name: "chaos",
    secret: Buffer.from(addresses.sharedSecret, "base64"),
    clock: systemClock,
    randomBytes,
    logger: quiet,
  });
}

export type LeaderWatch = Readonly<{ name(): string | null; stop(): void }>;

/** Polls for the leader and records every change. */
export function watchLeader(
  client: BrokerClient,
  { now, history }: { now: RunClock; history: HistoryFile },
): LeaderWatch {
  let known: string | null = null;
  let seat = "";
  const over = new AbortController();
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const status = await client.status().catch(() => undefined);
      const leader = status?.leader;
      if (leader !== undefined && leader !== null && `${leader.brokerId} ${leader.epoch}` !== seat) {
        known = leader.brokerId;
        seat = `${leader.brokerId} ${leader.epoch}`;
        history.write({ type: "note", at: now(), text: `${leader.brokerId} leads epoch ${leader.epoch}` });
      }
      await delay(pollEveryMs, undefined, { signal: over.signal }).catch(() => {});
    }
  };
  void watch();
  return { name: () => known, stop: () => over.abort() };
}

export type Readiness = Pick<Ending, "readyAfterMs" | "readyBoundMs" | "notReady">;

/** On a busy machine the bound is longer. */
export async function becomeReady(cluster: Cluster, bound: number): Promise<Readiness> {
  const startedAt = performance.now();
  const load = watchLoad();
  for (;;) {
    const reasons = await Promise.all(
      cluster.processes.map(async (each) => (await each.whyNotReady()).map((reason) => `${each.name}: ${reason}`)),
    );
    const notReady = reasons.flat();
    const tookMs = Math.round(performance.now() - startedAt);
    const boundMs = Math.round(bound * load());
    if (notReady.length === 0) return { readyAfterMs: tookMs, readyBoundMs: boundMs, notReady };
    if (tookMs > boundMs) return { readyAfterMs: null, readyBoundMs: boundMs, notReady };
    await delay(100);
  }
}

/** Call it once no client uses the cluster any more. */
export async function inspect(
  cluster: Cluster,
  client: BrokerClient,
  { readiness, now, originMs }: Readonly<{ readiness: Readiness; now: RunClock; originMs: number }>,
): Promise<Ending> {
  const status = await agreement(cluster, client);
  const log = await readLog(cluster).catch(() => null);
  const audit = await readAuditCopies(cluster, { now, originMs });
  return {
    ...readiness,
    log: log?.events ?? null,
    logProblem: await verifyLog(cluster),
    leader:
      status?.leader == null
        ? null
        : {
            broker: status.leader.brokerId,
            epoch: status.leader.epoch,
            position: status.leader.head.position,
            digest: status.leader.digest,
          },
    crashes: cluster.processes.flatMap((each) => each.crashes),
    nodes: copiesOf(cluster, status),
    audit,
    records: log === null ? null : await verifyRecords(cluster.processes, log.seals),
  };
}

/** The last status: all copies agree and the log has what regions accepted by themselves, or the time is up. */
async function agreement(cluster: Cluster, client: BrokerClient): Promise<ClusterStatus | undefined> {
  const startedAt = performance.now();
  const load = watchLoad();
  for (;;) {
    const status = await client.status().catch(() => undefined);
    const leader = status?.leader;
    const agree =
      leader != null &&
      copiesOf(cluster, status).every(
        ({ position, digest }) => position === leader.head.position && digest === leader.digest,
      );
    const merged = await isMerged(cluster);
    const withinMs = (merged ? agreeWithinMs : mergeWithinMs) * load();
    if ((agree && merged) || performance.now() - startedAt > withinMs) return status;
    await delay(pollEveryMs);
  }
}

/** Whether no broker and no node retains what its region accepted by itself. */
async function isMerged({ processes }: Cluster): Promise<boolean> {
  const pages = await Promise.all(processes.map((each) => each.metrics().catch(() => "")));
  const names = ["cardea_broker_local_revocations", "cardea_replica_local_denials"];
  // A broker that leads now has no number for what belongs to a regional broker.
  const isRetained = (page: string, name: string): boolean => (metricIn(page, name) ?? 0) > 0;
  return pages.every((page) => !names.some((name) => isRetained(page, name)));
}

/**
 * The newest boot of every process with a copy: all but the brokers of the leader's region. The status lists earlier
 * boots for a while.
 */
function copiesOf({ regions, processes, home }: Cluster, status: ClusterStatus | undefined): Ending["nodes"] {
  const leads = status?.leader?.brokerId;
  const { brokers } = regions.find((region) => region.brokers.some(({ name }) => name === leads)) ?? home;
  const copies = processes.filter((each) => !brokers.includes(each));
  return copies.map(({ name }) => {
    const boots = (status?.nodes ?? []).filter(({ node }) => node === name);
    const silence = (boot: NodeStatus): number => boot.lastGrantAgoMs ?? Number.POSITIVE_INFINITY;
    const [newest] = boots.sort((a, b) => silence(a) - silence(b));
    if (newest === undefined) return { node: name, role: "missing", position: null, digest: null };
    return { node: name, role: newest.role, position: newest.applied?.position ?? null, digest: newest.digest };
  });
}

/** From the server that holds the newest proven epoch: after a move of the home region, another may still run. */
async function readLog({
  addresses,
}: Cluster): Promise<Readonly<{ events: readonly LoggedEvent[]; seals: readonly SealEntry[] }>> {
  const of = { connectionString: addresses.postgres, cluster: clusterName };
  const { newest } = await readServerHeads(of);
  if (newest === null) throw new Error("no Postgres server holds the log");
  const log = await openPostgresReader({ ...of, host: newest.host });
  try {
    const events: LoggedEvent[] = [];
    const seals: SealEntry[] = [];
    for (let after = genesis; ; ) {
      const outcome = await log.read(after, pageEvents);
      if (outcome.type !== "page") throw new Error(`the log cannot be read: ${outcome.type}`);
      const { entries } = outcome.page;
      if (entries.length === 0) return { events, seals };
      let previous = after;
      for (const [index, recorded] of decodeEvents(entries, after).entries()) {
        const { position, epoch, hash, type, stream, cause } = recorded;
        events.push({ position, epoch, hash, type, stream, cause });
        const bytes = entries[index];
        if (type === "AuditSegmentSealed" && bytes !== undefined) seals.push({ previous, bytes });
        previous = linkOf(recorded);
      }
      after = outcome.page.last;
    }
  } finally {
    await log.close();
  }
}

/** Runs the product's own command. @returns null when the log verifies */
async function verifyLog({ home }: Cluster): Promise<string | null> {
  const args = ["--no-warnings", programFile(), "log", "verify", "-c", home.brokers[0]?.configFile ?? ""];
  try {
    await run(process.execPath, args, { timeout: verifyWithinMs });
    return null;
  } catch (error) {
    const { stderr, code } = error as { stderr?: string; code?: number };
    return `cardea log verify ended with ${code}: ${stderr ?? String(error)}`;
  }
}

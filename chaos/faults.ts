/**
 * Faults: applies the planned faults to the cluster and records what was really done, to which process and when.
 *
 * A fault heals what it broke, whatever happens meanwhile. `clear` is when every process that no other fault affects
 * was ready again.
 */
import { setTimeout as delay } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { hostileKinds, startHostileNatsClient } from "../test/support/hostile-nats-client.ts";
import { withClient } from "../test/support/postgres-client.ts";
import type { PostgresGroup } from "../test/support/postgres-group.ts";
import type { Cluster } from "./cluster.ts";
import { linkName } from "./cluster-config.ts";
import type { ClusterProcess } from "./cluster-process.ts";
import type { LinkState } from "./helper-process.ts";
import { type Ns, nsPerMs } from "./history.ts";
import type { HistoryFile } from "./history-file.ts";
import type { PlannedFault } from "./plan.ts";
import type { RunClock } from "./run-clock.ts";
import { cluster as clusterName } from "./world.ts";

export type FaultTools = Readonly<{
  cluster: Cluster;
  now: RunClock;
  history: HistoryFile;
  /** The name of the leading broker, as far as known. */
  leader: () => string | null;
  say: (text: string) => void;
}>;

export type FaultRunner = Readonly<{
  /** Runs a plan. Resolves when the last fault is clear or its bound has passed. */
  run(faults: readonly PlannedFault[], startedAt: Ns): Promise<void>;
}>;

const clearWithinMs = 30_000;
const pollEveryMs = 100;
const servesWithinMs = 8_000;
const deleteAttempts = 5;

export function createFaultRunner({ cluster, now, history, leader, say }: FaultTools): FaultRunner {
  /** Processes under a fault are not expected to be ready. */
  const held = new Map<string, number>();

  async function run(faults: readonly PlannedFault[], startedAt: Ns): Promise<void> {
    const under: Promise<void>[] = [];
    for (const fault of faults) {
      const leftMs = fault.atMs - (now() - startedAt) / nsPerMs;
      await delay(Math.max(0, leftMs));
      under.push(runFault(fault));
    }
    await Promise.all(under);
  }

  async function runFault(fault: PlannedFault): Promise<void> {
    const begin = now();
    let target = "";
    let problem = "";
    try {
      const chosen = await choose(fault);
      ({ target } = chosen);
      say(`${fault.kind} ${target}${fault.forMs > 0 ? ` for ${fault.forMs} ms` : ""}`);
      hold(chosen.holds, 1);
      await chosen.act().finally(() => hold(chosen.holds, -1));
    } catch (error) {
      problem = String(error);
      say(`${fault.kind} ${target} failed: ${problem}`);
    }
    const end = now();
    const clear = await whenClear(end);
    history.write({ type: "fault", index: fault.index, what: fault.kind, target, begin, end, clear, problem });
  }

  function hold(names: readonly string[], by: 1 | -1): void {
    for (const name of names) held.set(name, (held.get(name) ?? 0) + by);
  }

  async function whenClear(from: Ns): Promise<Ns> {
    const expected = (): readonly ClusterProcess[] =>
      cluster.processes.filter(({ name }) => (held.get(name) ?? 0) === 0);
    while (now() - from < clearWithinMs * nsPerMs) {
      const at = now();
      const reasons = await Promise.all(expected().map((each) => each.whyNotReady()));
      if (reasons.every((each) => each.length === 0)) return at;
      await delay(pollEveryMs);
    }
    return now();
  }

  type Chosen = Readonly<{ target: string; holds: readonly string[]; act: () => Promise<void> }>;

  async function choose(fault: PlannedFault): Promise<Chosen> {
    const { kind, forMs } = fault;
    const { postgres, nats, brokers, proxies } = cluster;
    const ours = (process: ClusterProcess, act: () => Promise<void>): Chosen => {
      return { target: process.name, holds: [process.name], act };
    };
    const theirs = (target: string, act: () => Promise<void>): Chosen => ({ target, holds: [], act });
    const proxy = proxies[fault.target ?? 0];
    const server = nats.nodes[fault.target ?? 0];
    const leading = kind.includes("leader") || kind === "kill-standby" ? leader() : null;
    const leads = brokers.find(({ name }) => name === leading) ?? brokers[0];
    const stands = brokers.find((broker) => broker !== leads);
    if (proxy === undefined || server === undefined || leads === undefined || stands === undefined)
      throw new RangeError(`there is nothing for ${kind} ${fault.target}`);
    switch (kind) {
      case "kill-proxy":
        return ours(proxy, () => killFor(proxy, forMs));
      case "kill-leader":
        return ours(leads, () => killFor(leads, forMs));
      case "kill-standby":
        return ours(stands, () => killFor(stands, forMs));
      case "pause-proxy":
        return ours(proxy, () => pauseFor(proxy, forMs));
      case "pause-leader":
        return ours(leads, () => pauseFor(leads, forMs));
      case "kill-nats":
        return theirs(server.name, () => killFor(patient(server), forMs));
      case "restart-nats":
        return theirs(server.name, () => within(server.restart(), servesWithinMs));
      case "pause-nats":
        return theirs(server.name, () => pauseFor(server, forMs));
      case "kill-all-nats":
        return theirs("all NATS servers", () => killFor(patient(nats), forMs));
      case "pause-all-nats":
        return theirs("all NATS servers", () => pauseFor(nats, forMs));
      case "pause-postgres":
        return theirs("Postgres", () => pauseFor(postgres, forMs));
      case "stop-postgres":
        return theirs("Postgres", () => killFor(postgres, forMs));
      case "terminate-backends":
        return theirs("Postgres", () => terminateBackends(cluster));
      case "empty-synchronous-names":
        return theirs("Postgres", () => emptySynchronousNames(postgres, forMs));
      case "promote-lagging-standby":
        return theirs("Postgres", () => promoteLaggingStandby(postgres, forMs));
      case "hostile-nats-client":
        return theirs("NATS", () => floodNats(cluster, forMs));
      case "delete-stream":
        return theirs("JetStream", () => deleteStreams(cluster));
      case "cut-proxy":
        return ours(proxy, () => breakFor([linkName.brokers(proxy.name), linkName.nats(proxy.name)], "cut", forMs));
      case "cut-proxy-from-brokers":
        return ours(proxy, () => breakFor([linkName.brokers(proxy.name)], "cut", forMs));
      case "cut-proxy-from-nats":
        return ours(proxy, () => breakFor([linkName.nats(proxy.name)], "cut", forMs));
      case "deafen-proxy":
        return ours(proxy, () => breakFor([linkName.brokers(proxy.name), linkName.nats(proxy.name)], "deaf", forMs));
      case "slow-proxy":
        return ours(proxy, () => breakFor([linkName.brokers(proxy.name), linkName.nats(proxy.name)], "slow", forMs));
      case "cut-proxy-and-kill-leader":
        // The next leader knows the proxy's lease only from the table.
        return {
          target: `${proxy.name} and ${leads.name}`,
          holds: [proxy.name, leads.name],
          act: async () => {
            const cut = breakFor([linkName.brokers(proxy.name), linkName.nats(proxy.name)], "cut", forMs);
            await Promise.all([cut, killFor(leads, forMs / 2)]);
          },
        };
      case "cut-leader-from-postgres":
        return ours(leads, () => breakFor([linkName.postgres(leads.name)], "cut", forMs));
      case "kill-brokers":
        return {
          target: "both brokers",
          holds: [leads.name, stands.name],
          act: () => killFor(together([leads, stands]), forMs),
        };
      case "rolling-restart":
        return theirs("all proxies", () => restartOneByOne(proxies));
    }
  }

  async function restartOneByOne(proxies: readonly ClusterProcess[]): Promise<void> {
    for (const proxy of proxies) {
      hold([proxy.name], 1);
      try {
        const began = now();
        await proxy.end();
        const ended = now();
        await proxy.start();
        await readyOrGiveUp(proxy);
        const took = [ended - began, now() - ended].map((ns) => (ns / nsPerMs).toFixed(0));
        history.write({
          type: "note",
          at: now(),
          text: `${proxy.name} drained in ${took[0]} ms, ready after ${took[1]} ms`,
        });
      } finally {
        hold([proxy.name], -1);
      }
    }
  }

  async function breakFor(links: readonly string[], state: LinkState, forMs: number): Promise<void> {
    try {
      cluster.network.send({ type: "link", links, state });
      await delay(forMs);
    } finally {
      cluster.network.send({ type: "link", links, state: "whole" });
    }
  }

  return { run };
}

type Breakable = Readonly<{ kill(): Promise<void>; start(): Promise<void> }>;
type Pausable = Readonly<{ pause(): void | Promise<void>; resume(): void | Promise<void> }>;

function together(all: readonly Breakable[]): Breakable {
  const each = async (act: (one: Breakable) => Promise<void>): Promise<void> => void (await Promise.all(all.map(act)));
  return { kill: () => each((one) => one.kill()), start: () => each((one) => one.start()) };
}

async function killFor(what: Breakable, forMs: number): Promise<void> {
  try {
    await what.kill();
    await delay(forMs);
  } finally {
    await what.start();
  }
}

async function pauseFor(what: Pausable, forMs: number): Promise<void> {
  try {
    await what.pause();
    await delay(forMs);
  } finally {
    await what.resume();
  }
}

async function readyOrGiveUp(process: ClusterProcess): Promise<void> {
  const giveUpAt = performance.now() + clearWithinMs / 2;
  while (performance.now() < giveUpAt && (await process.whyNotReady()).length > 0) await delay(pollEveryMs);
}

/** How long commits hang before synchronous_standby_names is emptied. */
const hangMs = 700;

/** Commits hang without a standby, are released without having waited, and later ones do not wait. */
async function stopWaiting(postgres: PostgresGroup): Promise<Readonly<{ names: string }>> {
  const [row] = await postgres.sql("show synchronous_standby_names");
  await postgres.detachStandbys();
  await delay(hangMs);
  await setSynchronousNames(postgres, "");
  return { names: String(row?.["synchronous_standby_names"]) };
}

async function setSynchronousNames(postgres: PostgresGroup, names: string): Promise<void> {
  await postgres.sql(`alter system set synchronous_standby_names = '${names}'`);
  await postgres.sql("select pg_reload_conf()");
}

async function emptySynchronousNames(postgres: PostgresGroup, forMs: number): Promise<void> {
  const { names } = await stopWaiting(postgres);
  try {
    await delay(forMs);
  } finally {
    await setSynchronousNames(postgres, names);
    await postgres.attachStandbys();
  }
}

/** Changes acknowledged meanwhile are on the primary alone and are lost with it. */
async function promoteLaggingStandby(postgres: PostgresGroup, forMs: number): Promise<void> {
  await stopWaiting(postgres);
  await delay(forMs);
  await postgres.kill();
  await postgres.failOver("accept");
}

/** A NATS client without a secret, which sends the messages that cost receivers most. */
async function floodNats({ nats }: Cluster, forMs: number): Promise<void> {
  const client = await startHostileNatsClient({ servers: nats.urls, cluster: clusterName });
  try {
    const until = performance.now() + forMs;
    for (let turn = 0; performance.now() < until; turn++) {
      await client.send(hostileKinds[turn % hostileKinds.length] ?? "small", 10);
    }
  } finally {
    await client.close();
  }
}

async function terminateBackends({ postgres }: Cluster): Promise<void> {
  await withClient(postgres.primary().connectionString(), (client) =>
    client.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
    ),
  );
}

/**
 * Whether a NATS server runs. After faults of the others it may take long to report itself healthy, which is not
 * awaited.
 */
function patient(server: Breakable): Breakable {
  return { kill: () => server.kill(), start: () => within(server.start(), servesWithinMs) };
}

async function within(work: Promise<void>, ms: number): Promise<void> {
  work.catch(() => {}); // not awaited after the bound
  await Promise.race([work, delay(ms, undefined, { ref: false })]);
}

/** The replay buffer and the decision records, all of JetStream. Without a quorum this has to wait. */
async function deleteStreams(cluster: Cluster): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await deleteStreamsOnce(cluster);
    } catch (error) {
      if (attempt === deleteAttempts) throw error;
      await delay(1_000);
    }
  }
}

async function deleteStreamsOnce({ nats }: Cluster): Promise<void> {
  const connection = await connect({ servers: [...nats.urls], timeout: 3_000, maxReconnectAttempts: 1 });
  try {
    const manager = await jetstreamManager(connection, { timeout: 3_000 });
    for await (const name of manager.streams.names()) await manager.streams.delete(name);
  } finally {
    await connection.close();
  }
}

/** Store faults: Postgres and NATS are killed, paused, emptied or attacked, and a standby becomes the primary. */
import { setTimeout as delay } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { hostileKinds, startHostileNatsClient } from "../../test/support/hostile-nats-client.ts";
import { withClient } from "../../test/support/postgres-client.ts";
import type { PostgresGroup } from "../../test/support/postgres-group.ts";
import type { NatsCluster, NatsNode } from "../../test/support/service.ts";
import type { ClusterRegion } from "../cluster/cluster.ts";
import { cluster as clusterName } from "../world.ts";
import { type Aim, type Breakable, type Inject, type Injection, killed, paused } from "./injection.ts";

const servesWithinMs = 8_000;
const deleteAttempts = 5;
const keepAttempts = 3;
/** How long commits hang before synchronous_standby_names is emptied. */
const hangMs = 700;

type Acts = Pick<Injection, "begin" | "heal">;

function ofPostgres({ home }: Aim, acts: Acts): Injection {
  return { target: "Postgres", regions: [home.name], isolates: [], holds: [], ...acts };
}

function ofServer(aim: Aim, act: (server: NatsNode) => Acts): Injection {
  const region = aim.cluster.regions.find(({ nats }) => nats.nodes.some(({ name }) => name === aim.target));
  const server = region?.nats.nodes.find(({ name }) => name === aim.target);
  if (region === undefined || server === undefined) throw new RangeError(`there is no ${aim.target}`);
  return { target: server.name, regions: [region.name], isolates: [], holds: [], ...act(server) };
}

function ofHomeNats({ home: { name } }: Aim, acts: Acts): Injection {
  return { target: `NATS of ${name}`, regions: [name], isolates: [], holds: [], ...acts };
}

const nothing = async (): Promise<void> => {};

export const storeFaults = {
  "pause-postgres": (aim) => ofPostgres(aim, paused(aim.cluster.postgres.primary())),
  "stop-postgres": (aim) => ofPostgres(aim, killed(aim.cluster.postgres.primary())),
  "terminate-backends": (aim) =>
    ofPostgres(aim, { begin: () => terminateBackends(aim.cluster.postgres), heal: nothing }),
  "empty-synchronous-names": (aim) => ofPostgres(aim, emptiedNames(aim.cluster.postgres)),
  "promote-lagging-standby": (aim) => ofPostgres(aim, laggingPromotion(aim.cluster.postgres)),
  "kill-nats": (aim) => ofServer(aim, (server) => killed(patient(server))),
  "restart-nats": (aim) =>
    ofServer(aim, (server) => ({ begin: () => within(server.restart(), servesWithinMs), heal: nothing })),
  "pause-nats": (aim) => ofServer(aim, (server) => paused(server)),
  "kill-all-nats": (aim) => ofHomeNats(aim, killed(patient(aim.home.nats))),
  "pause-all-nats": (aim) => ofHomeNats(aim, paused(aim.home.nats)),
  "delete-stream": (aim) => ofHomeNats(aim, { begin: () => deleteStreams(aim.home.nats, aim), heal: nothing }),
  "delete-mirror": ({ cluster, target, note }) => ({
    target: `JetStream of ${target}`,
    regions: [target],
    isolates: [],
    holds: [],
    begin: () => deleteStreams(cluster.region(target).nats, { cluster, note }),
    heal: nothing,
  }),
  "hostile-nats-client": (aim) => ofHomeNats(aim, flood(aim.home)),
} satisfies Readonly<Record<string, Inject>>;

/** Commits hang without a standby, are released without having waited, and later ones do not wait. */
async function stopWaiting(postgres: PostgresGroup): Promise<string> {
  const [row] = await postgres.sql("show synchronous_standby_names");
  await postgres.detachStandbys();
  await delay(hangMs);
  await setSynchronousNames(postgres, "");
  return String(row?.["synchronous_standby_names"]);
}

async function setSynchronousNames(postgres: PostgresGroup, names: string): Promise<void> {
  await postgres.sql(`alter system set synchronous_standby_names = '${names}'`);
  await postgres.sql("select pg_reload_conf()");
}

function emptiedNames(postgres: PostgresGroup): Acts {
  let names = "";
  return {
    async begin() {
      names = await stopWaiting(postgres);
    },
    async heal() {
      if (names !== "") await setSynchronousNames(postgres, names);
      await postgres.attachStandbys();
    },
  };
}

/** Changes acknowledged between the two are on the primary alone and are lost with it. */
function laggingPromotion(postgres: PostgresGroup): Acts {
  return {
    begin: async () => void (await stopWaiting(postgres)),
    async heal() {
      await postgres.kill();
      await postgres.failOver("accept");
    },
  };
}

async function terminateBackends(postgres: PostgresGroup): Promise<void> {
  await withClient(postgres.primary().connectionString(), (client) =>
    client.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'",
    ),
  );
}

/** A NATS client without a secret, which sends the messages that cost receivers most. */
function flood({ nats }: ClusterRegion): Acts {
  const over = new AbortController();
  let ended: Promise<void> = Promise.resolve();
  return {
    async begin() {
      const client = await startHostileNatsClient({ servers: nats.urls, cluster: clusterName });
      const send = async (): Promise<void> => {
        for (let turn = 0; !over.signal.aborted; turn++)
          await client.send(hostileKinds[turn % hostileKinds.length] ?? "small", 10);
      };
      ended = send().finally(() => client.close());
      ended.catch(() => {}); // heal() has the error
    },
    async heal() {
      over.abort();
      await ended;
    },
  };
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

/**
 * The replay buffer or its mirror, and the decision records: all of JetStream. The judge gets the records first.
 * Without a quorum this has to wait.
 */
async function deleteStreams(nats: NatsCluster, { cluster, note }: Pick<Aim, "cluster" | "note">): Promise<void> {
  for (let attempt = 1; !(await isKept(nats, { cluster, note })) && attempt < keepAttempts; attempt++);
  for (let attempt = 1; ; attempt++) {
    try {
      return await deleteStreamsOnce(nats);
    } catch (error) {
      if (attempt === deleteAttempts) throw error;
      await delay(1_000);
    }
  }
}

async function isKept({ urls }: NatsCluster, { cluster, note }: Pick<Aim, "cluster" | "note">): Promise<boolean> {
  try {
    await cluster.auditStreams.keep(urls);
    return true;
  } catch (error) {
    note(`the records in JetStream were not read: ${error}`);
    return false;
  }
}

async function deleteStreamsOnce(nats: NatsCluster): Promise<void> {
  const connection = await connect({ servers: [...nats.urls], timeout: 3_000, maxReconnectAttempts: 1 });
  try {
    const manager = await jetstreamManager(connection, { timeout: 3_000 });
    for await (const name of manager.streams.names()) await manager.streams.delete(name);
  } finally {
    await connection.close();
  }
}

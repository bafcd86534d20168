/**
 * Changing databroker: the broker of a region that may hold the leader (`broker.homes`). It contends for the lead while
 * the Postgres primary is in its region, and serves its region otherwise.
 *
 * - It reads the role and the head of every Postgres server about once a second and changes by itself
 *   (src/broker/region/home-role.ts). No file is edited when the home region moves.
 * - One API serves both parts. While they change, callers get 503 and try again.
 * - A part that stops may still wait for a store or a leader that is gone, so the other part starts without waiting for
 *   that. The same part never runs twice.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  type Broker,
  type ChosenRole,
  chooseRole,
  type Duty,
  type HomeRole,
  isUnsettled,
  mustAskElsewhere,
  unavailableDatabroker,
} from "../../broker/index.ts";
import { type Config, postgresServerOf } from "../../config/index.ts";
import { type BrokerId, type Epoch, type NodeId, noEpoch } from "../../events/index.ts";
import { mirrorName, originName } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";
import { parsePostgresHosts, ServerHeadsReader } from "../../replication/log/index.ts";
import type { SnapshotSupply } from "../../replication/snapshot/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import { CannotError } from "../terminal/command.ts";
import { clientOf } from "./broker-client.ts";
import { type DatabrokerParts, startLocalBroker } from "./broker-parts.ts";
import { startDatabrokerApi } from "./databroker-api.ts";
import { natsFanoutOf } from "./nats-parts.ts";
import { startRegion } from "./region-parts.ts";

type Options = Readonly<{ node: NodeId; logger: Logger; duties: readonly Duty[] }>;
type Part = Readonly<{ role: HomeRole; parts: DatabrokerParts }>;

/** How often the servers are read, ms. */
const lookMs = { settled: 1_000, unsettled: 200 };
/** Time limits of one reading, ms. A server that does not answer is left out for a while. */
const readMs = { connectTimeoutMs: 1_000, statementTimeoutMs: 1_500, retryMs: 2_000 };
const elsewhereMsMax = 1_500;
const changing = "this broker is changing its part";

/** @throws CannotError */
export async function startChangingDatabroker(config: Config, options: Options): Promise<DatabrokerParts> {
  const { node, logger } = options;
  const look = createLook(config, options);
  const ending = new AbortController();
  const unreadable = Promise.withResolvers<string | null>();
  /** Parts that are stopping. */
  const lingering: Record<HomeRole, Promise<void>> = { home: Promise.resolve(), region: Promise.resolve() };
  const measures = new Set<string>();
  let part: Part | null = null;
  let roleChanges = 0;

  async function change({ role, why }: ChosenRole): Promise<void> {
    const before = part;
    part = null;
    if (before !== null) {
      roleChanges += 1;
      const from = before.role;
      logger.warn({ from, to: role, why }, "the home region has moved; this broker changes its part");
      lingering[from] = before.parts.stop().catch((err: unknown) => {
        logger.warn({ err, role: from }, "the former part of this broker did not stop cleanly");
      });
    }
    await lingering[role];
    const parts =
      role === "home"
        ? await startHome(config, { ...options, own: look.own })
        : await startRegion(config, { node, logger, api: "elsewhere" });
    part = { role, parts };
    logger.info({ role, why }, "this broker has taken its part");
    void parts.broker?.whenRead().then((problem) => {
      if (problem !== null) unreadable.resolve(problem);
    });
  }

  /** @returns how long to wait before the next look, ms */
  async function follow(): Promise<number> {
    const { chosen, settled } = await look.now(part?.role ?? null);
    if (chosen.role !== part?.role) await change(chosen);
    return settled ? lookMs.settled : lookMs.unsettled;
  }

  async function keepFollowing(): Promise<void> {
    let pauseMs = lookMs.settled;
    while (!ending.signal.aborted) {
      await delay(pauseMs, undefined, { signal: ending.signal, ref: false });
      try {
        pauseMs = await follow();
      } catch (err) {
        pauseMs = lookMs.settled;
        logger.error({ err }, "this broker could not take its part; trying again");
      }
    }
  }

  const broker = facadeOf(node, {
    current: () => part?.parts.broker ?? null,
    role: () => part?.role ?? null,
    roleChanges: () => roleChanges,
    whenRead: () => unreadable.promise,
    measures,
  });
  try {
    await follow();
    const server = await startDatabrokerApi(config, { broker, supply: supplyOf(() => part), logger });
    const following = keepFollowing().catch(() => {}); // only the end of the process rejects it
    return {
      get fanout() {
        return part?.parts.fanout ?? null;
      },
      get log() {
        return part?.parts.log ?? null;
      },
      get snapshotService() {
        return part?.parts.snapshotService ?? null;
      },
      broker,
      snapshots: { supply: supplyOf(() => part), folder: "none" },
      forRole: (role) => broker.databroker(role),
      answersRefused: () => part?.parts.answersRefused() ?? {},
      apiCounts: server?.metrics,
      address: server === null ? undefined : { host: config.broker.listen?.host ?? "", port: server.port },
      async stop() {
        ending.abort();
        await following;
        await part?.parts.stop();
        await Promise.all(Object.values(lingering));
        await server?.close();
        await look.close();
      },
    };
  } catch (error) {
    await look.close();
    throw error;
  }
}

/** The part that contends for the lead. Its log prefers the servers of its own region. */
function startHome(
  config: Config,
  options: Options & Readonly<{ own: ReadonlySet<string> }>,
): Promise<DatabrokerParts> {
  const { node, logger, duties, own } = options;
  const { region, broker } = config;
  const nats = natsFanoutOf(config, {
    node,
    logger,
    keepReplayBuffer: true,
    retiredStreams: () => [mirrorName(originName(broker.clusterName), region)],
  });
  return startLocalBroker(config, nats, { node, logger, duties, api: "elsewhere", preferredHosts: own });
}

/** What this broker sees of the home region. @throws CannotError when the connection string lacks its own servers */
function createLook(config: Config, { node, logger }: Options) {
  const { store, broker, region } = config;
  if (store.type !== "postgres") throw new CannotError("broker.homes needs databroker_storage_type: postgres");
  const { connectionString } = store;
  const ownServers = broker.homes.find((home) => home.region === region)?.postgres ?? [];
  const names = parsePostgresHosts(connectionString).map(({ name }) => name);
  const own = new Set(names.filter((name) => ownServers.includes(postgresServerOf(name))));
  if (own.size === 0)
    throw new CannotError(
      `databroker_storage_connection_string names none of the Postgres servers that broker.homes has for region ${region} (${ownServers.join(", ")})`,
    );
  const reader = new ServerHeadsReader({ connectionString, cluster: broker.clusterName, ...readMs });
  const others = clientOf(config, { node, logger, urls: broker.homeUrls, role: "broker", audience: "home" });
  let lastRivals = "";

  /** The epoch of a leader in another region; null: its brokers name none. */
  async function elsewhereEpoch(): Promise<Epoch | null> {
    const answer = others.status().catch((error: unknown) => {
      if (error instanceof BrokerUnavailableError) return null;
      throw error;
    });
    answer.catch(() => {}); // it may fail after the time is up
    const status = await Promise.race([answer, delay(elsewhereMsMax, null, { ref: false })]);
    const url = status?.leader?.url ?? null;
    if (status?.leader === null || status?.leader === undefined || url === null || !URL.canParse(url)) return null;
    const isElsewhere = broker.homeUrls.some(({ href }) => href === new URL(url).href);
    return isElsewhere ? status.leader.epoch : null;
  }

  return {
    own,
    async now(current: HomeRole | null): Promise<Readonly<{ chosen: ChosenRole; settled: boolean }>> {
      const seen = await reader.read();
      const rivals = seen.rivals.map(({ host, why }) => `${host} ${why}`).join("; ");
      const hosts = seen.rivals.map(({ host }) => host).join(", ");
      if (hosts !== lastRivals && rivals !== "")
        logger.error(
          { rivals, newest: seen.newest?.host },
          "a Postgres server rivals the newest log; it is not used. Stop it, and bring it back as a standby",
        );
      lastRivals = hosts;
      const elsewhere = mustAskElsewhere(seen) ? await elsewhereEpoch() : null;
      return { chosen: chooseRole(current, { ...seen, own, elsewhere }), settled: !isUnsettled(seen) };
    },
    async close(): Promise<void> {
      await Promise.all([reader.close(), others.close()]);
    },
  };
}

type Facade = Readonly<{
  current: () => Broker | null;
  role: () => HomeRole | null;
  roleChanges: () => number;
  whenRead: () => Promise<string | null>;
  /** The names of all measures that were ever reported. */
  measures: Set<string>;
}>;

/** One broker for the rest of the process, whatever its part. */
function facadeOf(node: NodeId, { current, role, roleChanges, whenRead, measures }: Facade): Broker {
  return {
    brokerId: node as string as BrokerId,
    databroker: (as) => current()?.databroker(as) ?? unavailableDatabroker(changing),
    databrokerFor: (callOrigin) => current()?.databrokerFor(callOrigin) ?? unavailableDatabroker(changing),
    receiveGossip: (presence, gossip) => current()?.receiveGossip(presence, gossip) ?? { epoch: noEpoch, urls: [] },
    leading: () => current()?.leading() ?? false,
    ready: () => current()?.ready() ?? { ready: false, reasons: [changing] },
    whenRead,
    metrics() {
      const now = current()?.metrics() ?? {};
      for (const name of Object.keys(now)) measures.add(name);
      // A measure of the other part keeps its last value unless it is overwritten.
      const absent = [...measures].filter((name) => !Object.hasOwn(now, name));
      return {
        ...Object.fromEntries(absent.map((name) => [name, Number.NaN])),
        ...now,
        atHome: role() === "home" ? 1 : 0,
        roleChanges: roleChanges(),
      };
    },
    regions: () => current()?.regions() ?? [],
    get copy() {
      return current()?.copy ?? null;
    },
    async exchangeRevocations(question) {
      const exchange = current()?.exchangeRevocations;
      if (exchange === undefined) throw new BrokerUnavailableError(changing);
      return exchange(question);
    },
    stop: async () => {}, // the parts stop it
  };
}

/** The snapshots of the current part. */
function supplyOf(current: () => Part | null): SnapshotSupply {
  function supply(): SnapshotSupply {
    const found = current()?.parts.snapshots?.supply;
    if (found === undefined) throw new BrokerUnavailableError(changing);
    return found;
  }
  return {
    manifest: async (newerThan) => supply().manifest(newerThan),
    chunk: async (hash) => supply().chunk(hash),
    keysAfter: async (user, limit) => supply().keysAfter(user, limit),
  };
}

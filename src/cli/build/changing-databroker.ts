/**
 * Changing databroker: the broker of a region that may hold the leader (`broker.homes`). It contends for the lead while
 * the Postgres primary is in its region, and serves its region otherwise.
 *
 * - It reads the role and the head of every Postgres server about once a second and changes by itself
 *   (src/broker/region/home-role.ts). No file is edited when the home region moves.
 * - One API serves both parts. While they change, callers get 503 and try again.
 * - A part has stopped before the other one starts (src/cli/process/part-change.ts). So nothing in it waits for a
 *   leader that is gone: the goodbye of a regional broker is sent by the part that follows.
 */
import { setTimeout as delay } from "node:timers/promises";
import {
  type Broker,
  chooseRole,
  type Duty,
  formerLeader,
  type HomeRole,
  isUnsettled,
  mustAskElsewhere,
  unavailableDatabroker,
} from "../../broker/index.ts";
import { type Config, postgresServerOf } from "../../config/index.ts";
import {
  type BrokerId,
  type Epoch,
  type Incarnation,
  type NodeId,
  noEpoch,
  type Position,
} from "../../events/index.ts";
import { mirrorName, originName } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";
import { parsePostgresHosts, ServerHeadsReader } from "../../replication/log/index.ts";
import type { SnapshotSupply } from "../../replication/snapshot/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import { PartChange } from "../process/part-change.ts";
import { CannotError } from "../terminal/command.ts";
import { clientOf } from "./broker-client.ts";
import { type DatabrokerParts, startLocalBroker } from "./broker-parts.ts";
import { startDatabrokerApi } from "./databroker-api.ts";
import { natsFanoutOf } from "./nats-parts.ts";
import { type LeftGoodbye, startRegion } from "./region-parts.ts";

type Options = Readonly<{
  node: NodeId;
  logger: Logger;
  duties: readonly Duty[];
  /** As in `LocalBrokerOptions`. */
  neededAfter?: () => Position | null;
}>;
type FoundRole = Readonly<{ role: HomeRole; why: string; replaced: Incarnation | null; settled: boolean }>;

/** How often the servers are read (ms). Often while they are unsettled: no change is accepted during a move. */
const lookMs = { settled: 1_000, unsettled: 100 };
/** Time limits of one reading, ms. A server that does not answer is left out for a while. */
const readMs = { connectTimeoutMs: 1_000, statementTimeoutMs: 1_500, retryMs: 2_000 };
const elsewhereMsMax = 1_500;
const goodbyeAttempts = 120;
const goodbyeGapMs = 500;
const changing = "this broker is changing its part";

/** @throws CannotError */
export async function startChangingDatabroker(config: Config, options: Options): Promise<DatabrokerParts> {
  const { node, logger } = options;
  const look = createLook(config, options);
  const ending = new AbortController();
  const unreadable = Promise.withResolvers<string | null>();
  const measures = new Set<string>();
  /** The goodbye of a regional part that has stopped, for the leader of the next epoch. */
  let goodbye: LeftGoodbye | null = null;
  let roleChanges = 0;
  let replaced: Incarnation | null = null;

  const parts = new PartChange<HomeRole, DatabrokerParts>(async (role) => {
    if (role === "home") return startHome(config, { ...options, own: look.own, replaced });
    const started = await startRegion(config, { node, logger, api: "elsewhere" });
    const stop = async (): Promise<void> => {
      if (ending.signal.aborted) await started.stop();
      else goodbye = await started.stopBeforeRoleChange();
    };
    return { ...started, stop };
  }, logger);

  async function change(next: FoundRole): Promise<void> {
    const { role, why } = next;
    const from = parts.current?.role;
    if (from !== undefined) {
      roleChanges += 1;
      logger.warn({ from, to: role, why }, "the home region has moved; this broker changes its part");
    }
    replaced = next.replaced;
    const { broker: started } = await parts.change(role);
    logger.info({ role, why }, "this broker has taken its part");
    // A regional part needs no goodbye of the one before: its own renews replace it in the list of admitted nodes.
    if (role === "home" && goodbye !== null && started !== null)
      void forwardGoodbye(started, goodbye, { signal: ending.signal, logger });
    goodbye = null;
    void started?.whenRead().then((problem) => {
      if (problem !== null) unreadable.resolve(problem);
    });
  }

  /** @returns how long to wait before the next look, ms */
  async function follow(): Promise<number> {
    const looked = await look.now(parts.current?.role ?? null);
    if (looked.role !== parts.current?.role) await change(looked);
    return looked.settled ? lookMs.settled : lookMs.unsettled;
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

  const current = (): DatabrokerParts | null => parts.current?.part ?? null;
  const broker = facadeOf(node, {
    current: () => current()?.broker ?? null,
    role: () => parts.current?.role ?? null,
    roleChanges: () => roleChanges,
    whenRead: () => unreadable.promise,
    measures,
  });
  try {
    await follow();
    const server = await startDatabrokerApi(config, { broker, supply: supplyOf(current), logger });
    const following = keepFollowing().catch(() => {}); // only the end of the process rejects it
    return {
      get fanout() {
        return current()?.fanout ?? null;
      },
      get log() {
        return current()?.log ?? null;
      },
      get snapshotService() {
        return current()?.snapshotService ?? null;
      },
      broker,
      snapshots: { supply: supplyOf(current), folder: "none" },
      forRole: (role) => broker.databroker(role),
      answersRefused: () => current()?.answersRefused() ?? {},
      apiCounts: server?.metrics,
      address: server === null ? undefined : { host: config.broker.listen?.host ?? "", port: server.port },
      async stop() {
        ending.abort();
        await following;
        await parts.stop();
        await server?.close();
        await look.close();
      },
    };
  } catch (error) {
    await look.close();
    throw error;
  }
}

/**
 * The part that contends for the lead, at the servers of its own region alone. In a move of the home region it would
 * otherwise find the new primary first, lead there once more, and delay the broker of that region.
 */
function startHome(
  config: Config,
  options: Options & Readonly<{ own: ReadonlySet<string>; replaced: Incarnation | null }>,
): Promise<DatabrokerParts> {
  const { node, logger, duties, neededAfter, own, replaced } = options;
  const { region, broker } = config;
  const nats = natsFanoutOf(config, {
    node,
    logger,
    keepReplayBuffer: true,
    retiredStreams: () => [mirrorName(originName(broker.clusterName), region)],
  });
  const parts = { node, logger, duties, api: "elsewhere", onlyHosts: own, replaced } as const;
  return startLocalBroker(config, nats, neededAfter === undefined ? parts : { ...parts, neededAfter });
}

/**
 * Sends the goodbye of the stopped regional part to the new leader, so that the node does not count as absent. The
 * leader of that time may be gone.
 */
async function forwardGoodbye(
  broker: Broker,
  { envelope, waitMs }: LeftGoodbye,
  { signal, logger }: Readonly<{ signal: AbortSignal; logger: Logger }>,
): Promise<void> {
  await delay(waitMs, undefined, { signal, ref: false }).catch(() => {});
  for (let attempt = 0; attempt < goodbyeAttempts && !signal.aborted; attempt++) {
    try {
      await broker.databroker("broker").lease(envelope);
      return;
    } catch (err) {
      if (!(err instanceof BrokerUnavailableError)) {
        logger.warn(
          { err },
          "the leader refuses the goodbye of this broker's former part; retire the node if it is absent",
        );
        return;
      }
    }
    await delay(goodbyeGapMs, undefined, { signal, ref: false }).catch(() => {});
  }
  if (!signal.aborted)
    logger.warn({}, "no leader accepted the goodbye of this broker's former part; retire the node if it is absent");
}

/** What this broker sees of the home region. @throws CannotError when the connection string lacks its own servers */
function createLook(config: Config, { node, logger }: Options) {
  const { store, broker, region } = config;
  if (store.type !== "postgres") throw new CannotError("broker.homes needs databroker_storage_type: postgres");
  const { connectionString } = store;
  const ownHome = broker.homes.find((home) => home.region === region);
  const ownServers = ownHome?.postgres ?? [];
  const advertised = broker.advertisedUrl === null ? [] : [broker.advertisedUrl];
  const ownUrls = new Set([...(ownHome?.urls ?? []), ...broker.urls, ...advertised].map(({ href }) => href));
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
    async now(current: HomeRole | null): Promise<FoundRole> {
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
      const evidence = { ...seen, own, elsewhere };
      return {
        ...chooseRole(current, evidence),
        replaced: formerLeader(evidence, ownUrls),
        settled: !isUnsettled(seen),
      };
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
function supplyOf(current: () => DatabrokerParts | null): SnapshotSupply {
  function supply(): SnapshotSupply {
    const found = current()?.snapshots?.supply;
    if (found === undefined) throw new BrokerUnavailableError(changing);
    return found;
  }
  return {
    manifest: async (newerThan) => supply().manifest(newerThan),
    chunk: async (hash) => supply().chunk(hash),
    keysAfter: async (user, limit) => supply().keysAfter(user, limit),
    manifestUpTo: async (target) => (await supply().manifestUpTo?.(target)) ?? null,
    eventsAt: async (position) => (await supply().eventsAt?.(position)) ?? null,
  };
}

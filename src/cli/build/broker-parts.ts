/** Local broker: builds the broker of a process with its log, snapshots and the API that it serves. */
import { randomBytes, randomUUID } from "node:crypto";
import { setImmediate as turn } from "node:timers/promises";
import {
  type Broker,
  createLeaderClient,
  createSnapshotService,
  type Duty,
  type SnapshotService,
  startBroker,
} from "../../broker/index.ts";
import { type Config, type HostPort, windowLimits } from "../../config/index.ts";
import {
  type BrokerId,
  type Incarnation,
  type NodeId,
  type Position,
  parseCommandId,
  readsLevel,
} from "../../events/index.ts";
import { createLocalFanout, type Fanout } from "../../replication/fanout/index.ts";
import type { Databroker, Logger } from "../../replication/index.ts";
import type { RoleLimits } from "../../replication/lease/index.ts";
import type { EventLog } from "../../replication/log/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import { EventArchiveFolder, type SnapshotSupply } from "../../replication/snapshot/index.ts";
import type { BrokerClient, Role } from "../../replication/wire/index.ts";
import { massChangeLimitsOf } from "../process/mass-change-limits.ts";
import { version } from "../terminal/version.ts";
import { clientOf } from "./broker-client.ts";
import { startDatabrokerApi } from "./databroker-api.ts";
import { recordLeftRevocations } from "./left-revocations.ts";
import { openLog } from "./open-log.ts";
import { invalidatedByRotation, snapshotFolderOf, startSnapshotRefresh } from "./snapshot-parts.ts";

export type DatabrokerParts = Readonly<{
  /** Null: no fan-out; events arrive only by reads that wait at the head. */
  fanout: Fanout | null;
  broker: Broker | null;
  log: EventLog | null;
  /** The databroker as one role may use it. */
  forRole(role: Role): Databroker;
  /** The source of snapshots for nodes of this process; null: none, they read the log. */
  snapshots: Readonly<{ supply: SnapshotSupply; folder: "own" | "none" }> | null;
  /** The broker's snapshot service; null: none. */
  snapshotService: SnapshotService | null;
  /** Refused answers that claimed to come from a broker, by reason. */
  answersRefused(): Readonly<Record<string, number>>;
  /** Answers and refusals of the databroker API; absent if this process serves none. */
  apiCounts?: (() => Readonly<Record<string, number>>) | undefined;
  /** The bound address of the databroker API; absent if this process serves none. */
  address?: HostPort | undefined;
  stop(): Promise<void>;
}>;

export type LocalBrokerOptions = Readonly<{
  node: NodeId;
  logger: Logger;
  duties: readonly Duty[];
  /** Events after this position are needed by something that is not a node; null: nothing more. Absent: nothing. */
  neededAfter?: () => Position | null;
  /** `elsewhere`: another part of the process serves the API. Default: `here`. */
  api?: "here" | "elsewhere";
  /** The Postgres servers to use, named as in the connection string. Default: all. */
  onlyHosts?: ReadonlySet<string>;
  /** The leader of the former home region, whose silence this broker need not wait for. */
  replaced?: Incarnation | null;
}>;

/** How often the leader checks whether a snapshot is due. */
const snapshotCheckMs = 5_000;

/** @param nats null: batches reach only this process as they are committed */
export async function startLocalBroker(
  config: Config,
  nats: Fanout | null,
  options: LocalBrokerOptions,
): Promise<DatabrokerParts> {
  const fanout = nats ?? createLocalFanout({ logger: options.logger });
  // In the order in which they stop. If a part fails to start, the broker must not stay and lead unreachable.
  const stops: (() => Promise<unknown>)[] = [() => fanout.close()];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0)) await one();
  };
  try {
    const { logger, onlyHosts } = options;
    const log = await openLog(config, logger, { whenUnavailable: "wait", onlyHosts });
    stops.push(() => log.close());
    const others = otherBrokers(config, options);
    if (others !== null) stops.push(() => others.close());
    const snapshots = snapshotServiceOf(config, { log, others: others?.snapshots ?? null, logger: options.logger });
    const started = startBrokerOf(config, { ...options, log, fanout, snapshotService: snapshots });
    stops.unshift(() => started.stop());
    const broker = recordLeftRevocations(started, { ...options, dataDir: config.dataDir });
    stops.unshift(() => broker.stop());
    if (snapshots !== null && others !== null) {
      const { snapshotRefreshMs: everyMs } = config.broker;
      const refresh = async (signal: AbortSignal) => {
        if (broker.leading()) return false;
        const isNewer = await snapshots.refresh(signal);
        await snapshots.archive();
        return isNewer;
      };
      stops.unshift(startSnapshotRefresh(refresh, { everyMs, logger: options.logger }));
    }
    const supply = snapshots?.supply ?? null;
    const server = options.api === "elsewhere" ? null : await startDatabrokerApi(config, { broker, supply, logger });
    if (server !== null) stops.splice(1, 0, () => server.close());
    return {
      fanout,
      broker,
      log,
      snapshotService: snapshots,
      stop,
      snapshots: snapshots === null ? null : { supply: snapshots.supply, folder: "none" },
      forRole: (role) => broker.databroker(role),
      answersRefused: () => ({}), // counted among the broker's own measures
      apiCounts: server?.metrics,
      address: server === null ? undefined : { host: config.broker.listen?.host ?? "", port: server.port },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startBrokerOf(
  config: Config,
  parts: Readonly<{
    node: NodeId;
    logger: Logger;
    duties: readonly Duty[];
    log: EventLog;
    fanout: Fanout;
    snapshotService: SnapshotService | null;
    replaced?: Incarnation | null;
    neededAfter?: () => Position | null;
  }>,
): Broker {
  const { broker: settings } = config;
  const { snapshotService } = parts;
  return startBroker({
    log: parts.log,
    cluster: settings.clusterName,
    brokerId: parts.node as string as BrokerId,
    region: config.region,
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    fanout: parts.fanout,
    clock: systemClock,
    random: randomBytes,
    lease: {
      deltaMs: settings.leaseMs,
      drift: settings.clockDrift,
      beatMs: settings.beatMs,
      windowMaxMs: Math.max(...Object.values(windowLimits(config))),
      limits: limitsOf(config),
      ...(settings.listen === null && { remoteWindowMaxMs: 0 }),
    },
    takeoverMs: settings.takeoverMs,
    newLogLevel: readsLevel,
    massChange: massChangeLimitsOf(config),
    replaced: parts.replaced ?? null,
    advertisedUrl: settings.advertisedUrl?.href ?? null,
    leaderClient: createLeaderClient({
      cluster: settings.clusterName,
      secret: config.sharedSecret,
      previousSecret: config.sharedSecretPrevious,
      clock: systemClock,
      tlsCa: settings.tlsCa,
      allowPlaintext: true, // the configuration has refused it, or said so (grpc_insecure)
    }),
    version,
    duties: snapshotService === null ? parts.duties : [...parts.duties, snapshotService.duty],
    snapshots: snapshotService,
    ...(parts.neededAfter === undefined ? {} : { neededAfter: parts.neededAfter }),
    logger: parts.logger,
  });
}

function limitsOf(config: Config): RoleLimits {
  const windows = windowLimits(config);
  const limit = (role: keyof RoleLimits) => ({ nodesMax: config.broker.maxNodes[role], windowMaxMs: windows[role] });
  return { proxy: limit("proxy"), authorize: limit("authorize"), broker: limit("broker") };
}

/** The brokers from which this one copies snapshots; null: none. */
function otherBrokers(config: Config, options: Readonly<{ node: NodeId; logger: Logger }>): BrokerClient | null {
  const own = config.broker.advertisedUrl?.href;
  const urls = config.broker.urls.filter(({ href }) => href !== own);
  return urls.length === 0 ? null : clientOf(config, { ...options, urls, role: "broker" });
}

/** Null for a log in memory, which a snapshot would outlive. */
function snapshotServiceOf(
  config: Config,
  parts: Readonly<{ log: EventLog; others: SnapshotSupply | null; logger: Logger }>,
): SnapshotService | null {
  if (parts.log.kind === "memory") return null;
  const { broker } = config;
  const folder = snapshotFolderOf(config);
  const disk = new EventArchiveFolder(folder.path);
  const rules = { archiveMs: broker.archiveMs, bytesMax: broker.archiveMaxBytes };
  const takeTurn = async (): Promise<void> => void (await turn());
  return createSnapshotService({
    ...parts,
    cluster: broker.clusterName,
    folder,
    archive: { disk, rules, turn: takeTurn, now: () => systemClock.wall() },
    needsPreviousSecret: invalidatedByRotation(config),
    everyEvents: broker.snapshotEvery,
    retentionMs: broker.retentionMs,
    hold: broker.legalHold ? "everything" : "nothing",
    lookMs: snapshotCheckMs,
    commandId: () => parseCommandId(randomUUID()),
    turn: takeTurn,
  });
}

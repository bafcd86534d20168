/**
 * Regional databroker: the broker of a region other than the leader's, its copy of the log, its snapshots and its NATS.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  openAgeMark,
  openRegionCopy,
  type RegionalBroker,
  type RegionCopy,
  type RegionRevocationParts,
  startRegionalBroker,
} from "../../broker/index.ts";
import type { Config } from "../../config/index.ts";
import type { BrokerId, NodeId } from "../../events/index.ts";
import { type Fanout, originName } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";
import { createNodeSnapshots, type NodeSnapshots, startReplica } from "../../replication/node/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import { type SnapshotSupply, supplyFrom } from "../../replication/snapshot/index.ts";
import {
  type BrokerClient,
  BrokerUnavailableError,
  createBrokerClient,
  type LastGood,
  type Role,
} from "../../replication/wire/index.ts";
import { version } from "../terminal/version.ts";
import { startDatabrokerApi } from "./databroker-api.ts";
import { natsFanoutOf } from "./nats-parts.ts";
import { openRegionRevocations } from "./region-revocations.ts";
import { snapshotFolderOf, startSnapshotRefresh } from "./snapshot-parts.ts";

type Parts = Readonly<{ node: NodeId; logger: Logger }>;

/** @param parts.api `elsewhere`: another part of the process serves the API */
export async function startRegion(
  config: Config,
  { node, logger, api = "here" }: Parts & Readonly<{ api?: "here" | "elsewhere" }>,
) {
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const clients = new Map<Role, BrokerClient>();
  const kept: KeptGoodbye = { isWanted: false, goodbye: null };
  // A lost home region may answer nothing, not even a refusal. The renews of this broker find the new one in seconds.
  const lastGood: LastGood = { index: 0 };
  function home(role: Role): BrokerClient {
    const client =
      clients.get(role) ?? keepingGoodbye(homeClient(config, { node, logger, role, lastGood }), role, kept);
    clients.set(role, client);
    return client;
  }
  const { clusterName: cluster } = config.broker;
  const fanout = natsOf(config, { node, logger, home: () => home("broker") });
  const copy = openRegionCopy({
    path: join(config.dataDir, `region-${encodeURIComponent(node)}.sqlite`),
    cluster,
    onDamage: (problem) => logger.error({ problem }, "the region's copy of the log is damaged; rebuilding it"),
  });
  const folder = snapshotFolderOf(config);
  const snapshots = regionSnapshots(config, { node, logger, copy, home: home("broker").snapshots, folder });
  const revocations = openRegionRevocations(config, { node, logger });
  const { parts: local } = revocations;
  const mayLead = api === "elsewhere"; // the part of a process that contains the other one too
  const broker = startBrokerOf(config, { node, logger, copy, fanout, home, snapshots, revocations: local, mayLead });
  const stopRefresh = startSnapshotRefresh(
    async (signal) => {
      const newer = await snapshots.refresh(signal);
      const older = (await folder.list()).snapshots[1];
      if (newer && older !== undefined) copy.forgetUpTo(older.manifest.link);
      return newer;
    },
    { everyMs: config.broker.snapshotRefreshMs, logger },
  );
  const supply = supplyFrom(folder, async (user, limit) => copy.keysAfter(user, limit));
  const server = api === "elsewhere" ? null : await startDatabrokerApi(config, { broker, supply, logger });
  const parts = {
    fanout,
    broker,
    log: null,
    snapshotService: null,
    forRole: (role: Role) => broker.databroker(role),
    snapshots: { supply, folder: "none" } as const,
    apiCounts: server?.metrics,
    answersRefused() {
      const all: Record<string, number> = {};
      for (const client of clients.values())
        for (const [reason, count] of Object.entries(client.refused())) all[reason] = (all[reason] ?? 0) + count;
      return all;
    },
    stop: () => stopWith(() => broker.stop()),
    /** Stops where another part of this process follows. @returns what that part has to send; null: nothing */
    async stopBeforeRoleChange(): Promise<LeftGoodbye | null> {
      let waitMs = 0;
      await stopWith(async () => {
        kept.isWanted = true;
        waitMs = await broker.stopBeforeRoleChange();
      });
      return kept.goodbye === null ? null : { envelope: kept.goodbye, waitMs };
    },
  };
  async function stopWith(stopBroker: () => Promise<void>): Promise<void> {
    await stopRefresh();
    await stopBroker();
    await revocations.close();
    await server?.close();
    await Promise.all([...clients.values()].map((client) => client.close()));
    await fanout?.close();
    copy.close();
  }
  return parts;
}

/** The goodbye of a broker that has stopped. `waitMs`: it must not be sent before this time has passed. */
export type LeftGoodbye = Readonly<{ envelope: Uint8Array; waitMs: number }>;

type KeptGoodbye = { isWanted: boolean; goodbye: Uint8Array | null };

/**
 * Keeps the goodbye instead of sending it, once it is wanted. In the role of a broker, a regional broker sends only its
 * own lease messages, and the goodbye is the last one.
 */
function keepingGoodbye(client: BrokerClient, role: Role, kept: KeptGoodbye): BrokerClient {
  if (role !== "broker") return client;
  return {
    ...client,
    async lease(envelope) {
      if (!kept.isWanted) return client.lease(envelope);
      kept.goodbye = envelope;
      return null;
    },
  };
}

function startBrokerOf(
  config: Config,
  parts: Parts &
    Readonly<{
      copy: RegionCopy;
      fanout: Fanout | null;
      home: (role: Role) => BrokerClient;
      snapshots: NodeSnapshots;
      revocations: RegionRevocationParts;
      mayLead: boolean;
    }>,
): RegionalBroker {
  const { node, logger, copy, snapshots, mayLead } = parts;
  const { broker: settings } = config;
  const ownWindowMs = ownWindowMsOf(config);
  return startRegionalBroker({
    copy,
    logger,
    version,
    cluster: settings.clusterName,
    brokerId: node as string as BrokerId,
    region: config.region,
    fanout: parts.fanout,
    home: parts.home,
    clock: systemClock,
    random: randomBytes,
    mark: openAgeMark(join(config.dataDir, `leases-by-age-${encodeURIComponent(node)}`)),
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    renewMs: settings.renewMs,
    revocations: parts.revocations,
    mayLead,
    startReplica: ({ windowMs, ...wired }) =>
      startReplica({
        ...wired,
        name: node,
        role: "broker",
        region: config.region,
        version,
        configHash: () => config.hash,
        cluster: settings.clusterName,
        secret: config.sharedSecret,
        secretPrevious: config.sharedSecretPrevious,
        clock: systemClock,
        randomBytes,
        logger,
        windowMs: () => Math.max(ownWindowMs, windowMs()),
        dataDir: config.dataDir,
        snapshots,
        renewMs: settings.renewMs,
      }),
  });
}

/** The window for this file's own routes, if no node of the region needs more. */
function ownWindowMsOf({ broker, routes }: Config): number {
  return broker.leaseMs + Math.max(0, ...routes.map((route) => route.staleGraceMs));
}

/** Snapshots from the home region, or from this disk while that is unreachable. */
function regionSnapshots(
  config: Config,
  parts: Parts & Readonly<{ copy: RegionCopy; home: SnapshotSupply; folder: ReturnType<typeof snapshotFolderOf> }>,
): NodeSnapshots {
  const { copy, home, folder, logger } = parts;
  const supply: SnapshotSupply = {
    ...home,
    async keysAfter(user, limit) {
      try {
        const keys = await home.keysAfter(user, limit);
        copy.keepKeys(keys);
        return keys;
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError)) throw error;
        return copy.keysAfter(user, limit);
      }
    },
  };
  const snapshots = createNodeSnapshots({
    supply,
    logger,
    folder,
    open: folder.open,
    deniedFile: join(config.dataDir, `denied-${encodeURIComponent(parts.node)}`),
  });
  return {
    ...snapshots,
    async load(request) {
      // This disk has the log from its beginning, so no snapshot and no other broker is needed.
      return copy.needsSnapshot(request.first) ? snapshots.load(request) : null;
    },
  };
}

/** The NATS of the region, with a mirror of the replay buffer of the region that leads. */
function natsOf(config: Config, { home, ...options }: Parts & Readonly<{ home: () => BrokerClient }>): Fanout | null {
  const { broker, region, nats } = config;
  const own = broker.homes.find((each) => each.region === region)?.natsDomain ?? null;
  /** Undefined: the home region has granted this broker no lease yet. */
  function homeDomain(): string | null | undefined {
    if (broker.homes.length === 0) return nats?.homeDomain ?? null;
    const granter = home().grantedBy()?.href;
    return broker.homes.find(({ urls }) => urls.some(({ href }) => href === granter))?.natsDomain;
  }
  /** The stream of the time at which this region was the home region. */
  function retiredStreams(): readonly string[] {
    const domain = homeDomain();
    const isOther = own !== null && domain !== undefined && domain !== null && domain !== own;
    return isOther ? [originName(broker.clusterName)] : [];
  }
  return natsFanoutOf(config, {
    ...options,
    keepReplayBuffer: true,
    mirror: { region, homeDomain, placementCluster: nats?.placementCluster ?? null },
    retiredStreams,
  });
}

function homeClient(
  config: Config,
  { node, logger, role, lastGood }: Parts & Readonly<{ role: Role; lastGood: LastGood }>,
): BrokerClient {
  return createBrokerClient({
    role,
    lastGood,
    logger,
    urls: config.broker.homeUrls,
    audience: "home",
    name: node,
    cluster: config.broker.clusterName,
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    tlsCa: config.broker.tlsCa,
    allowPlaintext: true, // the configuration has refused it, or said so (grpc_insecure)
    clock: systemClock,
    randomBytes,
  });
}

/**
 * Composition root: builds the services of one process in the order of their dependencies, and stops them in reverse.
 *
 *   log, fan-out, broker → replica (follower, lease) → audit → sign-in, operator API → proxy → health and metrics
 */

import cluster from "node:cluster";
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { Registry } from "prom-client";
import {
  newRefreshMemory,
  newSignalMemory,
  newTransmitMemory,
  type RefreshMemory,
  type SignalMemory,
} from "../../auth/index.ts";
import { type Config, defaultProviderName, type HostPort, signInClientsOf } from "../../config/index.ts";
import { type NodeId, parseNodeId, type UnixMs } from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import { type NodeSnapshots, type ReplicaProcess, startReplica } from "../../replication/node/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import { addressCharsMax, addressesMax, type NodeKey, nodeKeyFrom } from "../../replication/wire/index.ts";
import { announceConfigurations } from "../process/announce-config.ts";
import { registerDirectoryMetrics } from "../process/directory-metrics.ts";
import { gcThreadsOf } from "../process/gc/gc-threads.ts";
import { tuneHeap } from "../process/gc/heap-tuning.ts";
import { startHealthServer } from "../process/health-server.ts";
import { hasSameDirectories, hasSameProviders } from "../process/kept-parts.ts";
import { openDirectories } from "../process/open-directories.ts";
import { registerProcessMetrics } from "../process/process-metrics.ts";
import { providerClientsOf, registerProviderMetrics } from "../process/provider-clients.ts";
import { type ProcessReadiness, readinessOf, routeShareOf } from "../process/readiness.ts";
import { registerRefreshCounts } from "../process/refresh-counts.ts";
import { registerSignalCounts } from "../process/signal-counts.ts";
import { registerTransmitCounts } from "../process/transmit-counts.ts";
import { CannotError } from "../terminal/command.ts";
import type { Output } from "../terminal/output.ts";
import { version } from "../terminal/version.ts";
import { watchOrphanedSpools } from "./audit/orphaned-spools.ts";
import { directoryDuty, profileRecordsOf, refreshDuty } from "./auth-parts.ts";
import { nodeRoleOf, startDatabroker } from "./databroker-parts.ts";
import { idleDutyOf } from "./idle/idle-parts.ts";
import type { LoadedConfig } from "./load.ts";
import { type ListenerName, type RequestServices, startRequestServices } from "./request-services.ts";
import { pollDuty, signalTransmittersOf, verificationDuty } from "./signals/signal-parts.ts";
import { transmitterDutyOf } from "./signals/transmitter-parts.ts";
import { logArchiveOf, nodeSnapshotsOf, startSnapshotRefresh } from "./snapshot-parts.ts";

export type Services = Readonly<{
  /** The configuration in force. */
  config(): Config;
  registry: Registry;
  /** The port of the health server; null: there is none. */
  healthPort: number | null;
  /**
   * Activates another configuration, which must not change what a running process cannot change (`reloadConfig`). One
   * at a time. Settles when what it denies has been cut. @throws if it fails; the previous one then stays
   */
  activate(loaded: LoadedConfig): Promise<void>;
  stop(): Promise<void>;
  /** Settles if this process cannot do its job. */
  failed: Promise<CannotError>;
}>;

const readyWithinMs = 15_000;

export async function startServices(
  loaded: LoadedConfig,
  { logger, output }: Readonly<{ logger: Logger; output: Output }>,
): Promise<Services> {
  const { config } = loaded;
  /** The configuration in force. Keys that count only at the start are read from `config`. */
  let current = config;
  const node = nodeNameOf(config);
  const key = nodeKeyFrom(randomBytes(32), {
    cluster: config.broker.clusterName,
    role: leaseRoleOf(config),
    name: node,
  });
  const { boot } = key;
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const now = (): UnixMs => systemClock.wall();
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).reverse()) {
      await one().catch((error: unknown) => logger.warn({ error: String(error) }, "a component did not stop cleanly"));
    }
  };

  try {
    const refreshes = newRefreshMemory();
    const signals = newSignalMemory();
    let provider = providersWithDuty(config, { logger, refreshes, signals });
    stops.push(() => provider.close());
    let sync = directoriesWithDuty(config, logger);
    stops.push(() => sync.close());
    const transmits = newTransmitMemory();
    const transmitter = transmitterDutyOf(config, { memory: transmits, recordsOf: profileRecordsOf, logger });
    stops.push(() => transmitter.close());
    const databroker = await startDatabroker(config, {
      node,
      logger,
      duties: [
        { ...provider.duty, run: (context) => provider.duty.run(context) },
        { ...sync.duty, run: (context) => sync.duty.run(context) },
        { ...provider.polls, run: (context) => provider.polls.run(context) },
        { ...provider.verifications, run: (context) => provider.verifications.run(context) },
        idleDutyOf(() => current),
        transmitter.duty,
      ],
      neededAfter: transmitter.neededAfter,
    });
    stops.push(() => databroker.stop());
    const failed = Promise.withResolvers<CannotError>();
    void databroker.broker?.whenRead().then((problem) => {
      if (problem !== null) failed.resolve(tooOldFor(problem));
    });

    const registry = new Registry();
    registerProviderMetrics(registry, () => provider.views());
    if (databroker.broker !== null) registerRefreshCounts(registry, refreshes, (id) => refreshLabelOf(current, id));
    registerSignalCounts(registry, signals);
    if (databroker.broker !== null) registerTransmitCounts(registry, transmits, systemClock.wall);
    const decides = config.services.has("proxy") || config.services.has("authorize");
    const needsReplica = decides || config.services.has("authenticate");
    const from = databroker.snapshots;
    const snapshots = from === null || !needsReplica ? null : nodeSnapshotsOf(config, { node, logger, ...from });
    const archive = from === null ? null : logArchiveOf(config, from);
    const replica = needsReplica
      ? startReplicaOf(() => current, {
          key,
          logger,
          databroker: databroker.forRole(nodeRoleOf(config)),
          fanout: databroker.fanout,
          snapshots,
        })
      : null;
    if (replica !== null) {
      registerDirectoryMetrics(registry, {
        replica,
        names: () => current.directories.map(({ name }) => name),
        now: systemClock.wall,
      });
      const { snapshotRefreshMs: everyMs } = config.broker;
      if (snapshots !== null)
        stops.push(startSnapshotRefresh((signal) => snapshots.refresh(signal), { everyMs, logger }));
      stops.push(async () => {
        await replica.goodbye();
        await replica.stop();
      });
    }

    /** Bound addresses, in the order of their start. */
    const bound = new Map<ListenerName, string>();
    const onListening = (listener: ListenerName, { host, port }: HostPort): void =>
      void bound.set(listener, `${host.includes(":") ? `[${host}]` : host}:${port}`);
    if (databroker.address !== undefined) onListening("broker", databroker.address);
    let requestServices: RequestServices | null = null;
    let phase: "starting" | "serving" | "draining" = "starting";
    const readiness = (): ProcessReadiness => {
      if (phase === "starting") return { ready: false, reasons: ["starting"] };
      const brokers = databroker.broker === null ? { ready: true, reasons: [] } : databroker.broker.ready();
      if (replica === null) return brokers;
      const overdueMs = replica.overdueMs(systemClock.monotonic());
      const own = readinessOf({
        ...replica.ready(),
        overdueMs,
        graceMs: longestGraceMs(current),
        draining: phase === "draining" ? "draining" : "serving",
      });
      return {
        ready: own.ready && brokers.ready,
        reasons: [...own.reasons, ...brokers.reasons],
        ...(decides ? { routes: routeShareOf(overdueMs, current.routes) } : {}),
      };
    };
    const { metricsAddress } = config;
    let healthPort: number | null = null;
    if (metricsAddress !== null) {
      const collect = registerProcessMetrics(registry, {
        replica,
        broker: databroker.broker,
        output,
        snapshots: () => databroker.snapshotService?.places() ?? [],
        archived: () => databroker.snapshotService?.archived() ?? null,
        answersRefused: () => databroker.answersRefused(),
        fanout: () => databroker.fanout?.status() ?? null,
        served: () => databroker.apiCounts?.() ?? {},
      });
      const health = await startHealthServer({
        listen: metricsAddress,
        registry,
        readiness,
        collect,
        access: config.metrics,
        moreMetrics: () => requestServices?.proxy?.routeMetrics() ?? [],
      });
      const address = health.server.address();
      healthPort = typeof address === "object" ? (address?.port ?? null) : null;
      if (healthPort !== null) onListening("metrics", { host: metricsAddress.host, port: healthPort });
      stops.push(() => health.close());
    }
    // Other workers serve meanwhile: a worker accepts no connection before it may permit a request.
    if (cluster.isWorker) await replica?.whenReady(readyWithinMs);
    if (replica !== null)
      requestServices = await startRequestServices(loaded, provider, {
        node,
        boot,
        replica,
        databroker,
        archive,
        registry,
        signals,
        now,
        logger,
        output,
        stops,
        onListening,
        config: () => current,
      });
    // A process that records watches them, too; of several workers, the first.
    else if (config.workers <= 1) stops.push(watchOrphanedSpools(config, { node: null, registry, logger }));

    tuneHeap();
    phase = "serving";
    stops.push(async () => {
      phase = "draining";
    });
    if (replica !== null && !(await replica.whenReady(readyWithinMs))) {
      if (replica.tooOld()) throw tooOldFor(replica.ready().reasons.join("; "));
      logger.warn({ reasons: replica.ready().reasons }, "not ready yet; no request is permitted until it is");
    }
    const announce =
      replica === null
        ? () => undefined
        : announceConfigurations({ node, logger, databroker: databroker.forRole(nodeRoleOf(config)) });
    announce(config);
    stops.push(async () => announce(null));
    logger.info(
      {
        node,
        boot,
        region: config.region,
        version,
        address: mainAddress(bound),
        listeners: Object.fromEntries(bound),
        gc: gcThreadsOf(process.execArgv),
      },
      "started",
    );
    return {
      config: () => current,
      registry,
      healthPort,
      async activate(next) {
        const before = { config: current, provider, sync };
        const other = hasSameProviders(current, next.config)
          ? provider
          : providersWithDuty(next.config, { logger, refreshes, signals });
        const otherSync = hasSameDirectories(current, next.config) ? sync : directoriesWithDuty(next.config, logger);
        current = next.config;
        try {
          const activated = await requestServices?.activate(next, other);
          provider = other;
          sync = otherSync;
          if (before.sync !== otherSync) await before.sync.close();
          void Promise.resolve(activated?.drained).then(() =>
            before.provider === other ? undefined : before.provider.close(),
          );
        } catch (error) {
          current = before.config;
          if (other !== before.provider) await other.close();
          if (otherSync !== before.sync) await otherSync.close();
          throw error;
        }
        transmitter.activate(next.config);
        announce(next.config);
      },
      stop,
      failed: failed.promise,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The bound address of the main service; null: the process listens on none. */
function mainAddress(bound: ReadonlyMap<ListenerName, string>): string | null {
  const order: readonly ListenerName[] = ["proxy", "authenticate", "decisions", "decisions_grpc", "broker", "metrics"];
  const main = order.find((listener) => bound.has(listener));
  return main === undefined ? null : (bound.get(main) ?? null);
}

export function nodeNameOf(config: Config): NodeId {
  return config.nodeName ?? parseNodeId(`${hostname().replace(/[^A-Za-z0-9._-]/g, "-")}-${config.address.port}`);
}

/** The role in which a process with these services holds its lease. */
function leaseRoleOf({ services }: Config): "proxy" | "authorize" {
  return services.has("proxy") ? "proxy" : "authorize";
}

/** Two providers may have issued the same client id. */
function refreshLabelOf(config: Config, idpId: string): string {
  const client = signInClientsOf(config).all.get(idpId);
  if (client === undefined) return idpId;
  return client.name === defaultProviderName ? client.clientId : client.name;
}

/** A finalized level is final. */
function tooOldFor(problem: string): CannotError {
  return new CannotError(`this build (${version}) cannot serve this cluster: ${problem}`);
}

/** The clients of the identity provider, and the refresh duty. No process waits for a provider to start. */
function providersWithDuty(
  config: Config,
  parts: Readonly<{ logger: Logger; refreshes: RefreshMemory; signals: SignalMemory }>,
) {
  const providers = providerClientsOf(config, { ...parts, transmittersOf: signalTransmittersOf });
  const polls = pollDuty(config, { transmitters: providers.signals, ...parts });
  const verifications = verificationDuty(config, { transmitters: providers.signals, ...parts });
  return { ...providers, duty: refreshDuty(config, { providers, ...parts }), polls, verifications };
}

/** The directories, and the duty that reads them. A run of an earlier configuration ends when it is closed. */
function directoriesWithDuty(config: Config, logger: Logger) {
  const directories = openDirectories(config, logger);
  const duty = directoryDuty(config, { directories, logger });
  const closed = new AbortController();
  return {
    duty: {
      ...duty,
      run: (context: Parameters<typeof duty.run>[0]) =>
        duty.run({ ...context, signal: AbortSignal.any([context.signal, closed.signal]) }),
    },
    async close() {
      closed.abort();
      duty.close();
      await directories.close();
    },
  };
}

/** The longest `stale_grace` of all routes, in milliseconds. */
function longestGraceMs(config: Config): number {
  const serves = config.services.has("proxy") || config.services.has("authorize");
  return serves ? Math.max(0, ...config.routes.map((route) => route.staleGraceMs)) : 0;
}

/**
 * The addresses of the brokers that a node uses. More than a renewal names, or longer ones: none, and the region then
 * accepts no revocation by itself.
 */
function brokersOf({ services, broker }: Config): Readonly<{ brokers?: readonly string[] }> {
  if (services.has("databroker")) return { brokers: [] };
  const brokers = broker.urls.map(({ origin }) => origin);
  const fits = brokers.length <= addressesMax && brokers.every((address) => address.length <= addressCharsMax);
  return fits ? { brokers } : {};
}

function startReplicaOf(
  current: () => Config,
  options: Readonly<{
    key: NodeKey;
    logger: Logger;
    databroker: Parameters<typeof startReplica>[0]["databroker"];
    fanout: Parameters<typeof startReplica>[0]["fanout"];
    snapshots: NodeSnapshots | null;
  }>,
): ReplicaProcess {
  const config = current();
  return startReplica({
    name: options.key.name,
    key: options.key,
    role: options.key.role,
    region: config.region,
    version,
    configHash: () => current().hash,
    cluster: config.broker.clusterName,
    secret: config.sharedSecret,
    secretPrevious: config.sharedSecretPrevious,
    databroker: options.databroker,
    fanout: options.fanout,
    clock: systemClock,
    randomBytes,
    logger: options.logger,
    windowMs: () => config.broker.leaseMs + longestGraceMs(current()),
    ...brokersOf(config),
    dataDir: config.dataDir,
    snapshots: options.snapshots,
    renewMs: config.broker.renewMs,
  });
}

/**
 * Request services: sign-in, the operator API, decisions and the proxy of one process.
 *
 * Audit, observers and listeners last as long as the process. Sign-in, the operator API, assertions and policies are
 * rebuilt for each configuration.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes, randomFillSync, randomUUID } from "node:crypto";
import { Counter, type Registry } from "prom-client";
import { type CommandKind, recordCommands } from "../../audit/index.ts";
import {
  accessUrlOf,
  beginSignIn,
  createAssertions,
  createBearerTokens,
  createDecisionAnnotator,
  createIdleGate,
  createRouteHost,
  createSignInGate,
  decide,
  factPositionOf,
  type RenderPage,
  type ReservedPathHandler,
  readCredential,
  requirementsOf,
  type SignalMemory,
  signInLoopOf,
} from "../../auth/index.ts";
import { type Config, type HostPort, idleLifetimesOf, signInClientsOf } from "../../config/index.ts";
import { createAccessRecorder } from "../../console/index.ts";
import type { BootId, NeededLink, NodeId, UnixMs } from "../../events/index.ts";
import {
  type AcmeServing,
  createProviderTokenSource,
  createRequestIds,
  type HandlerListener,
  type ProxyDeps,
  type ProxyServer,
  startHandlerListener,
  startProxy,
} from "../../proxy/index.ts";
import type { Databroker, Logger } from "../../replication/index.ts";
import type { ReplicaProcess } from "../../replication/node/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import type { LogArchive } from "../../replication/snapshot/index.ts";
import { registerAuditMetrics } from "../process/audit-metrics.ts";
import { identityCounts } from "../process/identity-counts.ts";
import type { ProviderClients } from "../process/provider-clients.ts";
import { workerShareOf } from "../process/workers.ts";
import type { Output } from "../terminal/output.ts";
import { watchOrphanedSpools } from "./audit/orphaned-spools.ts";
import { sealPortOf } from "./audit/seal-parts.ts";
import { startAudit } from "./audit-parts.ts";
import { authKeys } from "./auth-keys.ts";
import { authDepsOf, authenticateHostOf, callerResolver } from "./auth-parts.ts";
import { startAutocertOf } from "./autocert-parts.ts";
import { nodeRoleOf, type startDatabroker } from "./databroker-parts.ts";
import { startDecisionApi } from "./decision-parts.ts";
import { startActivityReports } from "./idle/activity-reports.ts";
import { routeIdleMs } from "./idle/idle-parts.ts";
import type { LoadedConfig } from "./load.ts";
import { startObservers } from "./observers.ts";
import { pagePartsOf, readPageAssets } from "./pages/page-parts.ts";
import { startRecheck } from "./recheck/recheck-parts.ts";
import { startRecords } from "./record-parts.ts";
import { startRedirect } from "./redirect-parts.ts";

export type RequestServiceParts = Readonly<{
  node: NodeId;
  boot: BootId;
  replica: ReplicaProcess;
  databroker: Awaited<ReturnType<typeof startDatabroker>>;
  /** What the brokers keep of the past; null: nothing. */
  archive: LogArchive | null;
  registry: Registry;
  signals: SignalMemory;
  now: () => UnixMs;
  logger: Logger;
  output: Output;
  /** The configuration in force. */
  config: () => Config;
  stops: (() => Promise<unknown>)[];
  /** Called with each bound address, with port 0 resolved. */
  onListening: (listener: ListenerName, address: HostPort) => void;
}>;

/** The listeners of a process, as its log names them. */
export type ListenerName = "proxy" | "authenticate" | "broker" | "metrics" | "decisions" | "decisions_grpc";

export type RequestServices = Readonly<{
  /** Null: this process runs no proxy. */
  proxy: ProxyServer | null;
  /**
   * `drained` settles when no request uses the previous configuration. @throws if it fails; the previous one then stays
   */
  activate(loaded: LoadedConfig, providers: ProviderClients): Promise<Readonly<{ drained: Promise<void> }>>;
}>;

/** How long to wait for a credential's link, including a read from a broker (docs/protocol.md §6.3). */
const catchUpMs = 1_500;
const auditCloseMs = 3_000;

export async function startRequestServices(
  loaded: LoadedConfig,
  providers: ProviderClients,
  parts: RequestServiceParts,
): Promise<RequestServices> {
  const { config } = loaded;
  const { replica, databroker, logger, output, stops } = parts;
  let inForce = loaded;
  const recheck = startRecheck(config, {
    node: parts.node,
    replica,
    logger,
    stops,
    registry: parts.registry,
    databroker: databroker.forRole("operator"),
    loaded: () => inForce,
  });
  const audit = await startAudit(config, {
    recheck,
    node: parts.node,
    boot: parts.boot,
    logger,
    output,
    seal: (payload) => replica.sealRecords(payload),
    sealPort: sealPortOf({ node: parts.node, replica, databroker: databroker.forRole(nodeRoleOf(config)), logger }),
  });
  stops.push(() => audit.close(auditCloseMs));
  registerAuditMetrics(parts.registry, { ...audit, spoolBytesMax: config.audit.spoolMaxBytes });
  // One of several workers is enough.
  if ((workerShareOf(process.env)?.index ?? 1) === 1) {
    const ownNode = audit.hasSpool ? parts.node : null;
    stops.push(watchOrphanedSpools(config, { node: ownNode, registry: parts.registry, logger }));
  }
  const catchUp = (link: NeededLink) => replica.waitFor(link, catchUpMs);
  const resolveCaller = callerResolver(replica);

  const { activity, stop: stopReports } = startActivityReports({
    registry: parts.registry,
    replica,
    databroker: databroker.forRole(nodeRoleOf(config)),
    hasIdleLifetime: () => idleLifetimesOf(parts.config()) !== null,
    logger,
  });
  stops.push(stopReports);

  const shadowed = new Counter({
    name: "cardea_shadow_decisions_total",
    help: "Decisions of routes with a shadow_policy, by the change that it would make",
    labelNames: ["route", "direction"],
    registers: [parts.registry],
  });

  const counts = identityCounts(parts.registry, { logger, now: systemClock.monotonic });
  const signIns = createSignInGate({
    leaderSilentMs: () => replica.leaderSilentMs(),
    limitMs: () => parts.config().broker.leaseMs + parts.config().broker.takeoverMs,
    onRefused: () => counts.signInsRefused.inc(),
    log: logger,
  });

  const callers = new AsyncLocalStorage<string>();
  const callerIp = (): string | undefined => callers.getStore();
  /** The databroker of a role, whose commands are recorded as of this kind. */
  const recorded = (kind: CommandKind): Databroker =>
    recordCommands(databroker.forRole(kind === "operator" ? "operator" : "authenticate"), {
      kind,
      record: (of, act) => audit.recorder.recordCommand(of, { ...act, region: config.region }),
      wall: parts.now,
      monotonic: systemClock.monotonic,
      callerIp,
    });
  const access = createAccessRecorder({
    record: (act) => audit.recorder.recordCommand("operator", { ...act, region: config.region }),
    now: parts.now,
    uuid: randomUUID,
    after: (ms, callBack) => void setTimeout(callBack, ms).unref(),
  });

  const pageAssets = readPageAssets();

  /** Builds what depends on the configuration. */
  async function build(loaded: LoadedConfig, known: ProviderClients, before: LoadedConfig | null) {
    const { config: own, policies } = loaded;
    const assertions = await createAssertions({
      signingKey: own.signingKey,
      signingKeyPrevious: own.signingKeyPrevious,
      sharedSecret: own.sharedSecret,
      sharedSecretPrevious: own.sharedSecretPrevious,
      claimsHeaders: own.jwtClaimsHeaders,
      groupsFilter: own.jwtGroupsFilter,
      issuerFormat: own.jwtIssuerFormat,
      bytesMax: own.identityHeadersBytesMax,
      groupsOfPolicy: (routeId) => policies.get(routeId)?.groupsNamed ?? [],
      onOversize: counts.onOversize,
      groupName: (id) => replica.projection.group(id)?.name,
      now: parts.now,
      uuid: randomUUID,
    });
    const idle = createIdleGate(idleLifetimesOf(own), activity);
    const pages = pagePartsOf(own, pageAssets, logger);
    const auth = authDepsOf(own, {
      databroker: recorded("authentication"),
      replica,
      catchUp,
      resolveCaller,
      idle,
      assertions,
      policies,
      providers: known,
      render: pages.render,
      pictureUrl: pages.pictureUrl,
      logger,
      signIns,
      onCodeExchange: (result) => counts.codeExchanges.inc({ result }),
      withCaller: (ip, run) => callers.run(ip, run),
      onLogout: (channel, result) => counts.logouts.inc({ channel, result }),
    });
    const clients = signInClientsOf(own);
    const host = own.services.has("authenticate")
      ? await authenticateHostOf(own, {
          auth,
          transmitters: known.signals,
          signals: parts.signals,
          operator: recorded("operator"),
          feed: audit.feed,
          audit,
          access,
          callerIp,
          archive: parts.archive,
          recheck,
          providers: known,
          now: parts.now,
          logger,
          config: parts.config,
          policies,
          pages,
        })
      : null;
    const routeHost = await createRouteHost(auth, [pages.registerAssets]);
    const deps = {
      config: own,
      render: pages.render,
      decide: ({ routeId, caller, request, now }) => decide({ policies, routeId, caller, request, now }),
      annotateDecision: createDecisionAnnotator({
        policies,
        shadows: loaded.shadows,
        positionOf: factPositionOf(replica),
        node: parts.node,
        traced: new Set(own.routes.filter((route) => route.auditTrace === "all").map(({ id }) => id)),
        onShadow: (route, direction) => shadowed.inc({ route, direction }),
      }),
      resolveCaller,
      idle,
      signInOf: clients.ofRoute,
      bearerTokens: createBearerTokens({
        databroker: auth.databroker,
        clock: auth.clock,
        sleep: auth.sleep,
        replica,
        catchUp,
        providerOf: known.of,
        issuers: known.issuers,
        idKey: authKeys(own).bearers,
        sessionMsMax: own.cookie.expireMs,
        groupsFromClaim: own.groupsFromClaim,
        ...(auth.provisionedFor === undefined ? {} : { provisionedFor: auth.provisionedFor }),
        ...(auth.signalRecordsFor === undefined ? {} : { signalRecordsFor: auth.signalRecordsFor }),
        maxSessionsPerUser: own.maxSessionsPerUser,
        uuid: randomUUID,
        log: logger,
        withCaller: (ip, run) => callers.run(ip, run),
        onVerified: (result) => counts.bearers.inc({ result }),
      }),
      accessUrlOf: (route, reader) => accessUrlOf(auth, route, reader),
      explain: (routeId) => requirementsOf(policies, routeId),
      credentials: {
        read: (headers, query) => readCredential(headers, query, own.cookie.name),
        verify: (token) => auth.handles.verify(token),
      },
      beginSignIn(asked, cookieHeader, { route, trace, keepsAddress }) {
        const { dependsOn, sessionLifetimeMs: sessionMsMax } = route;
        const idleMsMax = routeIdleMs(own, route);
        const how = { idpIds: clients.ofRoute(route).idpIds, dependsOn, sessionMsMax, idleMsMax };
        return beginSignIn(auth, asked, cookieHeader, { how, trace, keepsAddress });
      },
      signIns,
      signInLoopOf: (asked, cookieHeader) => signInLoopOf(auth, cookieHeader, asked),
      reserved: routeHost.handle,
      authenticateHost: host?.handle ?? null,
      assertions,
    } satisfies Partial<ProxyDeps>;
    const records = await startRecords(loaded, {
      before,
      logger,
      onChange: (type) => void proxy?.recordsChanged(type),
    });
    return { loaded, deps, close: () => Promise.all([host?.close(), routeHost.close(), records.stop()]) };
  }

  let proxy: ProxyServer | undefined;
  let current = await build(loaded, providers, null);
  stops.push(() => current.close());
  const autocert = startAutocertOf(config, { registry: parts.registry, logger });
  stops.push(async () => autocert.close());
  if (config.services.has("proxy") || current.deps.authenticateHost !== null) {
    const redirect = await startRedirect(parts.config, {
      challengeAnswer: autocert.challengeAnswer,
      useProxyProtocol: config.useProxyProtocol,
      logger,
      listen: config.httpRedirectAddress,
    });
    if (redirect !== null) stops.push(() => redirect.close());
  }

  const observers = await startObservers(config, { node: parts.node, logger, registry: parts.registry, output });
  stops.push(() => observers.close());
  const deciding = {
    identity: { node: parts.node, boot: parts.boot, region: config.region },
    clock: systemClock,
    replica,
    freshness: replica,
    catchUp,
    render: (...asked: Parameters<RenderPage>) => current.deps.render(...asked),
    recorder: audit.recorder,
    authorizeLog: observers.authorizeLog,
    logger,
  };
  stops.push(
    await startDecisionApi(config, {
      deciding,
      current: () => current.deps,
      registry: parts.registry,
      onListening: parts.onListening,
    }),
  );

  if (!config.services.has("proxy")) {
    const handle: ReservedPathHandler = (...asked) => current.deps.authenticateHost?.(...asked);
    const listener = config.services.has("authenticate")
      ? await startAuthenticateListener(parts.config, {
          handle,
          acme: autocert,
          logger,
          render: (...asked) => current.deps.render(...asked),
        })
      : null;
    if (listener !== null) {
      parts.onListening("authenticate", listener.address);
      stops.push(() => listener.close());
    }
    return {
      proxy: null,
      async activate(next, client) {
        const made = await build(next, client, current.loaded);
        listener?.reload(next.config);
        autocert.follow(next.config.autocert);
        const before = current;
        current = made;
        inForce = next;
        const drainTimedOut = new Promise<void>((resolve) => setTimeout(resolve, next.config.drainTimeoutMs).unref());
        return { drained: drainTimedOut.then(() => before.close()).then(() => undefined) };
      },
    };
  }

  const processDeps = {
    ...deciding,
    accessLog: observers.accessLog,
    tracing: observers.tracing,
    providerTokens: createProviderTokenSource({
      onAsked: (result) => counts.sessionTokens.inc({ result }),
      fetch: (id) => databroker.forRole(nodeRoleOf(config)).tokens(id),
      randomBytes,
    }),
    requestId: createRequestIds((bytes) => randomFillSync(bytes)),
  };
  const started = await startProxy({
    registry: parts.registry,
    acme: autocert,
    deps: { ...processDeps, ...current.deps },
  });
  proxy = started;
  parts.onListening("proxy", started.address);
  stops.push(async () => {
    replica.drain();
    await started.close();
  });
  return {
    proxy: started,
    async activate(next, client) {
      const made = await build(next, client, current.loaded);
      const activated = await started.activate({ ...processDeps, ...made.deps }).catch(async (error: unknown) => {
        await made.close();
        throw error;
      });
      const before = current;
      current = made;
      inForce = next;
      return { drained: activated.left.then(() => before.close()).then(() => undefined) };
    },
  };
}

/**
 * The listener of a process that runs authenticate without a proxy: every host on it is the authenticate host.
 * @param config the configuration in force
 */
function startAuthenticateListener(
  config: () => Config,
  {
    handle,
    acme,
    logger,
    render,
  }: Readonly<{ handle: ReservedPathHandler; acme: AcmeServing; logger: Logger; render: RenderPage }>,
): Promise<HandlerListener> {
  return startHandlerListener(config, {
    site: () => config().authenticateServiceUrl,
    handle,
    acme,
    clock: systemClock,
    render,
    requestId: randomUUID,
    onRefused: (code) => logger.debug({ code }, "refused"),
    onConnectionFailure: (failure) => logger.warn(failure, "listener connection failure"),
  });
}

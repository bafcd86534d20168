/** Sign-in, refresh and the operator API, built from a configuration. */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import type { FastifyRequest } from "fastify";
import { type Feed, type PastConfiguration, pastConfigurationOf, type Recheck } from "../../audit/index.ts";
import { createDirectoryDuty, type DirectoryDuty } from "../../auth/directory/index.ts";
import type { Assertions } from "../../auth/index.ts";
import {
  type AuthDeps,
  CallerCache,
  type CallerOptions,
  createAuthenticateHost,
  createHandleCodec,
  createRefresh,
  createRequestableRoutes,
  createRouteCatalog,
  createRouteProbe,
  createScimServer,
  createValueCipher,
  operatorSignIn,
  type Policies,
  type ProvisionedFor,
  provisionedFor,
  type RecordsOf,
  type RefreshMemory,
  type ReservedPathHandler,
  readLeasedSignInStatus,
  recordsOfAll,
  resolveCaller,
  type SignalMemory,
  type SignalTransmitter,
} from "../../auth/index.ts";
import type { Duty } from "../../broker/index.ts";
import { type Config, type DirectoryConfig, type ScimClientConfig, signInClientsOf } from "../../config/index.ts";
import {
  type AccessRecorder,
  type ApprovedRoute,
  createHomeLookup,
  createListCursors,
  describeRoute,
  type OperatorApiDeps,
  type OperatorCaller,
  operatorCallerOf,
  type PolicyLab,
  type PolicyOfRoute,
  registerConsole,
  registerOperatorApi,
  registerReceiptKeys,
  verifyOperatorToken,
} from "../../console/index.ts";
import { directoryClient, type UnixMs } from "../../events/index.ts";
import { compileRouteTable, createRecordedRequestReader } from "../../proxy/index.ts";
import type { Databroker, Logger, Replica } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import type { LogArchive } from "../../replication/snapshot/index.ts";
import { receiptKeys } from "../../replication/wire/index.ts";
import { massChangeLimitsOf } from "../process/mass-change-limits.ts";
import type { OpenDirectories } from "../process/open-directories.ts";
import type { ProviderClients } from "../process/provider-clients.ts";
import { version } from "../terminal/version.ts";
import type { AuditParts } from "./audit-parts.ts";
import { authKeys } from "./auth-keys.ts";
import { routeIdleMs } from "./idle/idle-parts.ts";
import { WorkerPolicyLab } from "./lab/policy-lab.ts";
import type { PageParts } from "./pages/page-parts.ts";
import { signalOperationsOf, signalRecordsOf, signalServerOf } from "./signals/signal-parts.ts";
import { operatorStreamsOf, registerTransmitterOf } from "./signals/transmitter-parts.ts";

const refreshCheckEveryMs = 1_000;
const directoryLookEveryMs = 1_000;
const nowS = (): number => Math.floor(systemClock.wall() / 1_000);

export function callerResolver(replica: Replica): AuthDeps["resolveCaller"] {
  const cache = new CallerCache();
  const open: CallerOptions["open"] = (sealed, userId) => replica.open(sealed, userId);
  return (handle, { idpIds, credentialInHeader, now }) =>
    resolveCaller(replica.projection, handle, { idpIds, credentialInHeader, now, open, cache });
}

export function authDepsOf(
  config: Config,
  parts: Readonly<{
    databroker: Databroker;
    replica: AuthDeps["replica"];
    catchUp: AuthDeps["catchUp"];
    resolveCaller: AuthDeps["resolveCaller"];
    idle: AuthDeps["idle"];
    assertions: Assertions;
    policies: Policies;
    providers: ProviderClients;
    render: AuthDeps["render"];
    pictureUrl: NonNullable<AuthDeps["pictureUrl"]>;
    signIns: AuthDeps["signIns"];
    onCodeExchange: NonNullable<AuthDeps["onCodeExchange"]>;
    onLogout: NonNullable<AuthDeps["onLogout"]>;
    withCaller: NonNullable<AuthDeps["withCaller"]>;
    logger: Logger;
  }>,
): AuthDeps {
  const keys = authKeys(config);
  const provisioned = provisionedOf(config);
  const signalRecords = signalRecordsOf(config);
  const routes = compileRouteTable(config.routes);
  const clients = signInClientsOf(config);
  return {
    settings: {
      authenticateUrl: config.authenticateServiceUrl,
      cookie: config.cookie,
      defaultIdpIds: clients.defaults.idpIds,
      idpIds: new Set(clients.all.keys()),
      providerNames: clients.all,
      sessionMsOf: (idpId) => clients.all.get(idpId)?.sessionLifetimeMs ?? null,
      signInFor(url) {
        const { hostname, pathname: path } = url;
        const port = url.port === "" ? null : Number(url.port);
        // An address outside every route's path uses the first route of its host.
        const route = routes.match({ hostname, port, path }) ?? routes.ofHost(hostname, port);
        return route === undefined
          ? { idpIds: clients.defaults.idpIds, dependsOn: [] }
          : {
              idpIds: clients.ofRoute(route).idpIds,
              dependsOn: route.dependsOn,
              sessionMsMax: route.sessionLifetimeMs,
              idleMsMax: routeIdleMs(config, route),
            };
      },
      groupsFromClaim: config.groupsFromClaim,
      maxSessionsPerUser: config.maxSessionsPerUser,
      signoutRedirectUrl: config.signoutRedirectUrl,
      programmaticRedirectHosts: config.programmaticRedirectDomainWhitelist,
      configHash: config.hash,
      urlKeys: keys.urls,
      // Without routes in its file an authenticate service accepts any origin; the signature still proves the caller.
      signOutToRoutes: config.signOutToRoutes,
      isRouteOrigin: config.routes.length === 0 && !config.services.has("proxy") ? () => true : routes.isRouteOrigin,
    },
    databroker: parts.databroker,
    replica: parts.replica,
    catchUp: parts.catchUp,
    clock: systemClock,
    sleep: (ms) => sleep(ms),
    handles: createHandleCodec({ issuer: config.authenticateServiceUrl.hostname, keys: keys.handles, nowS }),
    stateCipher: createValueCipher({ keys: keys.attempts, nowS }),
    handleCipher: createValueCipher({ keys: keys.handover, nowS }),
    signIns: parts.signIns,
    providerOf: parts.providers.of,
    render: parts.render,
    pictureUrl: parts.pictureUrl,
    describeRoute,
    onCodeExchange: parts.onCodeExchange,
    onLogout: parts.onLogout,
    withCaller: parts.withCaller,
    ...(provisioned === undefined ? {} : { provisionedFor: provisioned }),
    ...(signalRecords === undefined ? {} : { signalRecordsFor: signalRecords }),
    resolveCaller: parts.resolveCaller,
    idle: parts.idle,
    identityClaims: (principal, hostname) => parts.assertions.claimsOf(principal, hostname),
    assertionFor: config.jwtEndpoint
      ? async (principal, hostname) => (await parts.assertions.issue(principal, { hostname, mode: "cached" })).assertion
      : null,
    jwks: parts.assertions.jwks,
    routes:
      config.services.has("proxy") && config.routesPortal
        ? createRouteCatalog({ routes: config.routes, policies: parts.policies })
        : null,
    ...(config.services.has("proxy")
      ? { requestable: createRequestableRoutes(config.routes, (query) => createRouteProbe(parts.policies, query)) }
      : {}),
    random: { uuid: randomUUID, token: () => randomBytes(24).toString("base64url") },
    log: parts.logger,
  };
}

export async function authenticateHostOf(
  config: Config,
  parts: Readonly<{
    auth: AuthDeps;
    transmitters: readonly SignalTransmitter[];
    signals: SignalMemory;
    operator: Databroker;
    feed: Feed;
    audit: Pick<AuditParts, "history" | "status" | "verified">;
    access: AccessRecorder;
    callerIp: () => string | undefined;
    /** What the brokers keep of the past; null: nothing. */
    archive: LogArchive | null;
    /** Null: this process checks no decisions of other nodes. */
    recheck: Pick<Recheck, "counts"> | null;
    providers: ProviderClients;
    /** The configuration in force: a person who loses a role loses open streams. */
    config: () => Config;
    policies: Policies;
    pages: Omit<PageParts, "pictureUrl">;
    now: () => UnixMs;
    logger: Logger;
  }>,
): Promise<Readonly<{ handle: ReservedPathHandler; close(): Promise<void> }>> {
  const secrets = [config.sharedSecret, ...(config.sharedSecretPrevious === null ? [] : [config.sharedSecretPrevious])];
  const homeOutOfReach = createHomeLookup({ databroker: parts.operator, monotonic: parts.auth.clock.monotonic });
  const keys = await receiptKeys({ cluster: config.broker.clusterName, secrets });
  const { provisionedFor: correlation } = parts.auth;
  const scim =
    correlation === undefined
      ? null
      : createScimServer(parts.auth, {
          clients: config.scimClients,
          provisionedFor: correlation,
          region: config.region,
        });
  const signals = signalServerOf(config, parts);
  const signalOperations = signalOperationsOf(config, parts);
  const signalStreams = operatorStreamsOf(config, parts.auth, parts.operator);
  const callerOf = operatorCallers(config, { ...parts, homeOutOfReach });
  const fresh = (): boolean => parts.auth.replica.overdueMs(parts.auth.clock.monotonic()) <= 0;
  const policyLab = new WorkerPolicyLab();
  const host = await createAuthenticateHost(parts.auth, [
    parts.pages.registerAssets,
    (app) => signals?.register(app),
    (app) => scim?.register(app),
    registerTransmitterOf(config, parts.auth),
    (app) => registerReceiptKeys(app, keys),
    (app) =>
      registerOperatorApi(app, {
        databroker: parts.operator,
        replica: parts.auth.replica,
        feed: parts.feed,
        history: parts.audit.history,
        auditStatus: parts.audit.status,
        auditCounts: parts.audit.verified,
        access: parts.access,
        callerIp: parts.callerIp,
        directories: config.directories,
        ...(parts.archive === null ? {} : { archive: parts.archive }),
        ...whatIfParts(config, parts.policies, policyLab),
        ...(parts.recheck === null ? {} : { rechecks: parts.recheck.counts }),
        signInProviders: parts.providers.views,
        ...(correlation === undefined ? {} : { provisionedFor: correlation }),
        ...(signalOperations === undefined ? {} : { signals: signalOperations }),
        ...(signalStreams === undefined ? {} : { signalStreams }),
        callerOf,
        fresh,
        ...settingParts(config, parts.config),
        now: parts.now,
        sleep: (ms, signal) => sleep(ms, undefined, { signal, ref: false }),
        uuid: randomUUID,
        massChange: massChangeLimitsOf(config),
        routePolicies: () => routePolicies(config, parts.policies),
        region: config.region,
        cluster: config.broker.clusterName,
        version,
        cursors: createListCursors(secrets, randomBytes),
        idle: parts.auth.idle,
        providers: knownProviders(config),
        log: parts.logger,
      }),
    (app) =>
      registerConsole(app, {
        look: parts.pages.look,
        assetPath: parts.pages.assetPath,
        render: parts.pages.render,
        callerOf,
        fresh,
        now: parts.now,
        access: parts.access,
        callerIp: parts.callerIp,
        signIn: (path, reader) => operatorSignIn(parts.auth, path, reader),
        authenticateUrl: config.authenticateServiceUrl,
        cluster: config.broker.clusterName,
        replica: parts.auth.replica,
      }),
  ]);
  return {
    handle: host.handle,
    async close() {
      scim?.close();
      signals?.close();
      await Promise.all([policyLab.close(), host.close()]);
    },
  };
}

/** What answers questions about other policies, and about requests of the past. */
function whatIfParts(
  config: Config,
  policies: Policies,
  policyLab: PolicyLab,
): Pick<OperatorApiDeps, "recordReaderOf" | "ownConfiguration" | "policyLab"> {
  const ownConfiguration = (): PastConfiguration => pastConfigurationOf(config, policies);
  return { recordReaderOf: createRecordedRequestReader, ownConfiguration, policyLab };
}

/** @param inForce the configuration after reloads, which decides about roles */
function settingParts(
  { region, broker }: Config,
  inForce: () => Config,
): Pick<OperatorApiDeps, "roles" | "settings" | "stepUp" | "region" | "cluster" | "version"> {
  const stepUp = (): Config["stepUp"] => inForce().stepUp;
  return { roles: inForce, settings: inForce, stepUp, region, cluster: broker.clusterName, version };
}

/** Who may use the operator API and the console, by the roles in force. */
function operatorCallers(
  config: Config,
  parts: Readonly<{
    auth: AuthDeps;
    config: () => Config;
    homeOutOfReach: ReturnType<typeof createHomeLookup>;
  }>,
): (request: FastifyRequest) => Promise<OperatorCaller> {
  const { clusterName: cluster } = config.broker;
  const secrets = [config.sharedSecret, ...(config.sharedSecretPrevious === null ? [] : [config.sharedSecretPrevious])];
  return (request) =>
    operatorCallerOf(request, {
      authenticateOrigin: config.authenticateServiceUrl.origin,
      roles: parts.config(),
      verifyToken: (token) => verifyOperatorToken(token, { secrets, cluster, nowS: nowS() }),
      signedIn: (asking) => readLeasedSignInStatus(parts.auth, asking),
      requestable: () => requestableRoutes(parts.config()),
      homeOutOfReach: parts.homeOutOfReach,
    });
}

function knownProviders(config: Config): OperatorApiDeps["providers"] {
  const clients = signInClientsOf(config).all;
  return { nameOf: (idpId) => clients.get(idpId)?.name ?? null, refreshEveryMs: config.refreshEveryMs };
}

/** One list for each configuration: each request of the operator API reads it. */
const requestable = new WeakMap<Config, readonly ApprovedRoute[]>();

function requestableRoutes(config: Config): readonly ApprovedRoute[] {
  const known =
    requestable.get(config) ??
    config.routes.flatMap(({ id, requestAccess }) => (requestAccess === null ? [] : [{ id, requestAccess }]));
  requestable.set(config, known);
  return known;
}

function routePolicies({ routes }: Config, policies: Policies): readonly PolicyOfRoute[] {
  return routes.flatMap(({ id, name, from, routeGroups, requestAccess }) => {
    const policy = policies.get(id);
    return policy === undefined ? [] : [{ id, name, from: from.href, policy, routeGroups, requestAccess }];
  });
}

/** Which provisioned people a profile of the sign-in provider is; undefined: no SCIM client or directory is there. */
export function provisionedOf(config: Config): ProvisionedFor | undefined {
  return correlationOf(config, [...config.scimClients, ...config.directories.map(clientOfDirectory)]);
}

/** The records that a profile belongs to: of SCIM clients, directories and transmitters of signals. */
export const profileRecordsOf = (config: Config): RecordsOf =>
  recordsOfAll(provisionedOf(config), signalRecordsOf(config));

function correlationOf(
  { idp, signInProviders }: Config,
  clients: readonly ScimClientConfig[],
): ProvisionedFor | undefined {
  const named = new Map(signInProviders.map(({ name, url }) => [name, url.href]));
  return provisionedFor(clients, idp?.url.href ?? null, named);
}

function clientOfDirectory({ name, match, claim, signInProvider }: DirectoryConfig): ScimClientConfig {
  return { name: directoryClient(name), match, claim, provider: signInProvider };
}

/** The leader's duty to read the directories of the configuration in force. */
export function directoryDuty(
  config: Config,
  parts: Readonly<{ directories: OpenDirectories; logger: Logger }>,
): Duty & Pick<DirectoryDuty, "close"> {
  const correlation = correlationOf(config, config.directories.map(clientOfDirectory));
  const { run, close } = createDirectoryDuty({
    directories: () => parts.directories.directories,
    provisionedFor: correlation ?? (() => []),
    uuid: randomUUID,
    sleep: (ms, signal) => sleep(ms, undefined, { signal, ref: false }),
    pause: async () => void (await turn()),
    log: parts.logger,
  });
  return { name: "directories", everyMs: directoryLookEveryMs, run, close };
}

/** The leader's duty to fetch fresh claims from the identity provider. */
export function refreshDuty(
  config: Config,
  parts: Readonly<{ providers: ProviderClients; refreshes: RefreshMemory; logger: Logger }>,
): Duty {
  const provisioned = provisionedOf(config);
  const signalRecords = signalRecordsOf(config);
  const refresh = createRefresh({
    providerOf: parts.providers.of,
    ...(provisioned === undefined ? {} : { provisionedFor: provisioned }),
    ...(signalRecords === undefined ? {} : { signalRecordsFor: signalRecords }),
    groupsFromClaim: config.groupsFromClaim,
    uuid: randomUUID,
    pause: async () => void (await turn()),
    everyMs: config.refreshEveryMs,
    graceMs: config.refreshGraceMs,
    memory: parts.refreshes,
    log: parts.logger,
  });
  return { name: "refresh", everyMs: refreshCheckEveryMs, run: refresh };
}

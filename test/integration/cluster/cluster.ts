/**
 * Cluster: a real cluster on loopback for the tests of this folder. Postgres, NATS, brokers, authenticate and proxies
 * are separate processes, each with its own configuration and data folder. The demo identity provider, the upstream,
 * the load balancer and the relays run in the test's process.
 *
 * Everything ends with `stop`, or when the test process ends for any reason.
 */
import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createHandleCodec } from "../../../src/auth/index.ts";
import { authKeys } from "../../../src/cli/build/auth-keys.ts";
import { type Config, loadConfig, signInClientsOf } from "../../../src/config/index.ts";
import { mintOperatorToken, operatorApiPrefix } from "../../../src/console/index.ts";
import { type DemoProvider, startDemoProvider } from "../../../src/dev/index.ts";
import {
  type CommandId,
  formatLink,
  type Link,
  neededLink,
  parseGroupId,
  parseSessionId,
  parseUnixMs,
  type UserId,
  userIdOf,
} from "../../../src/events/index.ts";
import type { ClusterStatus, Receipt } from "../../../src/replication/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { startNats } from "../../support/nats.ts";
import { startPostgres } from "../../support/postgres.ts";
import { mainFile } from "../../support/program.ts";
import type { NatsCluster, PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type HttpReply, sendRequest, sendUntilDecided, untilDecided } from "./client.ts";
import {
  type ClusterSetup,
  configOf,
  hostOf,
  issuerOf,
  type ProcessSpec,
  routeNames,
  type Timing,
} from "./cluster-config.ts";
import { ClusterProcess, fasterStart, type ProcessPorts } from "./cluster-process.ts";
import { type Relay, startRelay } from "./relay.ts";
import { startUpstream, type Upstream } from "./upstream.ts";

export type ClusterOptions = Readonly<{
  timing: Timing;
  nats?: 1 | 3;
  /** More settings of the NATS servers. */
  natsConfig?: string;
  brokers?: number;
  /** How many authenticate processes: 1 by default. */
  authenticates?: number;
  /** The regions of the proxies, in turn: `proxy-1`, `proxy-2`, … */
  regions: readonly string[];
  /** Starts the Postgres server to use in place of a new one; it stops with the cluster. */
  postgres?: () => Promise<PostgresServer>;
  /** More routes, for every signed-in person, with their staleness settings. */
  moreRoutes?: Readonly<
    Record<string, Readonly<{ on_stale?: string; stale_grace?: string; session_idle_lifetime?: string }>>
  >;
  /** Extra environment variables, by the name of the process. */
  env?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** The name of a proxy that reaches NATS and the brokers through relays. */
  relayed?: string;
  /** Settings of the `broker` section of every process. */
  broker?: object;
  /** More settings of every process. */
  settings?: object;
  /** Prepares the empty database before the first process starts. */
  prepare?: (setup: ClusterSetup) => Promise<void>;
}>;

export type Session = Readonly<{ id: string; user: string; userId: UserId; link: Link; cookie: string }>;
export type CliResult = Readonly<{ code: number | null; out: string; err: string }>;
export type Change = Readonly<{ commandId: string; changed: boolean; link: Link; receipt: Receipt | null }>;

export type Cluster = Readonly<{
  postgres: PostgresServer;
  nats: NatsCluster;
  brokers: readonly ClusterProcess[];
  authenticate: ClusterProcess;
  /** All of them; `authenticate` is the first. */
  authenticates: readonly ClusterProcess[];
  proxies: readonly ClusterProcess[];
  proxy(n: number): ClusterProcess;
  provider: DemoProvider;
  upstream: Upstream;
  /** The load balancer: sends connections to all proxies in turn, until `setTargets`. */
  front: Relay;
  /** Relays between the relayed proxy, NATS and the brokers. */
  relays: Readonly<{ nats: Relay; brokers: readonly Relay[] }>;
  config: Config;
  setup: ClusterSetup;
  host(route: string): string;
  /** Creates a session by command, as authenticate does at a sign-in. */
  session(user: string, groups?: readonly string[]): Promise<Session>;
  /** Requests a page of a proxy; sends again while the proxy answers 503 with `Retry-After`. */
  get(proxy: ClusterProcess, route: string, session?: Session | null, path?: string): Promise<HttpReply>;
  /** Requests a page once. */
  getOnce(proxy: ClusterProcess, route: string, session?: Session | null): Promise<HttpReply>;
  /** Runs the real command line with the configuration of authenticate. */
  cardea(...args: readonly string[]): Promise<CliResult>;
  cardeaWith(configFile: string, ...args: readonly string[]): Promise<CliResult>;
  /** A client of the broker API in a role. */
  client(role: Role): BrokerClient;
  operator: Readonly<{
    /** The value of the header with a new operator token. */
    authorization(): Promise<string>;
    get(path: string): Promise<HttpReply>;
    post(path: string, body: object): Promise<HttpReply>;
    /** The default time-out allows for a slow machine. */
    revoke(session: Session, wait?: Readonly<{ wait: "all" | "region" | "none"; timeoutMs?: number }>): Promise<Change>;
    receipt(target: Link | string, options?: Readonly<{ wait?: string; timeoutMs?: number }>): Promise<Receipt>;
  }>;
  /** The leader's status; waits until a broker knows the leader. */
  status(): Promise<ClusterStatus>;
  leader(): Promise<ClusterProcess>;
  follower(): Promise<ClusterProcess>;
  stop(): Promise<void>;
}>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const sessionLifeMs = 3_600_000;
/** A command is retried for as long as a takeover takes on a slow machine. */
const submitMs = 60_000;
const receiptMs = 30_000;

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).reverse()) await one();
  };
  try {
    return await build(options, { stops, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(
  options: ClusterOptions,
  { stops, stop }: Readonly<{ stops: (() => Promise<unknown>)[]; stop: () => Promise<void> }>,
): Promise<Cluster> {
  const { moreRoutes = {} } = options;
  const folder = new TemporaryFolder("cluster");
  stops.push(async () => folder.remove());
  const [postgres, nats, upstream] = await Promise.all([
    (options.postgres ?? startPostgres)(),
    startNats({ size: options.nats ?? 1, config: options.natsConfig ?? "" }),
    startUpstream(),
  ]);
  stops.push(
    () => postgres.stop(),
    () => nats.stop(),
    () => upstream.close(),
  );

  const ports = await choosePorts(options);
  const setup: ClusterSetup = {
    clusterName: `test-${randomBytes(4).toString("hex")}`,
    sharedSecret: randomBytes(32).toString("base64"),
    cookieSecret: randomBytes(32).toString("base64"),
    idpSecret: randomBytes(16).toString("hex"),
    postgres: await postgres.newDatabase(),
    upstreamPort: upstream.port,
    frontPort: ports.front,
    idpPort: ports.idp,
    authenticatePort: ports.authenticate.address,
  };
  await options.prepare?.(setup);
  const brokerUrls = ports.brokers.map((each) => `http://127.0.0.1:${each.broker}`);
  const relays = {
    nats: await startRelay({ targets: nats.nodes.map((node) => node.port) }),
    brokers: await Promise.all(ports.brokers.map((each) => startRelay({ targets: [each.broker] }))),
  };
  const front = await startRelay({ targets: ports.proxies.map((each) => each.address), port: ports.front });
  for (const relay of [relays.nats, ...relays.brokers, front]) stops.push(() => relay.close());

  const provider = await startDemoProvider({
    issuer: new URL(issuerOf(setup)),
    listen: { host: "127.0.0.1", port: ports.idp },
    clientId: "cluster",
    clientSecret: setup.idpSecret,
    redirectUris: [`http://${hostOf(setup, "authenticate")}/oauth2/callback`],
    postLogoutRedirectUris: [`http://${hostOf(setup, "authenticate")}/.pomerium/signed_out`],
    backchannelLogoutUri: `http://${hostOf(setup, "authenticate")}/.pomerium/backchannel_logout`,
    control: { host: "127.0.0.1", port: 0 },
  });
  stops.push(() => provider.close());

  const newProcess = (spec: Pick<ProcessSpec, "name" | "services" | "region" | "ports">): ClusterProcess => {
    const dataDir = join(folder.path, "data", spec.name);
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const relayed = spec.name === options.relayed;
    const addresses = relayed
      ? {
          nats: [`nats://127.0.0.1:${relays.nats.port}`],
          brokerUrls: relays.brokers.map((relay) => `http://127.0.0.1:${relay.port}`),
        }
      : { nats: nats.urls, brokerUrls };
    const config = configOf({ ...spec, ...addresses }, setup, {
      ...{ timing: options.timing, dataDir, moreRoutes },
      broker: options.broker ?? {},
      settings: options.settings ?? {},
    });
    const created = new ClusterProcess({
      ...{ ...spec, folder: folder.path, dataDir, config },
      env: options.env?.[spec.name] ?? {},
    });
    stops.push(() => created.kill());
    return created;
  };
  const brokers = ports.brokers.map((each, i) =>
    newProcess({ name: `broker-${i + 1}`, services: ["databroker"], region: "north", ports: each }),
  );
  const authenticate = newProcess({
    ...{ name: "authenticate", services: ["authenticate"], region: "north" },
    ports: ports.authenticate,
  });
  const authenticates = [
    authenticate,
    ...ports.moreAuthenticates.map((each, i) =>
      newProcess({ name: `authenticate-${i + 2}`, services: ["authenticate"], region: "north", ports: each }),
    ),
  ];
  const proxies = ports.proxies.map((each, i) =>
    newProcess({ name: `proxy-${i + 1}`, services: ["proxy"], region: options.regions[i] ?? "north", ports: each }),
  );
  await Promise.all([...brokers, ...authenticates, ...proxies].map((each) => each.start()));

  const config = loadConfigFile(authenticate.configFile);
  const clients = new Map<Role, BrokerClient>();
  stops.push(() => Promise.all([...clients.values()].map((each) => each.close())));
  const client = (role: Role): BrokerClient => {
    const existing = clients.get(role);
    if (existing !== undefined) return existing;
    const created = createBrokerClient({
      ...{ role, urls: config.broker.urls, cluster: setup.clusterName, name: "test", secret: config.sharedSecret },
      ...{ clock: systemClock, randomBytes, logger: silent, submitMs },
    });
    clients.set(role, created);
    return created;
  };
  const host = (route: string): string => hostOf(setup, route);
  const operator = createOperator({ config, authenticate, host: host("authenticate") });
  const brokerThat = async (isLeading: boolean): Promise<ClusterProcess> =>
    waitFor("a leader and a follower", async () => {
      const { leader } = await client("operator").status();
      return leader === null ? undefined : brokers.find(({ name }) => (name === leader.brokerId) === isLeading);
    });
  await waitForStoredConfigurations(client("operator"));
  return {
    ...{
      postgres,
      nats,
      brokers,
      authenticate,
      authenticates,
      proxies,
      provider,
      upstream,
      front,
      relays,
      config,
      setup,
      host,
      client,
    },
    ...{ operator, stop },
    proxy(n) {
      const wanted = proxies[n - 1];
      if (wanted === undefined) throw new RangeError(`there is no proxy ${n}`);
      return wanted;
    },
    session: (user, groups = []) =>
      createSession(user, groups, {
        ...{ config, client: client("authenticate"), issuer: issuerOf(setup) },
        routes: [...routeNames, ...Object.keys(moreRoutes)],
      }),
    get: (proxy, route, session, path = "/") =>
      sendUntilDecided({
        port: proxy.ports.address,
        host: host(route),
        path,
        ...(session ? { cookie: session.cookie } : {}),
      }),
    getOnce: (proxy, route, session) =>
      sendRequest({ port: proxy.ports.address, host: host(route), ...(session ? { cookie: session.cookie } : {}) }),
    cardea: (...args) => runCardeaUntilServed([...args, "-c", authenticate.configFile]),
    cardeaWith: (configFile, ...args) => runCardea([...args, "-c", configFile]),
    status: () => statusWithLeader(client("operator")),
    leader: () => brokerThat(true),
    follower: () => brokerThat(false),
  };
}

/** Each process announces its configuration and offers the body a moment later; after that the log is quiet. */
async function waitForStoredConfigurations(client: BrokerClient): Promise<void> {
  await waitFor(
    "the body of every configuration to be stored",
    async () => {
      const { nodes } = await client.status();
      const stored = new Set<string>((await client.configurations()).map(({ configHash }) => configHash));
      return nodes.length > 0 && nodes.every(({ configHash }) => configHash !== null && stored.has(configHash));
    },
    { withinMs: 60_000 },
  );
}

/** Waits: a broker that is busy, or has just lost its leader, knows no leader for a moment. */
export function statusWithLeader(client: BrokerClient): Promise<ClusterStatus> {
  return waitFor(
    "a broker that knows the leader",
    async () => {
      const status = await client.status();
      return status.leader === null ? undefined : status;
    },
    { withinMs: 30_000 },
  );
}

async function choosePorts({ brokers = 2, authenticates = 1, regions }: ClusterOptions) {
  const free = await freePorts(2 + 3 * (brokers + authenticates + regions.length));
  const next = (): number => free.pop() ?? 0;
  const nextPorts = (): ProcessPorts => ({ address: next(), metrics: next(), broker: next() });
  return {
    ...{ front: next(), idp: next(), authenticate: nextPorts() },
    moreAuthenticates: Array.from({ length: authenticates - 1 }, nextPorts),
    brokers: Array.from({ length: brokers }, nextPorts),
    proxies: regions.map(nextPorts),
  };
}

export function loadConfigFile(path: string): Config {
  const loaded = loadConfig(path, { env: {} });
  if (!loaded.ok) throw new Error(loaded.problems.map((each) => `${each.key}: ${each.problem}`).join("\n"));
  return loaded.config;
}

export async function createSession(
  user: string,
  groups: readonly string[],
  by: Readonly<{ config: Config; client: BrokerClient; issuer: string; routes?: readonly string[] }>,
): Promise<Session> {
  const { config, issuer } = by;
  const sessionId = parseSessionId(randomUUID());
  const userId = userIdOf(issuer, user);
  const idpId = signInClientsOf(config).defaults.bearerIdpId;
  const now = Date.now();
  const result = await by.client.submit({
    commandId: randomUUID() as string as CommandId,
    actor: "service:authenticate",
    command: {
      type: "createSession",
      ...{ sessionId, userId, idpId },
      issuedAt: parseUnixMs(now),
      expiresAt: parseUnixMs(now + sessionLifeMs),
      profile: {
        ...{ issuer, subject: user, email: `${user}@example.com`, emailVerified: true, name: user },
        claims: { sub: [user], groups: [...groups] },
      },
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      groupIds: groups.map(parseGroupId),
      maxSessionsPerUser: 100,
    },
  });
  if (result.type !== "done") throw new Error(`no session: ${result.message}`);
  const handles = createHandleCodec({
    issuer: config.authenticateServiceUrl.hostname,
    keys: authKeys(config).handles,
    nowS: () => Math.floor(Date.now() / 1_000),
  });
  const audience = (by.routes ?? routeNames).map((name) => `${name}.localhost`);
  const handle = await handles.issue({ sessionId, userId, idpId, needs: neededLink(result), audience });
  return { id: sessionId, user, userId, link: result.link, cookie: `${config.cookie.name}=${handle}` };
}

export function createOperator(
  at: Readonly<{ config: Config; authenticate: ClusterProcess; host: string }>,
): Cluster["operator"] {
  async function authorization(): Promise<string> {
    const token = await mintOperatorToken({
      ...{ secret: at.config.sharedSecret, cluster: at.config.broker.clusterName, name: "test", tokenId: randomUUID() },
      ...{ nowS: Math.floor(Date.now() / 1_000), ttlS: 60 },
    });
    return `Bearer ${token}`;
  }
  async function call(method: string, path: string, body?: object): Promise<HttpReply> {
    return sendUntilDecided({
      ...{ method, port: at.authenticate.ports.address, host: at.host, path: `${operatorApiPrefix}${path}` },
      headers: { authorization: await authorization(), ...(body && { "content-type": "application/json" }) },
      ...(body && { body: JSON.stringify(body) }),
      timeoutMs: 60_000,
    });
  }
  const parseBody = <T>({ status, body }: HttpReply): T => {
    if (status !== 200) throw new Error(`the operator API answered ${status}: ${body}`);
    return JSON.parse(body) as T;
  };
  return {
    authorization,
    get: (path) => call("GET", path),
    post: (path, body) => call("POST", path, body),
    revoke: async (session, wait = { wait: "none" }) =>
      parseBody(
        await call(
          "POST",
          `/sessions/${session.id}/revoke`,
          wait.wait === "none" ? wait : { timeoutMs: receiptMs, ...wait },
        ),
      ),
    async receipt(target, { wait = "all", timeoutMs = receiptMs } = {}) {
      const text = typeof target === "string" ? `command:${target}` : `link:${formatLink(target)}`;
      return parseBody(await call("GET", `/receipts/${text}?wait=${wait}&timeout=${timeoutMs}`));
    },
  };
}

/** Runs the command again while a server answers 503, as a person at a terminal would. */
export function runCardeaUntilServed(args: readonly string[]): Promise<CliResult> {
  return untilDecided(
    () => runCardea(args),
    ({ code, err }) => code === 3 && err.includes(" answered 503: "),
  );
}

export function runCardea(args: readonly string[]): Promise<CliResult> {
  const child = spawn(process.execPath, ["--no-warnings", mainFile, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...fasterStart },
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
  });
}

/** The decision records of a node, oldest first. */
export function decisionsOf(process: ClusterProcess): readonly Record<string, unknown>[] {
  const text = readFileSync(join(process.dataDir, "audit/decisions.jsonl"), "utf8");
  return text
    .split("\n")
    .filter((line) => line.endsWith("}"))
    .map((line) => JSON.parse(line));
}

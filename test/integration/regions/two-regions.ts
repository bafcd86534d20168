/**
 * Two regions: a real cluster on loopback.
 *
 * - East is the home region, with Postgres, brokers, NATS and authenticate.
 * - West has its own broker, proxies, and a NATS server that is a leaf of the eastern one.
 * - All traffic between them passes over a WAN that is slow and can be cut. West reaches only the brokers and NATS of
 *   east.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { ClusterStatus } from "../../../src/replication/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { startNats } from "../../support/nats.ts";
import { startPostgres } from "../../support/postgres.ts";
import type { NatsCluster, PostgresServer } from "../../support/service.ts";
import { type HttpReply, sendRequest, sendUntilDecided } from "../cluster/client.ts";
import {
  type CliResult,
  createOperator,
  createSession,
  loadConfigFile,
  runCardeaUntilServed,
  type Session,
  statusWithLeader,
} from "../cluster/cluster.ts";
import { type ClusterSetup, configOf, hostOf, issuerOf, type Service, type Timing } from "../cluster/cluster-config.ts";
import { ClusterProcess, type ProcessPorts } from "../cluster/cluster-process.ts";
import { startRelay } from "../cluster/relay.ts";
import { startUpstream, type Upstream } from "../cluster/upstream.ts";
import { startWan, type Wan } from "./wan.ts";

export type TwoRegions = Readonly<{
  postgres: PostgresServer;
  upstream: Upstream;
  places: ClusterSetup;
  east: Readonly<{ nats: NatsCluster; brokers: readonly ClusterProcess[]; proxy: ClusterProcess }>;
  west: Readonly<{
    nats: NatsCluster;
    broker: ClusterProcess;
    /** All brokers of the region; `broker` is the first. */
    brokers: readonly ClusterProcess[];
    proxies: readonly ClusterProcess[];
  }>;
  /** The authenticate service of the west and its operator API. Null: its proxies use the eastern one. */
  westAuthenticate: Readonly<{
    process: ClusterProcess;
    operator: ReturnType<typeof createOperator>;
  }> | null;
  authenticate: ClusterProcess;
  /** All links between the regions at once. */
  wan: Readonly<{
    cut(): void;
    /** Only what the home region sends waits: it still receives, and acts on, what the west sends. */
    cutAnswers(): void;
    heal(): void;
    delay(ms: number): void;
    brokers: readonly Wan[];
    nats: Wan;
  }>;
  session(user: string, groups?: readonly string[]): Promise<Session>;
  /** `get` repeats the request while the proxy cannot decide; `getNow` sends it once. */
  get(proxy: ClusterProcess, route: string, session?: Session): Promise<HttpReply>;
  getNow(proxy: ClusterProcess, route: string, session?: Session): Promise<HttpReply>;
  operator: ReturnType<typeof createOperator>;
  client(role: Role): BrokerClient;
  /** A client in the role of a proxy, through one broker. */
  clientVia(broker: ClusterProcess): BrokerClient;
  /** The cluster status in the home region. */
  status(): Promise<ClusterStatus>;
  cardea(...args: readonly string[]): Promise<CliResult>;
  host(route: string): string;
  stop(): Promise<void>;
}>;

export type TwoRegionsOptions = Readonly<{
  timing: Timing;
  brokers?: number;
  westProxies?: number;
  westBrokers?: number;
  /**
   * Whether the west has an authenticate service of its own. `home`: its proxies call the eastern one over the WAN.
   * `none`: they call the eastern one over a link that is never cut.
   */
  westAuthenticate?: "none" | "one" | "home";
  lateMs?: number;
  /** Settings of the `broker` section of every process. */
  broker?: object;
  /** Runs on the empty database, before the first process starts. */
  prepare?: (places: ClusterSetup) => Promise<void>;
}>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };

export async function startTwoRegions(options: TwoRegionsOptions): Promise<TwoRegions> {
  const cleanups: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of cleanups.splice(0).reverse()) await one();
  };
  try {
    return await build(options, cleanups, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(
  {
    timing,
    brokers: brokerCount = 1,
    westProxies = 2,
    westBrokers = 1,
    westAuthenticate = "none",
    lateMs = 0,
    broker: more = {},
    prepare,
  }: TwoRegionsOptions,
  cleanups: (() => Promise<unknown>)[],
  stop: () => Promise<void>,
): Promise<TwoRegions> {
  const folder = new TemporaryFolder("regions");
  cleanups.push(async () => folder.remove());
  const [leafPort = 0, frontPort = 0, idpPort = 0, ...free] = await freePorts(
    3 + 3 * (brokerCount + westProxies + westBrokers + 3),
  );
  const takePorts = (): ProcessPorts => ({
    address: free.pop() ?? 0,
    metrics: free.pop() ?? 0,
    broker: free.pop() ?? 0,
  });
  const natsWan = await startWan(leafPort, { lateMs });
  cleanups.push(() => natsWan.close());
  // A leaf learns the advertised address of its server, and would connect to it around a cut.
  const leaf = `leafnodes { listen: "127.0.0.1:${leafPort}", advertise: "127.0.0.1:${natsWan.port}" }`;
  const [postgres, eastNats, upstream] = await Promise.all([
    startPostgres(),
    startNats({ domain: "east", config: leaf }),
    startUpstream(),
  ]);
  cleanups.push(
    () => postgres.stop(),
    () => eastNats.stop(),
    () => upstream.close(),
  );
  const remote = `leafnodes { reconnect: 1, remotes: [{ url: "nats-leaf://127.0.0.1:${natsWan.port}" }] }`;
  const westNats = await startNats({ domain: "west", config: `${remote}\nping_interval: "1s"` });
  cleanups.push(() => westNats.stop());

  const ports = {
    brokers: Array.from({ length: brokerCount }, takePorts),
    ...{ authenticate: takePorts(), eastProxy: takePorts(), westAuthenticate: takePorts() },
    westBrokers: Array.from({ length: westBrokers }, takePorts),
    westProxies: Array.from({ length: westProxies }, takePorts),
  };
  const places: ClusterSetup = {
    clusterName: `test-${randomBytes(4).toString("hex")}`,
    sharedSecret: randomBytes(32).toString("base64"),
    cookieSecret: randomBytes(32).toString("base64"),
    idpSecret: randomBytes(16).toString("hex"),
    postgres: await postgres.newDatabase(),
    upstreamPort: upstream.port,
    ...{ frontPort, idpPort, authenticatePort: ports.authenticate.address },
  };
  await prepare?.(places);
  const brokerWans = await Promise.all(ports.brokers.map(({ broker }) => startWan(broker, { lateMs })));
  for (const wan of brokerWans) cleanups.push(() => wan.close());

  const url = (port: number): string => `http://127.0.0.1:${port}`;
  const eastern = { region: "east", nats: eastNats.urls, brokerUrls: ports.brokers.map(({ broker }) => url(broker)) };
  const western = {
    region: "west",
    nats: westNats.urls,
    brokerUrls: ports.westBrokers.map(({ broker }) => url(broker)),
  };
  const newProcess = (
    name: string,
    services: readonly Service[],
    own: ProcessPorts,
    at: typeof eastern,
    change: (config: Record<string, unknown>) => object = (config) => config,
  ): ClusterProcess => {
    const dataDir = join(folder.path, "data", name);
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const spec = { name, services, ports: own, ...at };
    const config = change(configOf(spec, places, { timing, dataDir, broker: more }) as Record<string, unknown>);
    const made = new ClusterProcess({ name, region: at.region, ports: own, folder: folder.path, dataDir, config });
    cleanups.push(() => made.kill());
    return made;
  };
  const brokers = ports.brokers.map((own, i) => newProcess(`broker-${i + 1}`, ["databroker"], own, eastern));
  const authenticate = newProcess("authenticate", ["authenticate"], ports.authenticate, eastern);
  const proxy = newProcess("proxy-east", ["proxy"], ports.eastProxy, eastern);
  const regional = (config: Record<string, unknown>): object => ({
    ...config,
    databroker_storage_connection_string: undefined,
    nats: { ...(config["nats"] as object), home_domain: "east" },
    broker: { ...(config["broker"] as object), home_urls: brokerWans.map(({ port }) => url(port)) },
  });
  const brokersWest = ports.westBrokers.map((own, i) =>
    newProcess(i === 0 ? "broker-west" : `broker-west-${i + 1}`, ["databroker"], own, western, regional),
  );
  const [broker = brokers[0] as ClusterProcess] = brokersWest;
  const authenticateWest =
    westAuthenticate !== "one"
      ? null
      : newProcess("authenticate-west", ["authenticate"], ports.westAuthenticate, western);
  const wanOfAuthenticate = await Promise.all(
    westAuthenticate === "home" ? [startWan(ports.authenticate.address, { lateMs })] : [],
  );
  for (const wan of wanOfAuthenticate) cleanups.push(() => wan.close());
  const [authenticatePort] = [...wanOfAuthenticate.map(({ port }) => port), ports.westAuthenticate.address];
  const withAuthenticate = (config: Record<string, unknown>): object =>
    westAuthenticate === "none" ? config : { ...config, authenticate_internal_service_url: url(authenticatePort) };
  const proxies = ports.westProxies.map((own, i) =>
    newProcess(`proxy-west-${i + 1}`, ["proxy"], own, western, withAuthenticate),
  );
  await Promise.all(brokers.map((each) => each.start()));
  await Promise.all(brokersWest.map((each) => each.start()));
  const others = [authenticate, proxy, ...proxies, ...(authenticateWest === null ? [] : [authenticateWest])];
  await Promise.all(others.map((each) => each.start()));

  const front = await startRelay({ targets: [proxy.ports.address], port: frontPort });
  cleanups.push(() => front.close());

  const config = loadConfigFile(authenticate.configFile);
  const clients = new Map<Role, BrokerClient>();
  cleanups.push(() => Promise.all([...clients.values()].map((each) => each.close())));
  const newClient = (role: Role, urls: readonly URL[]): BrokerClient =>
    createBrokerClient({
      ...{ role, urls, cluster: places.clusterName, name: "test", secret: config.sharedSecret },
      ...{ clock: systemClock, randomBytes, logger: silent, submitMs: 60_000 },
    });
  const client = (role: Role): BrokerClient => {
    const ofRole = clients.get(role) ?? newClient(role, config.broker.urls);
    clients.set(role, ofRole);
    return ofRole;
  };
  const clientVia = (at: ClusterProcess): BrokerClient => {
    const created = newClient("proxy", [new URL(at.brokerUrl)]);
    cleanups.push(() => created.close());
    return created;
  };
  const host = (route: string): string => hostOf(places, route);
  const wans = [natsWan, ...brokerWans, ...wanOfAuthenticate];
  const all = (act: (wan: Wan) => void) => (): void => {
    for (const wan of wans) act(wan);
  };
  return {
    ...{ postgres, upstream, places, authenticate, client, clientVia, host, stop },
    east: { nats: eastNats, brokers, proxy },
    west: { nats: westNats, broker, brokers: brokersWest, proxies },
    westAuthenticate:
      authenticateWest === null
        ? null
        : {
            process: authenticateWest,
            operator: createOperator({ config, authenticate: authenticateWest, host: host("authenticate") }),
          },
    wan: {
      cut: all((wan) => wan.cut()),
      cutAnswers: all((wan) => wan.cutAnswers()),
      heal: all((wan) => wan.heal()),
      delay: (ms) => all((wan) => wan.delay(ms))(),
      ...{ brokers: brokerWans, nats: natsWan },
    },
    session: (user, groups = []) =>
      createSession(user, groups, { config, client: client("authenticate"), issuer: issuerOf(places) }),
    get: (at, route, session) =>
      sendUntilDecided({ port: at.ports.address, host: host(route), ...(session ? { cookie: session.cookie } : {}) }),
    getNow: (at, route, session) =>
      sendRequest({ port: at.ports.address, host: host(route), ...(session ? { cookie: session.cookie } : {}) }),
    operator: createOperator({ config, authenticate, host: host("authenticate") }),
    status: () => statusWithLeader(client("operator")),
    cardea: (...args) => runCardeaUntilServed([...args, "-c", authenticate.configFile]),
  };
}

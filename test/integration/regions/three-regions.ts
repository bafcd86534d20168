/**
 * Three regions, each of which may hold the leader: a real cluster on loopback.
 *
 * - East, us and ap have a Postgres server, a NATS server, a broker and a proxy each. Their configurations are the same
 *   but for the region and the addresses of its own processes.
 * - NATS: each region is a leaf of the regions before it in the list. When the first is lost, the next is the hub.
 * - The home region is in the east at first.
 * - With a delay, all traffic between two regions passes over relays, and so does all of the operator's commands.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../../../src/config/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { startNats } from "../../support/nats.ts";
import { type PostgresGroup, startPostgresGroup } from "../../support/postgres-group.ts";
import type { NatsCluster, PostgresServer } from "../../support/service.ts";
import { type HttpReply, sendRequest, sendUntilDecided } from "../cluster/client.ts";
import { createSession, loadConfigFile, type Session } from "../cluster/cluster.ts";
import { type ClusterSetup, configOf, hostOf, issuerOf, type Timing } from "../cluster/cluster-config.ts";
import { ClusterProcess } from "../cluster/cluster-process.ts";
import { startUpstream } from "../cluster/upstream.ts";
import { leafConfig, type RegionName, regionNames } from "./leaf-chain.ts";
import { startWan } from "./wan.ts";

export type Region = Readonly<{
  name: RegionName;
  postgres: PostgresServer;
  nats: NatsCluster;
  broker: ClusterProcess;
  proxy: ClusterProcess;
}>;

export type ThreeRegions = Readonly<{
  group: PostgresGroup;
  of(region: RegionName): Region;
  /** A client of the broker of one region. */
  client(region: RegionName, role: Role): BrokerClient;
  config(region: RegionName): Config;
  session(region: RegionName, user: string): Promise<Session>;
  /** `get` repeats the request while the proxy cannot decide; `getNow` sends it once. */
  get(region: RegionName, route: string, session: Session): Promise<HttpReply>;
  getNow(region: RegionName, route: string, session: Session): Promise<HttpReply>;
  clusterName: string;
  /** The configuration for commands of an operator, as far from every region as these are from each other. */
  commandFile: string;
  stop(): Promise<void>;
}>;

/** The ports by which the other regions reach what one region has. */
type FarPorts = Readonly<Record<"broker" | "postgres" | "leaf", number>>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** @param options.lateMs the delay of each byte between two regions, in each direction */
export async function startThreeRegions(
  timing: Timing,
  { lateMs = 0 }: Readonly<{ lateMs?: number }> = {},
): Promise<ThreeRegions> {
  const cleanups: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of cleanups.splice(0).reverse()) await one();
  };
  try {
    return await build({ timing, lateMs }, { cleanups, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(
  { timing, lateMs }: Readonly<{ timing: Timing; lateMs: number }>,
  { cleanups, stop }: Readonly<{ cleanups: (() => Promise<unknown>)[]; stop: () => Promise<void> }>,
): Promise<ThreeRegions> {
  const folder = new TemporaryFolder("three-regions");
  cleanups.push(async () => folder.remove());
  const [frontPort = 0, idpPort = 0, authenticatePort = 0, ...free] = await freePorts(3 + 3 + 6 * 3);
  const leafPorts = free.splice(0, regionNames.length);
  const takePorts = () => ({ address: free.pop() ?? 0, metrics: free.pop() ?? 0, broker: free.pop() ?? 0 });
  const ports = new Map(regionNames.map((name) => [name, { broker: takePorts(), proxy: takePorts() }]));
  const portsOf = (name: RegionName) => ports.get(name) ?? { broker: takePorts(), proxy: takePorts() };

  const group = await startPostgresGroup({ synchrony: "quorum" });
  cleanups.push(() => group.stop());
  const upstream = await startUpstream();
  cleanups.push(() => upstream.close());
  const [east, us, ap] = [group.primary(), ...group.standbys];
  if (us === undefined || ap === undefined) throw new Error("the group has no standbys");
  const postgres = { east, us, ap };
  const farPort = async (port: number): Promise<number> => {
    if (lateMs === 0) return port;
    const wan = await startWan(port, { lateMs });
    cleanups.push(() => wan.close());
    return wan.port;
  };
  const far = new Map<RegionName, FarPorts>();
  for (const [i, name] of regionNames.entries())
    far.set(name, {
      broker: await farPort(portsOf(name).broker.broker),
      postgres: await farPort(postgres[name].port),
      leaf: await farPort(leafPorts[i] ?? 0),
    });
  const farOf = (name: RegionName): FarPorts => far.get(name) ?? assertNever();
  const regionOf = { pg_1: "east", pg_2: "us", pg_3: "ap" } as const;
  if (lateMs > 0) await group.reachThrough((_, primary) => farOf(regionOf[primary as keyof typeof regionOf]).postgres);

  const nats = new Map<RegionName, NatsCluster>();
  for (const name of regionNames) {
    const server = await startNats({
      name,
      domain: name,
      config: leafConfig(
        name,
        leafPorts,
        regionNames.map((each) => farOf(each).leaf),
      ),
    });
    cleanups.push(() => server.stop());
    nats.set(name, server);
  }
  const natsOf = (name: RegionName): NatsCluster => nats.get(name) ?? assertNever();

  const setup: ClusterSetup = {
    clusterName: `test-${randomBytes(4).toString("hex")}`,
    sharedSecret: randomBytes(32).toString("base64"),
    cookieSecret: randomBytes(32).toString("base64"),
    idpSecret: randomBytes(16).toString("hex"),
    postgres: await group.newDatabase(),
    upstreamPort: upstream.port,
    ...{ frontPort, idpPort, authenticatePort },
  };
  const url = (port: number): string => `http://127.0.0.1:${port}`;
  /** A server as a process in a region reaches it; null: the operator's command. */
  const serverFrom = (viewer: RegionName | null, region: RegionName): string =>
    `127.0.0.1:${viewer === region ? postgres[region].port : farOf(region).postgres}`;
  const homesFrom = (viewer: RegionName | null) =>
    regionNames.map((region) => ({
      region,
      urls: [url(farOf(region).broker)],
      postgres: [serverFrom(viewer, region)],
      postgres_names: [{ east: "pg_1", us: "pg_2", ap: "pg_3" }[region]],
      nats_domain: region,
    }));
  const setupFrom = (viewer: RegionName | null): ClusterSetup => ({
    ...setup,
    postgres: setup.postgres.replace(/@[^/]+/, `@${regionNames.map((name) => serverFrom(viewer, name)).join(",")}`),
  });

  const regions = new Map<RegionName, Region>();
  for (const name of regionNames) {
    const own = portsOf(name);
    const at = { region: name, nats: natsOf(name).urls, brokerUrls: [url(own.broker.broker)] };
    const newProcess = (kind: "broker" | "proxy"): ClusterProcess => {
      const dataDir = join(folder.path, "data", `${kind}-${name}`);
      mkdirSync(dataDir, { recursive: true, mode: 0o700 });
      const services = [kind === "broker" ? ("databroker" as const) : ("proxy" as const)];
      const spec = { name: `${kind}-${name}`, services, ports: own[kind], ...at };
      const broker = kind === "broker" ? { homes: homesFrom(name), advertised_url: url(farOf(name).broker) } : {};
      const config = configOf(spec, setupFrom(name), { timing, dataDir, broker });
      const made = new ClusterProcess({ ...spec, folder: folder.path, dataDir, config });
      cleanups.push(() => made.kill());
      return made;
    };
    const [broker, proxy] = [newProcess("broker"), newProcess("proxy")];
    regions.set(name, { name, postgres: postgres[name], nats: natsOf(name), broker, proxy });
  }
  const of = (name: RegionName): Region => regions.get(name) ?? assertNever();
  const commandFile = join(folder.path, "command.yaml");
  const [east1] = regionNames;
  const anyBroker = {
    name: "command",
    region: east1,
    nats: natsOf(east1).urls,
    brokerUrls: [url(farOf(east1).broker)],
  };
  const commandConfig = configOf(
    { ...anyBroker, services: ["databroker"], ports: portsOf(east1).broker },
    setupFrom(null),
    { timing, dataDir: join(folder.path, "data", "command"), broker: { homes: homesFrom(null) } },
  );
  writeFileSync(commandFile, JSON.stringify(commandConfig), { mode: 0o600 });
  await of("east").broker.start();
  await Promise.all([of("us"), of("ap")].map(({ broker }) => broker.start()));
  await Promise.all(regionNames.map((name) => of(name).proxy.start()));

  const configs = new Map(regionNames.map((name) => [name, loadConfigFile(of(name).broker.configFile)]));
  const config = (name: RegionName): Config => configs.get(name) ?? assertNever();
  const clients = new Map<string, BrokerClient>();
  cleanups.push(() => Promise.all([...clients.values()].map((each) => each.close())));
  const client = (name: RegionName, role: Role): BrokerClient => {
    const known = clients.get(`${name} ${role}`);
    if (known !== undefined) return known;
    const { sharedSecret: secret } = config(name);
    const made = createBrokerClient({
      ...{ role, urls: [new URL(of(name).broker.brokerUrl)], cluster: setup.clusterName, name: "test", secret },
      ...{ clock: systemClock, randomBytes, logger: silent, submitMs: 60_000 },
    });
    clients.set(`${name} ${role}`, made);
    return made;
  };
  const requestTo = (name: RegionName, route: string, session: Session) => ({
    ...{ port: of(name).proxy.ports.address, host: hostOf(setup, route), cookie: session.cookie },
  });
  return {
    ...{ group, of, client, config, stop, commandFile, clusterName: setup.clusterName },
    session: (name, user) =>
      createSession(user, [], { config: config(name), client: client(name, "authenticate"), issuer: issuerOf(setup) }),
    get: (name, route, session) => sendUntilDecided(requestTo(name, route, session)),
    getNow: (name, route, session) => sendRequest(requestTo(name, route, session)),
  };
}

function assertNever(): never {
  throw new Error("no such region");
}

/**
 * Three regions, each of which may hold the leader: a real cluster on loopback.
 *
 * - East, us and ap have a Postgres server, a NATS server, a broker and a proxy each. Their configurations are the same
 *   but for the region and the addresses of its own processes.
 * - NATS: each region is a leaf of the regions before it in the list. When the first is lost, the next is the hub.
 * - The home region is in the east at first.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
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
  stop(): Promise<void>;
}>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };

export async function startThreeRegions(timing: Timing): Promise<ThreeRegions> {
  const cleanups: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of cleanups.splice(0).reverse()) await one();
  };
  try {
    return await build(timing, { cleanups, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(
  timing: Timing,
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

  const nats = new Map<RegionName, NatsCluster>();
  for (const name of regionNames) {
    const server = await startNats({ name, domain: name, config: leafConfig(name, leafPorts) });
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
  const homes = regionNames.map((region) => ({
    region,
    urls: [url(portsOf(region).broker.broker)],
    postgres: [`${postgres[region].host}:${postgres[region].port}`],
    postgres_names: [{ east: "pg_1", us: "pg_2", ap: "pg_3" }[region]],
    nats_domain: region,
  }));

  const regions = new Map<RegionName, Region>();
  for (const name of regionNames) {
    const own = portsOf(name);
    const at = { region: name, nats: natsOf(name).urls, brokerUrls: [url(own.broker.broker)] };
    const newProcess = (kind: "broker" | "proxy"): ClusterProcess => {
      const dataDir = join(folder.path, "data", `${kind}-${name}`);
      mkdirSync(dataDir, { recursive: true, mode: 0o700 });
      const services = [kind === "broker" ? ("databroker" as const) : ("proxy" as const)];
      const spec = { name: `${kind}-${name}`, services, ports: own[kind], ...at };
      const config = configOf(spec, setup, { timing, dataDir, broker: kind === "broker" ? { homes } : {} });
      const made = new ClusterProcess({ ...spec, folder: folder.path, dataDir, config });
      cleanups.push(() => made.kill());
      return made;
    };
    const [broker, proxy] = [newProcess("broker"), newProcess("proxy")];
    regions.set(name, { name, postgres: postgres[name], nats: natsOf(name), broker, proxy });
  }
  const of = (name: RegionName): Region => regions.get(name) ?? assertNever();
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
    ...{ group, of, client, config, stop, clusterName: setup.clusterName },
    session: (name, user) =>
      createSession(user, [], { config: config(name), client: client(name, "authenticate"), issuer: issuerOf(setup) }),
    get: (name, route, session) => sendUntilDecided(requestTo(name, route, session)),
    getNow: (name, route, session) => sendRequest(requestTo(name, route, session)),
  };
}

function assertNever(): never {
  throw new Error("no such region");
}

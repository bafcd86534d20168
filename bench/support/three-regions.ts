/**
 * Three regions: a real cluster on loopback for bench/regions.ts.
 *
 * - `eu` is the home region, with Postgres, a standby of it, a broker and the hub of NATS. `us` and `ap` each have a
 *   regional broker, a NATS server that is a leaf of the hub, and a standby.
 * - Each region has its own authenticate and proxy, which reach only the brokers and NATS of their region.
 * - All traffic between a region and home passes over its own WAN, which delivers each byte late and can be cut.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient, type Role } from "../../src/replication/wire/index.ts";
import { createOperator, createSession, loadConfigFile, type Session } from "../../test/integration/cluster/cluster.ts";
import {
  type ClusterSetup,
  configOf,
  hostOf,
  issuerOf,
  type Service,
} from "../../test/integration/cluster/cluster-config.ts";
import { ClusterProcess, type ProcessPorts } from "../../test/integration/cluster/cluster-process.ts";
import { startUpstream } from "../../test/integration/cluster/upstream.ts";
import { startWan, type Wan } from "../../test/integration/regions/wan.ts";
import { TemporaryFolder } from "../../test/support/child.ts";
import { freePorts } from "../../test/support/free-port.ts";
import { startNats } from "../../test/support/nats.ts";
import { startPostgres } from "../../test/support/postgres.ts";
import { withClient } from "../../test/support/postgres-client.ts";
import { startStandby } from "../../test/support/postgres-standby.ts";
import { waitFor } from "../../test/support/wait-for.ts";

export const regionNames = ["eu", "us", "ap"] as const;
export type RegionName = (typeof regionNames)[number];
const home: RegionName = "eu";

export type Region = Readonly<{
  name: RegionName;
  broker: ClusterProcess;
  authenticate: ClusterProcess;
  proxy: ClusterProcess;
  /** The operator API of this region. */
  operator: ReturnType<typeof createOperator>;
  /** Creates a session by command, as this region's authenticate does at a sign-in. */
  session(user: string): Promise<Session>;
  /** A client of the region's broker, in the role of a proxy. */
  client: ReturnType<typeof createBrokerClient>;
  /** Every link between this region and home; none for home. */
  links: readonly Wan[];
}>;

/** Where a commit waits for a standby: nowhere, in the home region, or in one of the other regions. */
export type StandbyWait = "none" | "home" | "other-region";

export type ThreeRegions = Readonly<{
  region(name: RegionName): Region;
  all: readonly Region[];
  host(route: string): string;
  waitFor(standby: StandbyWait): Promise<void>;
  stop(): Promise<void>;
}>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const standbyNames: Readonly<Record<StandbyWait, string>> = {
  none: "",
  home: "ANY 1 (pg_eu)",
  "other-region": "ANY 1 (pg_us, pg_ap)",
};

export async function startThreeRegions(options: Readonly<{ lateMs: number }>): Promise<ThreeRegions> {
  const cleanups: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of cleanups.splice(0).reverse()) await one();
  };
  try {
    return await build(options, { cleanups, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

async function build(
  { lateMs }: Readonly<{ lateMs: number }>,
  { cleanups, stop }: Readonly<{ cleanups: (() => Promise<unknown>)[]; stop: () => Promise<void> }>,
): Promise<ThreeRegions> {
  const folder = new TemporaryFolder("three-regions");
  cleanups.push(async () => folder.remove());
  const free = await freePorts(3 + 9 * regionNames.length);
  const nextPort = (): number => free.pop() ?? 0;
  const nextPorts = (): ProcessPorts => ({ address: nextPort(), metrics: nextPort(), broker: nextPort() });
  const [leafPort, frontPort, idpPort] = [nextPort(), nextPort(), nextPort()];
  const upstream = await startUpstream();
  cleanups.push(() => upstream.close());
  const postgres = await startDatabase({ lateMs, cleanups });
  const hub = await startNats({ name: home, domain: home, config: `leafnodes { listen: "127.0.0.1:${leafPort}" }` });
  cleanups.push(() => hub.stop());

  const ports = new Map(
    regionNames.map((name) => [name, { broker: nextPorts(), authenticate: nextPorts(), proxy: nextPorts() }]),
  );
  const portsOf = (name: RegionName) => ports.get(name) ?? failNoRegion(name);
  const setup: ClusterSetup = {
    clusterName: `bench-${randomBytes(4).toString("hex")}`,
    sharedSecret: randomBytes(32).toString("base64"),
    cookieSecret: randomBytes(32).toString("base64"),
    idpSecret: randomBytes(16).toString("hex"),
    postgres: postgres.url,
    upstreamPort: upstream.port,
    ...{ frontPort, idpPort, authenticatePort: portsOf(home).authenticate.address },
  };
  const host = (route: string): string => hostOf(setup, route);
  const url = (port: number): string => `http://127.0.0.1:${port}`;

  async function startRegion(name: RegionName): Promise<Region> {
    const own = portsOf(name);
    const brokerWan = await startWan(portsOf(home).broker.broker, { lateMs });
    const natsWan = await startWan(leafPort, { lateMs });
    cleanups.push(
      () => brokerWan.close(),
      () => natsWan.close(),
    );
    const remote = `leafnodes { reconnect: 1, remotes: [{ url: "nats-leaf://127.0.0.1:${natsWan.port}" }] }`;
    const nats =
      name === home ? hub : await startNats({ name, domain: name, config: `${remote}\nping_interval: "1s"` });
    if (nats !== hub) cleanups.push(() => nats.stop());
    const newProcess = (service: Service): ClusterProcess => {
      const at = { region: name, nats: nats.urls, brokerUrls: [url(own.broker.broker)] };
      const processPorts = service === "databroker" ? own.broker : own[service];
      const processName = `${service === "databroker" ? "broker" : service}-${name}`;
      const dataDir = join(folder.path, "data", processName);
      mkdirSync(dataDir, { recursive: true, mode: 0o700 });
      const spec = { name: processName, services: [service], ports: processPorts, ...at };
      const config = configOf(
        spec,
        { ...setup, authenticatePort: own.authenticate.address },
        { timing: "default", dataDir },
      );
      const shared = config as Readonly<Record<string, unknown>>;
      const regional = {
        ...shared,
        databroker_storage_connection_string: undefined,
        nats: { ...(shared["nats"] as object), home_domain: home },
        broker: { ...(shared["broker"] as object), home_urls: [url(brokerWan.port)] },
      };
      const isRegional = service === "databroker" && name !== home;
      const made = new ClusterProcess({
        ...{ name: processName, region: name, ports: processPorts, folder: folder.path, dataDir },
        config: isRegional ? regional : config,
      });
      cleanups.push(() => made.kill());
      return made;
    };
    const [broker, authenticate, proxy] = [newProcess("databroker"), newProcess("authenticate"), newProcess("proxy")];
    await broker.start();
    await Promise.all([authenticate.start(), proxy.start()]);
    const config = loadConfigFile(authenticate.configFile);
    const newClient = (role: Role) => {
      const created = createBrokerClient({
        ...{ role, urls: [new URL(broker.brokerUrl)], cluster: setup.clusterName, name: "bench" },
        ...{ secret: config.sharedSecret, clock: systemClock, randomBytes, logger: silent, submitMs: 60_000 },
      });
      cleanups.push(() => created.close());
      return created;
    };
    const signIn = newClient("authenticate");
    return {
      ...{ name, broker, authenticate, proxy, client: newClient("proxy") },
      operator: createOperator({ config, authenticate, host: host("authenticate") }),
      session: (user) => createSession(user, [], { config, client: signIn, issuer: issuerOf(setup) }),
      links: name === home ? [] : [brokerWan, natsWan],
    };
  }

  const all: Region[] = [];
  for (const name of regionNames) all.push(await startRegion(name));
  return {
    ...{ all, host, stop },
    waitFor: (standby) => postgres.waitFor(standby),
    region: (name) => all.find((each) => each.name === name) ?? failNoRegion(name),
  };
}

function failNoRegion(name: string): never {
  throw new RangeError(`there is no region ${name}`);
}

/** A primary at home with fsync on, and a standby in each region. */
async function startDatabase({
  lateMs,
  cleanups,
}: Readonly<{ lateMs: number; cleanups: (() => Promise<unknown>)[] }>): Promise<
  Readonly<{ url: string; waitFor(standby: StandbyWait): Promise<void> }>
> {
  const settings = { fsync: "on", wal_receiver_status_interval: "1", wal_keep_size: "256MB" };
  const primary = await startPostgres({ settings });
  cleanups.push(() => primary.stop());
  const url = await primary.newDatabase();
  for (const name of regionNames) {
    const wan = await startWan(primary.port, { lateMs: name === home ? 0 : lateMs });
    cleanups.push(() => wan.close());
    const standby = await startStandby({ ...primary, port: wan.port }, { name: `pg_${name}`, settings });
    cleanups.push(() => standby.stop());
  }
  const query = (text: string) =>
    withClient(primary.connectionString(), async (client) => (await client.query(text)).rows);
  return {
    url,
    async waitFor(standby) {
      await query(`alter system set synchronous_standby_names = '${standbyNames[standby]}'`);
      await query("select pg_reload_conf()");
      const wanted = { none: 0, home: 1, "other-region": 2 }[standby];
      await waitFor("the standbys to count", async () => {
        const rows = await query(
          "select 1 from pg_stat_replication where state = 'streaming' and sync_state = 'quorum'",
        );
        return rows.length === wanted;
      });
    },
  };
}

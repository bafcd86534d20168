/**
 * Move view: what the Postgres servers of all regions say before and during a move of the home region. It changes
 * nothing; move-plan.ts judges what it found.
 */
import { type PostgresHost, parsePostgresHosts } from "./hosts.ts";
import type { AttachedStandby, MoveView } from "./move-plan.ts";
import type { SeenHeads } from "./newest-head.ts";
import { type PromotionOrder, promotionOrdersOf } from "./promotion-order.ts";
import {
  asStandby,
  type MetServers,
  meetServer,
  PromotionFailedError,
  type PromotionServer,
  whyHeldBack,
} from "./promotion-servers.ts";
import { readServerHeads } from "./server-heads.ts";

export type MoveTarget = Readonly<{
  /** Names every server of every region. Its user must be able to change settings and end sessions. */
  connectionString: string;
  cluster: string;
  schema?: string;
  /** The servers of the target region, named as in the connection string. */
  target: ReadonlySet<string>;
  /**
   * The names of servers in `synchronous_standby_names`, by their name in the connection string. With them, the old
   * primary need not be named if it alone is silent, and every standby received from it last.
   */
  names?: ReadonlyMap<string, string>;
  /** The regions of servers, by their name in the connection string; for messages. */
  regions?: ReadonlyMap<string, string>;
  /** `look`: plans, and changes nothing. */
  only?: "look" | "all";
}>;

type ConnectLimits = Readonly<{ connectTimeoutMs: number; stepTimeoutMs: number }>;

/** The servers of the connection string, by name. */
export function hostsOf({ connectionString }: Pick<MoveTarget, "connectionString">): ReadonlyMap<string, PostgresHost> {
  return new Map(parsePostgresHosts(connectionString).map((host) => [host.name, host]));
}

/** @throws PromotionFailedError when it does not answer */
export async function connectTo(
  hosts: ReadonlyMap<string, PostgresHost>,
  name: string,
  limits: ConnectLimits,
): Promise<PromotionServer> {
  const host = hosts.get(name);
  if (host === undefined) throw new PromotionFailedError(`the connection string has no server ${name}`);
  const server = await meetServer(host, limits);
  if ("problem" in server) throw new PromotionFailedError(`${name}: ${server.problem}`);
  return server;
}

/** Asks every server. `met`: the servers that the caller has locked. */
export async function viewOf(
  options: MoveTarget,
  limits: ConnectLimits & Readonly<{ met: MetServers }>,
): Promise<MoveView> {
  const { connectionString, cluster, schema, target } = options;
  const { connectTimeoutMs } = limits;
  const heads = await readServerHeads({
    connectionString,
    cluster,
    connectTimeoutMs,
    ...(schema === undefined ? {} : { schema }),
  });
  const hosts = hostsOf(options);
  const met = await Promise.all(heads.servers.map(({ host }) => connectTo(hosts, host, limits).catch(() => null)));
  const servers = met.filter((server) => server !== null);
  try {
    const names = new Map([
      ...(options.names ?? []),
      ...servers.map((server): [string, string] => [
        server.host.name,
        server.row["standby"] === true ? asStandby(server).seen.name : String(server.row["cluster_name"]),
      ]),
    ]);
    const newest = servers.find(({ host }) => host.name === heads.newest?.host);
    return {
      ...heads,
      target,
      names,
      regions: options.regions ?? new Map(),
      heldBack: new Map(
        servers.flatMap((server): [string, string][] => {
          const why = whyHeldBack(server);
          return why === null ? [] : [[server.host.name, why]];
        }),
      ),
      orders: await ordersIn(heads, options, { met: limits.met, servers }),
      synchronous: String(newest?.row["synchronous"] ?? ""),
      attached: newest === undefined || newest.row["standby"] === true ? [] : await attachedTo(newest),
    };
  } finally {
    await Promise.all(servers.map(({ end }) => end()));
  }
}

/** A server that this run has not locked may still get an order: it answered too late. */
async function ordersIn(
  { servers: heads }: SeenHeads,
  { only }: MoveTarget,
  { met, servers }: Readonly<{ met: MetServers; servers: readonly PromotionServer[] }>,
): Promise<ReadonlyMap<string, PromotionOrder>> {
  const hosts = heads.filter(({ role }) => role === "standby").map(({ host }) => host);
  const isLocked = (host: string): boolean =>
    only === "look" || met.servers.some((server) => server.host.name === host);
  const shown = servers.filter(({ host }) => hosts.includes(host.name) && isLocked(host.name));
  const others = hosts.filter((host) => !shown.some((server) => server.host.name === host));
  const why = "may have been ordered to become a primary: it answers only some of the time; run this command again";
  return new Map([
    ...(await promotionOrdersOf(shown)),
    ...others.map((host): [string, PromotionOrder] => [host, { state: "unknown", why }]),
  ]);
}

async function attachedTo({ ask }: PromotionServer): Promise<readonly AttachedStandby[]> {
  const { standbys } = await ask(`select coalesce(json_agg(json_build_object(
      'name', application_name, 'isStreaming', state = 'streaming',
      'behindBytes', greatest(0, coalesce(pg_current_wal_lsn() - flush_lsn, 0)),
      'unreplayedBytes', greatest(0, coalesce(flush_lsn - replay_lsn, 0)))), '[]') as standbys
    from pg_stat_replication`);
  return standbys as readonly AttachedStandby[];
}

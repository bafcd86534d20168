/**
 * Promotion servers: the Postgres servers that a promotion or a move of the home region asks and changes, each over one
 * connection of its own.
 */
import { setTimeout as delay } from "node:timers/promises";
import { CodedError } from "../../../events/index.ts";
import { causeOf, messageOf, PostgresConnection, type PostgresRow } from "./connection.ts";
import { postgresDriver } from "./driver.ts";
import type { PostgresHost } from "./hosts.ts";
import { attachConninfo, leadingTo, nameIn, type StandbySeen } from "./promotion.ts";

export type PromotionServer = Readonly<{
  host: PostgresHost;
  ask: (text: string, values?: readonly unknown[]) => Promise<PostgresRow>;
  row: PostgresRow;
  end: () => Promise<void>;
}>;
export type PromotionStandby = PromotionServer & StandbyState;
type StandbyState = { readonly conninfo: string; readonly seen: StandbySeen };

/** The promotion began but did not finish. The message names the step that failed. Run it again. */
export class PromotionFailedError extends CodedError<"ERR_REPLICATION_PROMOTION_FAILED"> {
  override readonly code = "ERR_REPLICATION_PROMOTION_FAILED";
}

export const pollSeconds = 0.02;
/** Polls without success before a standby is woken again to retry its connection. */
const pollsBeforeRetry = 12;
/** How long to wait for the lock of a run that was killed a moment ago, ms. */
const lockMsMax = 5_000;
const lockPollMs = 100;

/** A session that has ended by itself meanwhile is no failure of its end, of which the server warns. */
const look = `select set_config('client_min_messages', 'error', false), pg_is_in_recovery() as standby, current_setting('cluster_name') as cluster_name,
  current_setting('primary_conninfo') as conninfo, current_setting('synchronous_standby_names') as synchronous,
  case when pg_is_in_recovery() then pg_is_wal_replay_paused() end as paused,
  current_setting('recovery_min_apply_delay') as delay`;

export type UnreachableServer = Readonly<{ host: string; problem: string }>;

type ServerLimits = Readonly<{ connectTimeoutMs: number; stepTimeoutMs: number }>;

export async function meetServer(
  host: PostgresHost,
  limits: ServerLimits,
): Promise<PromotionServer | UnreachableServer> {
  let session: ServerSession | undefined;
  try {
    session = await openSession(host, limits);
    return { ...session, row: await session.ask(look) };
  } catch (error) {
    void session?.end();
    return { host: host.name, problem: messageOf(error) };
  }
}

export type ServerSession = Omit<PromotionServer, "row">;

/** @throws the errors of the driver when the server does not answer */
export async function openSession(host: PostgresHost, limits: ServerLimits): Promise<ServerSession> {
  const open = await PostgresConnection.toAny(host, limits);
  const ask = async (text: string, values: readonly unknown[] = []): Promise<PostgresRow> => {
    const sent = await open.ask({ text, values }, limits.stepTimeoutMs);
    if (sent.type === "clean") return sent.rows[0] ?? {};
    const cause = causeOf(sent);
    throw new PromotionFailedError(`${host.name}: ${messageOf(cause)}`, { cause });
  };
  return { host, ask, end: () => open.end() };
}

/** The servers that answer, and the names of the others with their problems. */
export type MetServers = Readonly<{ servers: readonly PromotionServer[]; unreachable: readonly UnreachableServer[] }>;

/**
 * Connects to every server, and locks each against another run of such a command, in the order of the list. A run that
 * fails while another one is between its comparison and its promotion would let standbys receive again. The locks end
 * with the connections. What a server said before all locks were held may be outdated by another run, so this asks each
 * of them again.
 * @throws PromotionFailedError when another run holds a lock
 */
export async function meetServers(
  hosts: readonly PostgresHost[],
  limits: Readonly<{ connectTimeoutMs: number; stepTimeoutMs: number; lock: "take" | "none" }>,
): Promise<MetServers> {
  const met = await Promise.all(hosts.map((host) => meetServer(host, limits)));
  const servers = met.filter((each): each is PromotionServer => "ask" in each);
  const unreachable = met.filter((each): each is UnreachableServer => "problem" in each);
  try {
    if (limits.lock === "none") return { servers, unreachable };
    for (const server of servers) await lockServer(server);
    return await meetAgain({ servers, unreachable });
  } catch (error) {
    await endAll(servers);
    throw error;
  }
}

/** Asks each server again over its connection. @throws PromotionFailedError when one no longer answers */
export async function meetAgain({ servers, unreachable }: MetServers): Promise<MetServers> {
  const again = servers.map(async (server) => ({ ...server, row: await server.ask(look) }));
  return { servers: await Promise.all(again), unreachable };
}

export async function endAll(servers: readonly PromotionServer[]): Promise<void> {
  await Promise.all(servers.map(({ end }) => end()));
}

/** An arbitrary key, which this project uses only for changes of the servers' roles. */
const lockClass = 1_667_330_149;

/** A condition on sessions: they do not hold the lock of such a run, which writes nothing to the log. */
export const withoutLock = `pid not in (select pid from pg_locks where locktype = 'advisory' and classid = ${lockClass})`;

async function lockServer({ ask, host }: PromotionServer): Promise<void> {
  const giveUpAt = performance.now() + lockMsMax;
  const isLocked = async (): Promise<boolean> =>
    (await ask(`select pg_try_advisory_lock(${lockClass}, 1) as locked`))["locked"] === true;
  const busy = `${host.name}: another run of this command, or of cardea postgres promote, is in progress; nothing was changed`;
  if (await isLocked()) return;
  while (performance.now() < giveUpAt) {
    await delay(lockPollMs);
    const locked = await isLocked().catch((cause: unknown) => {
      throw new PromotionFailedError(busy, { cause }); // its fence ends other sessions
    });
    if (locked) return;
  }
  throw new PromotionFailedError(busy);
}

export function asStandby(server: PromotionServer): PromotionStandby {
  const { host, row } = server;
  const conninfo = attachConninfo(String(row["conninfo"]));
  const name = nameIn(conninfo, String(row["cluster_name"]));
  return { ...server, conninfo, seen: { host: host.name, name, synchronous: String(row["synchronous"]) } };
}

/** Why a standby does not replay what it receives; null: it does. A promotion waits for the replay of every standby. */
export function whyHeldBack({ row }: Pick<PromotionServer, "row">): string | null {
  if (row["standby"] !== true) return null;
  if (row["paused"] === true) return "has its replay paused; resume it (pg_wal_replay_resume)";
  const delay = String(row["delay"]);
  return delay === "0" ? null : `replays ${delay} late; reset recovery_min_apply_delay`;
}

/** Host and port of a server, for `primary_conninfo`. */
export function addressOf({ connectionString }: PostgresHost): Readonly<{ host: string; port: string }> {
  const url = new URL(connectionString);
  return {
    host: url.searchParams.get("host") ?? url.hostname.replace(/^\[|\]$/g, ""),
    port: url.searchParams.get("port") ?? (url.port || "5432"),
  };
}

export async function setConninfo({ ask }: PromotionServer, conninfo: string): Promise<void> {
  await ask(`alter system set primary_conninfo = ${postgresDriver().escapeLiteral(conninfo).trim()}`);
  await ask("select pg_reload_conf()");
}

export async function receivedBytes({ ask }: PromotionStandby): Promise<bigint> {
  const row =
    await ask(`select (greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), coalesce(pg_last_wal_replay_lsn(), '0/0'))
    - '0/0'::pg_lsn)::text as bytes`);
  return BigInt(String(row["bytes"]));
}

/** @returns the problem in plain words; undefined: none */
export async function followNew(
  other: PromotionStandby,
  primary: PostgresHost,
  ms: number,
): Promise<string | undefined> {
  const { name } = other.host;
  if (other.conninfo === "") return `${name} had no primary_conninfo: point it at the new primary`;
  try {
    await setConninfo(other, leadingTo(other.conninfo, addressOf(primary)));
    let polls = 0;
    await waitUntil(ms, `${name} to follow`, async () => {
      const row = await other.ask(
        `select pg_sleep(${pollSeconds}), (select count(*)::int from pg_stat_wal_receiver where status = 'streaming') as receiving`,
      );
      polls += 1;
      // It wakes a standby that otherwise waits wal_retrieve_retry_interval before its next attempt.
      if (row["receiving"] !== 1 && polls % pollsBeforeRetry === 0) await other.ask("select pg_reload_conf()");
      return row["receiving"] === 1;
    });
    return undefined;
  } catch (error) {
    return `${name} does not follow the new primary yet: ${messageOf(error)}`;
  }
}

/**
 * Polls until a condition holds. The sleep function of the servers paces the checks.
 * @throws PromotionFailedError when it does not hold in time
 */
export async function waitUntil(ms: number, what: string, isMet: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + ms;
  while (!(await isMet())) {
    if (performance.now() > giveUpAt) throw new PromotionFailedError(`waited ${ms} ms for ${what}`);
  }
}

/**
 * Postgres promote: puts a standby in the place of the primary, in the order that needs no timing (docs/protocol.md
 * §4.4): every standby that can be reached first stops receiving, then what they have received is compared, then the
 * first of them is promoted and the others follow it. The old primary may be dead, cut off, or alive and none the
 * wiser.
 *
 * Nothing is changed before it is certain that nothing acknowledged can be lost, unless that was accepted; when it
 * fails later and before the promotion, the standbys follow again whom they followed. It may be run again at any time.
 */
import { CodedError } from "../../../events/index.ts";
import { causeOf, messageOf, PostgresConnection, type Row } from "./connection.ts";
import { postgresDriver } from "./driver.ts";
import { type PostgresHost, parsePostgresHosts } from "./hosts.ts";
import {
  attached,
  chooseStandby,
  detached,
  leadingTo,
  nameIn,
  type Received,
  type Seen,
  type StandbySeen,
  whatMayBeLost,
} from "./promotion.ts";

export type PromoteOptions = Readonly<{
  /** Names every server. Its user may change the servers' settings: a superuser, as a rule. */
  connectionString: string;
  schema?: string;
  /** The name of a primary that does not answer, where `synchronous_standby_names` lists it among the others. */
  oldPrimary?: string | null;
  /** What is known to be lost at worst is said before. */
  loss?: "refuse" | "accept";
  /** A primary that answers is replaced only when that is meant. */
  livingPrimary?: "refuse" | "replace";
  /** Looks, judges and changes nothing. */
  only?: "look" | "all";
  say?: (line: string) => void;
  connectTimeoutMs?: number;
  /** For each of: receiving stops, what was received is replayed, the promotion, a standby follows. */
  stepTimeoutMs?: number;
}>;

export type Promotion = Readonly<{
  promoted: string;
  /** Where the log stands there. */
  epoch: number;
  position: number;
  follow: readonly string[];
  /** What is left to do by hand, in plain words. */
  left: readonly string[];
  /** Why something acknowledged may be lost; empty: nothing is. */
  mayBeLost: readonly string[];
}>;

/** It was not done, and everything is as it was before. */
export class PromotionRefusedError extends CodedError<"ERR_REPLICATION_PROMOTION_REFUSED"> {
  override readonly code = "ERR_REPLICATION_PROMOTION_REFUSED";
}

/** Begun, and not finished: the message says how far it came. Run it again. */
export class PromotionFailedError extends CodedError<"ERR_REPLICATION_PROMOTION_FAILED"> {
  override readonly code = "ERR_REPLICATION_PROMOTION_FAILED";
}

type Server = Readonly<{
  host: PostgresHost;
  ask: (text: string, values?: readonly unknown[]) => Promise<Row>;
  row: Row;
  end: () => Promise<void>;
}>;
type Standby = Server & StandbyState;
type StandbyState = { readonly conninfo: string; readonly seen: StandbySeen };

const pollSeconds = 0.05;
/**
 * So often in a row nobody must be receiving: a configuration that was reloaded reaches each process of a server on its
 * own.
 */
const stillLooks = 6;

const look = `select pg_is_in_recovery() as standby, current_setting('cluster_name') as cluster_name,
  current_setting('primary_conninfo') as conninfo, current_setting('synchronous_standby_names') as synchronous`;

/** @throws PromotionRefusedError, PromotionFailedError, LogRefusedError for a connection string that cannot be read */
export async function promotePostgresStandby(options: PromoteOptions): Promise<Promotion> {
  const { connectTimeoutMs = 3_000, stepTimeoutMs = 30_000, schema = "cardea", say = () => {} } = options;
  const hosts = parsePostgresHosts(options.connectionString);
  const met = await Promise.all(hosts.map((host) => meet(host, { connectTimeoutMs, stepTimeoutMs })));
  const servers = met.filter((each): each is Server => "ask" in each);
  try {
    const standbys = servers.filter(({ row }) => row["standby"] === true).map(asStandby);
    const seen: Seen = {
      standbys: standbys.map((standby) => standby.seen),
      primaries: servers
        .filter(({ row }) => row["standby"] === false)
        .map(({ host, row }) => ({
          host: host.name,
          name: String(row["cluster_name"]),
          synchronous: String(row["synchronous"]),
        })),
      unreachable: met.filter((each): each is Unreachable => "problem" in each),
      oldPrimary: options.oldPrimary ?? null,
    };
    const mayBeLost = judge(seen, options, say);
    if (options.only === "look") return { ...nothingDone, mayBeLost };
    const chosen = await stopAndChoose(standbys, { schema, stepTimeoutMs, say });
    return await promote(chosen, { standbys, stepTimeoutMs, say, mayBeLost, seen });
  } finally {
    await Promise.all(servers.map(({ end }) => end()));
  }
}

const nothingDone = { promoted: "", epoch: 0, position: 0, follow: [], left: [] } as const;

type Unreachable = Readonly<{ host: string; problem: string }>;

async function meet(
  host: PostgresHost,
  limits: Readonly<{ connectTimeoutMs: number; stepTimeoutMs: number }>,
): Promise<Server | Unreachable> {
  let connection: PostgresConnection | undefined;
  try {
    connection = await PostgresConnection.toAny(host, limits);
    const asked = connection;
    const ask = async (text: string, values: readonly unknown[] = []): Promise<Row> => {
      const sent = await asked.ask({ text, values }, limits.stepTimeoutMs);
      if (sent.type === "clean") return sent.rows[0] ?? {};
      const cause = causeOf(sent);
      throw new PromotionFailedError(`${host.name}: ${messageOf(cause)}`, { cause });
    };
    return { host, ask, row: await ask(look), end: () => asked.end() };
  } catch (error) {
    connection?.destroy();
    return { host: host.name, problem: messageOf(error) };
  }
}

function asStandby(server: Server): Standby {
  const { host, row } = server;
  const conninfo = attached(String(row["conninfo"]));
  const name = nameIn(conninfo, String(row["cluster_name"]));
  return { ...server, conninfo, seen: { host: host.name, name, synchronous: String(row["synchronous"]) } };
}

/** @returns what may be lost, which was accepted */
function judge(seen: Seen, options: PromoteOptions, say: (line: string) => void): readonly string[] {
  for (const { host, problem } of seen.unreachable) say(`${host}: not reached (${problem})`);
  for (const { host, name } of seen.primaries) say(`${host}: a primary${name === "" ? "" : ` (${name})`}`);
  for (const { host, name } of seen.standbys) say(`${host}: a standby (${name})`);
  if (seen.standbys.length === 0) throw new PromotionRefusedError("no standby answers: there is nothing to promote");
  const [living] = seen.primaries;
  if (living !== undefined && options.livingPrimary !== "replace") {
    throw new PromotionRefusedError(
      `${living.host} answers as a primary; when it is to be replaced all the same, say so (--replace-living)`,
    );
  }
  const mayBeLost = whatMayBeLost(seen);
  for (const why of mayBeLost) say(`may be lost: ${why}`);
  if (mayBeLost.length > 0 && options.loss !== "accept") {
    throw new PromotionRefusedError(
      `something acknowledged may be lost: ${mayBeLost.join("; ")}. When that must be so, say so (--accept-loss)`,
    );
  }
  return mayBeLost;
}

type Within = Readonly<{ schema: string; stepTimeoutMs: number; say: (line: string) => void }>;
type Chosen = Readonly<{ standby: Standby; received: Received }>;

/** No standby receives anything any more when this returns; when it throws, all of them follow again. */
async function stopAndChoose(standbys: readonly Standby[], within: Within): Promise<Chosen> {
  try {
    await Promise.all(standbys.map((standby) => stopReceiving(standby, within)));
    const before = await Promise.all(standbys.map(received));
    await Promise.all(standbys.map((standby) => replayed(standby, within)));
    const places = await Promise.all(standbys.map((standby) => placeOf(standby, within.schema)));
    const after = await Promise.all(standbys.map(received));
    for (const [i, { host }] of standbys.entries())
      if (before[i] !== after[i]) throw new PromotionFailedError(`${host.name} has gone on receiving`);
    const all = standbys.map((standby, i) => {
      const { epoch = 0, position = 0 } = places[i] ?? {};
      return { standby, received: { host: standby.host.name, bytes: after[i] ?? 0n, epoch, position } };
    });
    for (const each of all)
      within.say(
        `${each.received.host}: has the log up to epoch ${each.received.epoch}, position ${each.received.position}`,
      );
    const first = chooseStandby(all.map((each) => each.received));
    const chosen = all.find((each) => each.received === first);
    if (chosen === undefined) throw new PromotionFailedError("no standby is left");
    for (const [i, each] of all.entries())
      if (each !== chosen)
        await shareHistory(chosen.standby, { other: each.standby, place: places[i], schema: within.schema });
    return chosen;
  } catch (error) {
    const back = await Promise.allSettled(standbys.map((standby) => setConninfo(standby, standby.conninfo)));
    const lost = standbys.filter((_, i) => back[i]?.status === "rejected").map(({ host }) => host.name);
    const rest = lost.length === 0 ? "the standbys follow again" : `set primary_conninfo by hand on ${lost.join(", ")}`;
    throw new PromotionFailedError(`nothing was promoted: ${messageOf(error)}; ${rest}`, { cause: error });
  }
}

async function setConninfo({ ask }: Server, conninfo: string): Promise<void> {
  await ask(`alter system set primary_conninfo = ${postgresDriver().escapeLiteral(conninfo).trim()}`);
  await ask("select pg_reload_conf()");
}

async function stopReceiving(standby: Standby, { stepTimeoutMs, say }: Within): Promise<void> {
  await setConninfo(standby, detached(standby.conninfo));
  let still = 0;
  await until(stepTimeoutMs, `${standby.host.name} to stop receiving`, async () => {
    const row = await standby.ask(
      `select pg_sleep(${pollSeconds}), (select count(*)::int from pg_stat_wal_receiver where status = 'streaming') as receiving`,
    );
    still = row["receiving"] === 0 ? still + 1 : 0;
    return still >= stillLooks;
  });
  say(`${standby.host.name}: receives nothing any more`);
}

async function received({ ask }: Standby): Promise<bigint> {
  const row =
    await ask(`select (greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), coalesce(pg_last_wal_replay_lsn(), '0/0'))
    - '0/0'::pg_lsn)::text as bytes`);
  return BigInt(String(row["bytes"]));
}

/** What stands in its log is what it has received: no earlier can two of them be compared. */
async function replayed({ ask, host }: Standby, { stepTimeoutMs }: Within): Promise<void> {
  await until(stepTimeoutMs, `${host.name} to have replayed what it received`, async () => {
    const row = await ask(`select pg_sleep(${pollSeconds}), pg_is_wal_replay_paused() as paused,
      coalesce(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), true) as all_of_it`);
    if (row["paused"] === true) throw new Error(`${host.name} has its replay paused; resume it first`);
    return row["all_of_it"] === true;
  });
}

type Place = Readonly<{ epoch: number; position: number; hash: string }>;

async function placeOf({ ask, host }: Standby, schema: string): Promise<Place> {
  const name = postgresDriver().escapeIdentifier(schema);
  const { there } = await ask("select to_regclass($1) is not null as there", [`${name}.log_head`]);
  if (there !== true) throw new Error(`${host.name} has no log of Cardea in this database`);
  const row = await ask(`select epoch::text, pos::text, encode(hash, 'hex') as hash from ${name}.log_head`);
  return { epoch: Number(row["epoch"]), position: Number(row["pos"]), hash: String(row["hash"]) };
}

/** A standby of another history may have received more bytes, and be the wrong one. */
async function shareHistory(
  { ask, host }: Standby,
  { other, place, schema }: Readonly<{ other: Standby; place: Place | undefined; schema: string }>,
): Promise<void> {
  if (place === undefined || place.position === 0) return;
  const name = postgresDriver().escapeIdentifier(schema);
  const { hash } = await ask(
    `select coalesce((select encode(hash, 'hex') from ${name}.event where pos = $1),
       (select encode(hash, 'hex') from ${name}.log_base where pos = $1), '') as hash`,
    [place.position],
  );
  if (hash === place.hash) return;
  throw new Error(
    `${host.name} and ${other.host.name} hold different histories from position ${place.position} on: ` +
      "one of them followed another primary. Leave it out of the connection string",
  );
}

async function promote(
  { standby, received: { epoch, position } }: Chosen,
  by: Readonly<{
    standbys: readonly Standby[];
    stepTimeoutMs: number;
    say: (line: string) => void;
    mayBeLost: readonly string[];
    seen: Seen;
  }>,
): Promise<Promotion> {
  const { host, ask } = standby;
  const { say, stepTimeoutMs } = by;
  say(`${host.name}: is promoted`);
  try {
    await ask(`select pg_promote(true, ${Math.max(1, Math.floor(stepTimeoutMs / 1_000) - 1)})`);
    await until(stepTimeoutMs, `${host.name} to be a primary`, async () => {
      const row = await ask(`select pg_sleep(${pollSeconds}), pg_is_in_recovery() as standby`);
      return row["standby"] === false;
    });
  } catch (cause) {
    const how = "no standby follows anybody now; look at its journal, and run this again";
    throw new PromotionFailedError(`${host.name} was not promoted in time: ${messageOf(cause)}; ${how}`, { cause });
  }
  say(`${host.name}: is the primary`);
  const left: string[] = [];
  await ask("alter system reset primary_conninfo").catch((error: unknown) => void left.push(messageOf(error)));
  const follow: string[] = [];
  for (const other of by.standbys.filter((each) => each !== standby)) {
    const problem = await followNew(other, host, stepTimeoutMs);
    if (problem === undefined) follow.push(other.host.name);
    else left.push(problem);
    say(problem ?? `${other.host.name}: follows it`);
  }
  for (const { host: old } of by.seen.primaries)
    left.push(`${old} still believes that it is the primary: stop it, and bring it back as a standby (pg_rewind)`);
  for (const { host: silent } of by.seen.unreachable)
    left.push(`${silent} was not reached: let it come back only as a standby of ${host.name} (pg_rewind)`);
  return { promoted: host.name, epoch, position, follow, left, mayBeLost: by.mayBeLost };
}

/** @returns what went wrong, in plain words */
async function followNew(other: Standby, { connectionString }: PostgresHost, ms: number): Promise<string | undefined> {
  const { name } = other.host;
  if (other.conninfo === "") return `${name} had no primary_conninfo: point it at the new primary`;
  const url = new URL(connectionString);
  const host = url.searchParams.get("host") ?? url.hostname.replace(/^\[|\]$/g, "");
  const port = url.searchParams.get("port") ?? (url.port || "5432");
  try {
    await setConninfo(other, leadingTo(other.conninfo, { host, port }));
    await until(ms, `${name} to follow`, async () => {
      const row = await other.ask(
        `select pg_sleep(${pollSeconds}), (select count(*)::int from pg_stat_wal_receiver where status = 'streaming') as receiving`,
      );
      return row["receiving"] === 1;
    });
    return undefined;
  } catch (error) {
    return `${name} does not follow the new primary yet: ${messageOf(error)}`;
  }
}

/** The servers' own sleep paces the looks. */
async function until(ms: number, what: string, looked: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + ms;
  while (!(await looked())) {
    if (performance.now() > giveUpAt) throw new Error(`waited ${ms} ms for ${what}`);
  }
}

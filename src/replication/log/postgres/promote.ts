/**
 * Postgres promotion procedure: replaces the primary with a standby, in an order that needs no timing (docs/protocol.md
 * §4.4). Every reachable standby first stops receiving. The procedure then compares what they received, promotes the
 * furthest, and makes the others follow it. The old primary may be dead, cut off, or alive and unaware.
 *
 * - It changes nothing until it is certain that nothing acknowledged can be lost, unless the caller accepts the loss.
 * - If it fails later but before the promotion, the standbys follow their previous primary again.
 * - It may be run again at any time.
 */
import { CodedError } from "../../../events/index.ts";
import { messageOf } from "./connection.ts";
import { postgresDriver } from "./driver.ts";
import { parsePostgresHosts } from "./hosts.ts";
import { chooseStandby, detachConninfo, leadingTo, type Received, type Seen, whatMayBeLost } from "./promotion.ts";
import { type PromotionOrder, promotionOrdersOf } from "./promotion-order.ts";
import {
  addressOf,
  asStandby,
  endAll,
  followNew,
  type MetServers,
  meetServers,
  PromotionFailedError,
  type PromotionStandby,
  pollSeconds,
  receivedBytes,
  setConninfo,
  waitUntil,
} from "./promotion-servers.ts";

export type PromoteOptions = Readonly<{
  /** Names every server. Its user must be able to change server settings, which usually means a superuser. */
  connectionString: string;
  schema?: string;
  /** The name of a primary that does not answer, if `synchronous_standby_names` lists it among the others. */
  oldPrimary?: string | null;
  /** Whether to accept a possible loss. The procedure reports the worst case first. */
  loss?: "refuse" | "accept";
  /** `replace`: also replaces a primary that answers. */
  livingPrimary?: "refuse" | "replace";
  /**
   * The hosts of which one is to be promoted, named as in the connection string. If another standby has received more,
   * this one first receives the rest from it. Default: the standby that has received the most.
   */
  prefer?: ReadonlySet<string>;
  /** `look`: checks and reports, and changes nothing. */
  only?: "look" | "all";
  /** Servers that the caller has connected to and locked, and that it closes. Default: those of `connectionString`. */
  met?: MetServers;
  /**
   * The standbys of which it is not shown that no earlier run ordered their promotion, as the caller found under its
   * locks. Default: this asks them.
   */
  orders?: ReadonlyMap<string, PromotionOrder>;
  /** Called before the promotion is requested. From then on it may happen, also after this has failed. */
  onOrder?: () => void;
  /** Called once the promoted server accepts writes, unless its settings refuse them. */
  onPrimary?: () => void;
  say?: (line: string) => void;
  connectTimeoutMs?: number;
  /** Time limit, ms, of each step: receiving stops, received data is replayed, the promotion, a standby follows. */
  stepTimeoutMs?: number;
}>;

export type Promotion = Readonly<{
  promoted: string;
  /** The newest epoch in the log on the promoted server. */
  epoch: number;
  position: number;
  follow: readonly string[];
  /** The remaining manual steps, in plain words. */
  left: readonly string[];
  /** Why acknowledged events may be lost; empty: none can be. */
  mayBeLost: readonly string[];
}>;

/** The promotion was refused, and nothing has changed. */
export class PromotionRefusedError extends CodedError<"ERR_REPLICATION_PROMOTION_REFUSED"> {
  override readonly code = "ERR_REPLICATION_PROMOTION_REFUSED";
}

/**
 * Number of consecutive checks in which no standby may be receiving, and the pause before each. Each process of a
 * server applies a reloaded configuration on its own.
 */
const stillChecks = 6;
const stillSeconds = 0.05;

/** @throws PromotionRefusedError, PromotionFailedError, LogRefusedError for an unreadable connection string */
export async function promotePostgresStandby(options: PromoteOptions): Promise<Promotion> {
  const { connectTimeoutMs = 3_000, stepTimeoutMs = 30_000, schema = "cardea", say = () => {} } = options;
  const lock = options.only === "look" ? "none" : "take";
  const { servers, unreachable } =
    options.met ??
    (await meetServers(parsePostgresHosts(options.connectionString), { connectTimeoutMs, stepTimeoutMs, lock }));
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
      unreachable,
      oldPrimary: options.oldPrimary ?? null,
    };
    const mayBeLost = judge(seen, options, say);
    refuseOrdered(options.orders ?? (await promotionOrdersOf(standbys)));
    if (options.only === "look") return { ...nothingDone, mayBeLost };
    const chosen = await stopAndChoose(standbys, { schema, stepTimeoutMs, say, prefer: options.prefer ?? null });
    return await promote(chosen, { ...options, standbys, stepTimeoutMs, say, mayBeLost, seen });
  } finally {
    if (options.met === undefined) await endAll(servers);
  }
}

const nothingDone = { promoted: "", epoch: 0, position: 0, follow: [], left: [] } as const;

/** @returns the possible losses that the caller accepted */
function judge(seen: Seen, options: PromoteOptions, say: (line: string) => void): readonly string[] {
  for (const { host, problem } of seen.unreachable) say(`${host}: unreachable (${problem})`);
  for (const { host, name } of seen.primaries) say(`${host}: a primary${name === "" ? "" : ` (${name})`}`);
  for (const { host, name } of seen.standbys) say(`${host}: a standby (${name})`);
  if (seen.standbys.length === 0) throw new PromotionRefusedError("no standby answers: there is nothing to promote");
  const { prefer } = options;
  if (prefer !== undefined && !seen.standbys.some(({ host }) => prefer.has(host)))
    throw new PromotionRefusedError(`none of ${[...prefer].join(", ")} answers as a standby, so none can be promoted`);
  const [living] = seen.primaries;
  if (living !== undefined && options.livingPrimary !== "replace") {
    throw new PromotionRefusedError(
      `${living.host} still answers as a primary; to replace it anyway, use --replace-living`,
    );
  }
  const mayBeLost = whatMayBeLost(seen);
  for (const why of mayBeLost) say(`may be lost: ${why}`);
  if (mayBeLost.length > 0 && options.loss !== "accept") {
    throw new PromotionRefusedError(
      `an acknowledged change may be lost: ${mayBeLost.join("; ")}. To continue anyway, use --accept-loss`,
    );
  }
  return mayBeLost;
}

/**
 * A standby that another run has ordered to become a primary does so beside the one that this run promotes.
 * @throws PromotionRefusedError
 */
function refuseOrdered(orders: ReadonlyMap<string, PromotionOrder>): void {
  const [first] = orders;
  if (first === undefined) return;
  const [host, { state, why }] = first;
  const how = `wait until it is a primary; if it does not become one, see its log, or stop that server`;
  throw new PromotionRefusedError(state === "unknown" ? `${host} ${why}` : `${host} ${why}: ${how}`);
}

type Within = Readonly<{
  schema: string;
  stepTimeoutMs: number;
  say: (line: string) => void;
  prefer: ReadonlySet<string> | null;
}>;
type Chosen = Readonly<{ standby: PromotionStandby; received: Received }>;

/** When this returns, no standby receives anything any more. When it throws, all of them follow again. */
async function stopAndChoose(standbys: readonly PromotionStandby[], within: Within): Promise<Chosen> {
  try {
    await Promise.all(standbys.map((standby) => stopReceiving(standby, within)));
    const before = await Promise.all(standbys.map(receivedBytes));
    await Promise.all(standbys.map((standby) => replayed(standby, within)));
    const heads = await Promise.all(standbys.map((standby) => readHead(standby, within.schema)));
    const after = await Promise.all(standbys.map(receivedBytes));
    for (const [i, { host }] of standbys.entries())
      if (before[i] !== after[i]) throw new PromotionFailedError(`${host.name} continued to receive`);
    const all = standbys.map((standby, i) => {
      const { epoch = 0, position = 0 } = heads[i] ?? {};
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
        await shareHistory(chosen.standby, { other: each.standby, head: heads[i], schema: within.schema });
    return await preferredOf(all, chosen, within);
  } catch (error) {
    const back = await Promise.allSettled(standbys.map((standby) => setConninfo(standby, standby.conninfo)));
    const lost = standbys.filter((_, i) => back[i]?.status === "rejected").map(({ host }) => host.name);
    const rest = lost.length === 0 ? "the standbys follow again" : `set primary_conninfo by hand on ${lost.join(", ")}`;
    throw new PromotionFailedError(`nothing was promoted: ${messageOf(error)}; ${rest}`, { cause: error });
  }
}

/** The preferred standby, once it holds all that the most advanced one holds. */
async function preferredOf(all: readonly Chosen[], furthest: Chosen, within: Within): Promise<Chosen> {
  const { prefer, stepTimeoutMs, say } = within;
  if (prefer === null || prefer.has(furthest.standby.host.name)) return furthest;
  const candidates = all.filter(({ standby }) => prefer.has(standby.host.name));
  const first = chooseStandby(candidates.map((each) => each.received));
  const preferred = candidates.find((each) => each.received === first);
  if (preferred === undefined) throw new PromotionFailedError("no preferred standby is left");
  const { standby } = preferred;
  const own = { ...furthest.received, host: standby.host.name };
  if (preferred.received.bytes === furthest.received.bytes) return { standby, received: own };
  say(`${standby.host.name}: receives the rest from ${furthest.standby.host.name}, which has received more`);
  await setConninfo(standby, leadingTo(standby.conninfo, addressOf(furthest.standby.host)));
  await waitUntil(stepTimeoutMs, `${standby.host.name} to receive the rest`, async () => {
    await standby.ask(`select pg_sleep(${pollSeconds})`);
    return (await receivedBytes(standby)) >= furthest.received.bytes;
  });
  await stopReceiving(standby, within);
  await replayed(standby, within);
  return { standby, received: own };
}

async function stopReceiving(standby: PromotionStandby, { stepTimeoutMs, say }: Within): Promise<void> {
  await setConninfo(standby, detachConninfo(standby.conninfo));
  let still = 0;
  let pauseSeconds = stillSeconds;
  await waitUntil(stepTimeoutMs, `${standby.host.name} to stop receiving`, async () => {
    const askedAt = performance.now();
    const row = await standby.ask(
      `select pg_sleep(${pauseSeconds}), (select count(*)::int from pg_stat_wal_receiver where status = 'streaming') as receiving`,
    );
    still = row["receiving"] === 0 ? still + 1 : 0;
    // The way to a server that is far away is a part of the pause.
    const wayMs = performance.now() - askedAt - pauseSeconds * 1_000;
    pauseSeconds = Math.max(0, stillSeconds - Math.max(0, wayMs) / 2_000);
    return still >= stillChecks;
  });
  say(`${standby.host.name}: no longer receives changes`);
}

/** Waits until a standby has replayed all that it received. Standbys can be compared only after that. */
async function replayed({ ask, host }: PromotionStandby, { stepTimeoutMs }: Within): Promise<void> {
  await waitUntil(stepTimeoutMs, `${host.name} to replay what it received`, async () => {
    const row = await ask(`select pg_sleep(${pollSeconds}), pg_is_wal_replay_paused() as paused,
      coalesce(pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn(), true) as all_of_it`);
    if (row["paused"] === true) throw new Error(`${host.name} has its replay paused; resume it first`);
    return row["all_of_it"] === true;
  });
}

/** SQLSTATE undefined_table and invalid_schema_name. */
const noSuchTable: readonly string[] = ["42P01", "3F000"];

type StandbyHead = Readonly<{ epoch: number; position: number; hash: string }>;

async function readHead({ ask, host }: PromotionStandby, schema: string): Promise<StandbyHead> {
  const name = postgresDriver().escapeIdentifier(schema);
  const row = await ask(`select epoch::text, pos::text, encode(hash, 'hex') as hash from ${name}.log_head`).catch(
    (error: unknown) => {
      const cause = error instanceof Error ? error.cause : undefined;
      if (!(cause instanceof postgresDriver().DatabaseError) || !noSuchTable.includes(cause.code ?? "")) throw error;
      throw new Error(`${host.name} has no Cardea log in this database`, { cause });
    },
  );
  return { epoch: Number(row["epoch"]), position: Number(row["pos"]), hash: String(row["hash"]) };
}

/**
 * Checks that the standbys share one history: one with another may have received more bytes and be the wrong choice.
 */
async function shareHistory(
  { ask, host }: PromotionStandby,
  { other, head, schema }: Readonly<{ other: PromotionStandby; head: StandbyHead | undefined; schema: string }>,
): Promise<void> {
  if (head === undefined || head.position === 0) return;
  const name = postgresDriver().escapeIdentifier(schema);
  const { hash } = await ask(
    `select coalesce((select encode(hash, 'hex') from ${name}.event where pos = $1),
       (select encode(hash, 'hex') from ${name}.log_base where pos = $1), '') as hash`,
    [head.position],
  );
  if (hash === head.hash) return;
  throw new Error(
    `${host.name} and ${other.host.name} hold different histories from position ${head.position} on: ` +
      "one of them followed another primary. Leave it out of the connection string",
  );
}

async function promote(
  { standby, received: { epoch, position } }: Chosen,
  by: Readonly<{
    standbys: readonly PromotionStandby[];
    stepTimeoutMs: number;
    say: (line: string) => void;
    mayBeLost: readonly string[];
    seen: Seen;
    onOrder?: () => void;
    onPrimary?: () => void;
  }>,
): Promise<Promotion> {
  const { host, ask } = standby;
  const { say, stepTimeoutMs } = by;
  say(`${host.name}: promoting`);
  // The others connect meanwhile: they hold nothing that it lacks, and continue on its new timeline.
  const following = Promise.all(
    by.standbys
      .filter((each) => each !== standby)
      .map(async (other) => ({ name: other.host.name, problem: await followNew(other, host, stepTimeoutMs) })),
  );
  by.onOrder?.();
  try {
    await ask("select pg_promote(false)");
    await waitUntil(stepTimeoutMs, `${host.name} to be a primary`, async () => {
      const row = await ask(`select pg_sleep(${pollSeconds}), pg_is_in_recovery() as standby`);
      return row["standby"] === false;
    });
  } catch (cause) {
    await following;
    const how = `no standby follows a primary now; read the log of ${host.name} (is its disk full?), start it if it has ended, then run this command again`;
    throw new PromotionFailedError(`${host.name} was not promoted: ${messageOf(cause)}; ${how}`, { cause });
  }
  say(`${host.name}: is the primary`);
  const left: string[] = [];
  await ask("alter system reset primary_conninfo").catch((error: unknown) => void left.push(messageOf(error)));
  by.onPrimary?.();
  const follow: string[] = [];
  for (const { name, problem } of await following) {
    if (problem === undefined) follow.push(name);
    else left.push(problem);
    say(problem ?? `${name}: follows it`);
  }
  for (const { host: old } of by.seen.primaries)
    left.push(`${old} still acts as a primary: stop it, and bring it back as a standby (pg_rewind)`);
  for (const { host: silent } of by.seen.unreachable)
    left.push(`${silent} was unreachable: bring it back only as a standby of ${host.name} (pg_rewind)`);
  return { promoted: host.name, epoch, position, follow, left, mayBeLost: by.mayBeLost };
}

/**
 * Server heads: asks every Postgres server of a connection string for its role, its timeline and the head of its log.
 *
 * - It changes nothing, trusts no server, and concludes nothing; newest-head.ts judges what it found.
 * - It reads standbys before primaries. A standby can then show nothing that its primary lacks.
 */
import type { Epoch, Incarnation } from "../../../events/index.ts";
import { causeOf, messageOf, PostgresConnection, type PostgresRow } from "./connection.ts";
import { postgresDriver } from "./driver.ts";
import { DurabilityChecks, lookAt } from "./durability.ts";
import { type PostgresHost, parsePostgresHosts } from "./hosts.ts";
import {
  judgeHeads,
  type LogHead,
  linkToHold,
  type NewestHead,
  newestOf,
  type SeenHeads,
  type ServerHead,
  type UnreadServer,
} from "./newest-head.ts";
import type { Ask } from "./read.ts";
import { linkFrom } from "./statements.ts";

export type ServerHeadsOptions = Readonly<{
  /** Names every server. Never logged. */
  connectionString: string;
  cluster: string;
  schema?: string;
  connectTimeoutMs?: number;
  statementTimeoutMs?: number;
  /** A server that did not answer is tried again after this long, ms. Until then it counts as unread. Default: 0. */
  retryMs?: number;
}>;

type Limits = Readonly<{ schema: string; connectTimeoutMs: number; statementTimeoutMs: number }>;
type OpenServer = Readonly<{ host: PostgresHost; row: PostgresRow; ask: Ask }>;
type HeadParts = Limits & Readonly<{ durability: "check" | "skip" }>;
type FoundServer = OpenServer & Readonly<{ head: ServerHead }>;

/** @throws LogRefusedError for an unreadable connection string */
export async function readServerHeads(options: ServerHeadsOptions): Promise<SeenHeads & NewestHead> {
  const reader = new ServerHeadsReader(options);
  try {
    return await reader.read();
  } finally {
    await reader.close();
  }
}

/** Reads the heads again and again, over the same connections. Not concurrently. */
export class ServerHeadsReader {
  readonly #cluster: string;
  readonly #limits: Limits;
  readonly #hosts: readonly PostgresHost[];
  readonly #retryMs: number;
  readonly #connections = new Map<string, PostgresConnection>();
  /** Servers that did not accept a connection, and when to try them again. */
  readonly #failed = new Map<string, UnreadServer & Readonly<{ retryAt: number }>>();

  /** @throws LogRefusedError for an unreadable connection string */
  constructor(options: ServerHeadsOptions) {
    const { cluster, schema = "cardea", connectTimeoutMs = 3_000, statementTimeoutMs = 5_000, retryMs = 0 } = options;
    this.#cluster = cluster;
    this.#limits = { schema, connectTimeoutMs, statementTimeoutMs };
    this.#retryMs = retryMs;
    this.#hosts = parsePostgresHosts(options.connectionString);
  }

  async read(): Promise<SeenHeads & NewestHead> {
    const met = await Promise.all(this.#hosts.map((host) => this.#meet(host)));
    const open = met.filter((each): each is OpenServer => "ask" in each);
    const unread = met.filter((each): each is UnreadServer => "problem" in each);
    const isStandby = ({ row }: OpenServer): boolean => row["standby"] === true;
    const standbys = await readAll(open.filter(isStandby), { ...this.#limits, durability: "skip" }, unread);
    const upright = open.filter((server) => !isStandby(server));
    // Evidence takes time, and is needed only where another server may claim the log.
    const durability = upright.length > 1 || unread.length > 0 ? "check" : "skip";
    const primaries = await readAll(upright, { ...this.#limits, durability }, unread);
    return this.#judge([...primaries, ...standbys], unread);
  }

  async #judge(found: readonly FoundServer[], unread: readonly UnreadServer[]): Promise<SeenHeads & NewestHead> {
    const seen = { servers: found.map(({ head }) => head), unread };
    const newest = newestOf(seen, this.#cluster);
    const at = found.find(({ head }) => head === newest);
    try {
      const holds = at === undefined ? new Set<string>() : await heldBy(at, seen.servers, this.#limits);
      return { ...seen, ...judgeHeads(seen, { cluster: this.#cluster, holds }) };
    } catch (error) {
      // It was lost in between: judge without it.
      const lost = { host: at?.host.name ?? "", problem: messageOf(error) };
      return this.#judge(
        found.filter((server) => server !== at),
        [...unread, lost],
      );
    }
  }

  async close(): Promise<void> {
    const connections = [...this.#connections.values()];
    this.#connections.clear();
    await Promise.all(connections.map((connection) => connection.end()));
  }

  async #meet(host: PostgresHost): Promise<OpenServer | UnreadServer> {
    const failed = this.#failed.get(host.name);
    if (failed !== undefined && performance.now() < failed.retryAt) return { host: host.name, problem: failed.problem };
    try {
      // A fence ends the sessions of a server that still answers, so one failure of a kept connection proves nothing.
      const isKept = this.#connections.get(host.name)?.lost === false;
      const found = await this.#open(host).catch((error: unknown) => {
        if (isKept) return this.#open(host);
        throw error;
      });
      this.#failed.delete(host.name);
      return found;
    } catch (error) {
      const problem = messageOf(error);
      this.#failed.set(host.name, { host: host.name, problem, retryAt: performance.now() + this.#retryMs });
      return { host: host.name, problem };
    }
  }

  async #open(host: PostgresHost): Promise<OpenServer> {
    const connection = await this.#connectionTo(host);
    const ask: Ask = async (text, values = []) => {
      const sent = await connection.ask({ text, values }, this.#limits.statementTimeoutMs);
      if (sent.type === "clean") return sent.rows;
      throw causeOf(sent);
    };
    return { host, row: await serverRow(ask, this.#limits), ask };
  }

  async #connectionTo(host: PostgresHost): Promise<PostgresConnection> {
    const kept = this.#connections.get(host.name);
    if (kept !== undefined && !kept.lost) return kept;
    const opened = await PostgresConnection.toAny(host, this.#limits);
    this.#connections.set(host.name, opened);
    return opened;
  }
}

async function readAll(
  servers: readonly OpenServer[],
  how: HeadParts,
  unread: UnreadServer[],
): Promise<readonly FoundServer[]> {
  const heads = await Promise.all(
    servers.map(async (server) => {
      try {
        return { ...server, head: await headOf(server, how) };
      } catch (error) {
        unread.push({ host: server.host.name, problem: messageOf(error) });
        return null;
      }
    }),
  );
  return heads.filter((head) => head !== null);
}

const serverText = `select pg_is_in_recovery() as standby, current_setting('cluster_name') as name,
  current_setting('default_transaction_read_only') = 'on' as read_only, to_regclass($1) is not null as has_log,
  case when pg_is_in_recovery() then null else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline`;

/** One round trip, because a broker of another region waits for it during a move of the home region. */
async function serverRow(ask: Ask, { schema }: Limits): Promise<PostgresRow> {
  const values = [`"${schema}".log_head`];
  const both = `select s.*, c.* from (${serverText}) s, (${controlText}) c`;
  const [row = {}] = await ask(both, values).catch((error: unknown) => {
    if (!(error instanceof postgresDriver().DatabaseError) || error.code !== notPermitted) throw error;
    return ask(serverText, values);
  });
  return row;
}

/** SQLSTATE insufficient_privilege. */
const notPermitted = "42501";

/** The owner of a server may withdraw the right to read this. */
const controlText = `select s.system_identifier::text as system,
    coalesce((select received_tli from pg_stat_wal_receiver), c.timeline_id)::int as control_timeline
  from pg_control_system() s, pg_control_checkpoint() c`;

async function headOf({ host, row, ask }: OpenServer, how: HeadParts): Promise<ServerHead> {
  const role = row["standby"] === true ? "standby" : "primary";
  const written = row["timeline"];
  return {
    host: host.name,
    name: String(row["name"] ?? ""),
    role,
    writes: row["read_only"] === true ? "refused" : "accepted",
    system: typeof row["system"] === "string" ? row["system"] : null,
    // The control file of a primary shows the old timeline until the next checkpoint.
    timeline:
      typeof written === "string"
        ? Number.parseInt(written, 16)
        : typeof row["control_timeline"] === "number"
          ? row["control_timeline"]
          : null,
    log: row["has_log"] === true ? await logHeadOf(ask, how) : null,
  };
}

async function logHeadOf(ask: Ask, { schema, durability }: HeadParts): Promise<LogHead | null> {
  const [row] = await ask(
    `select cluster, epoch, incarnation, broker_id, broker_url, beat, pos, hash, durable_epoch, durable_pos, durable_hash,
       coalesce((select e.epoch from "${schema}".event e where e.pos = h.pos),
         (select b.epoch from "${schema}".log_base b where b.pos = h.pos), h.epoch) as head_epoch
     from "${schema}".log_head h`,
  );
  if (row === undefined) return null;
  const durable = linkFrom(row["durable_epoch"], row["durable_pos"], row["durable_hash"]);
  const checks = new DurabilityChecks((links) => lookAt(ask, schema, links), { withoutStandbys: "answer" });
  return {
    cluster: String(row["cluster"]),
    epoch: Number(row["epoch"]) as Epoch,
    incarnation: row["incarnation"] as Incarnation | null,
    brokerId: row["broker_id"] as string | null,
    brokerUrl: row["broker_url"] as string | null,
    beat: Number(row["beat"]),
    head: linkFrom(row["head_epoch"], row["pos"], row["hash"]),
    durable,
    durability:
      durability === "skip" ? "asynchronous" : await checks.check(durable).catch(() => "asynchronous" as const),
  };
}

/** The hosts whose head the newest server holds. What retention has dropped there counts as held. */
async function heldBy(
  { host, ask }: OpenServer,
  servers: readonly ServerHead[],
  { schema }: Limits,
): Promise<ReadonlySet<string>> {
  const others = servers.flatMap((server) => {
    const link = server.host === host.name ? null : linkToHold(server);
    return link === null ? [] : [{ host: server.host, link }];
  });
  const rows = await ask(
    `select x.host from unnest($1::text[], $2::bigint[], $3::bytea[]) as x(host, pos, hash)
     where x.pos = 0 or exists (select from "${schema}".event e where e.pos = x.pos and e.hash = x.hash)
       or exists (select from "${schema}".log_base b where b.pos > x.pos or (b.pos = x.pos and b.hash = x.hash))`,
    [
      others.map((other) => other.host),
      others.map(({ link }) => link.position),
      others.map(({ link }) => Buffer.from(link.hash, "hex")),
    ],
  );
  return new Set(rows.map((row) => String(row["host"])));
}

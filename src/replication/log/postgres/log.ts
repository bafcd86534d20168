/**
 * Postgres log: the log of a cluster. Any number of brokers have it open; data decides which of them may write.
 *
 * What always holds:
 *   - each append and beat is one statement, one transaction and one commit; only a clean answer to it counts
 *     (postgres/connection.ts);
 *   - no read goes above the durable horizon: the one in the head row, or the one that a clean commit gave to this
 *     process, if the log still has it under the same hash;
 *   - writes use one connection, one after another; reads use a few others. Both refuse a server that is a standby,
 *     read-only, of another cluster or of a newer schema, and a session that would commit unsafely.
 *
 * Lessees, keys, the vault and stream versions have no position; they are read in their current state. Any error that
 * this causes is on the safe side.
 */
import {
  type CommandId,
  type ConfigHash,
  type ConfigurationEntry,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  noEpoch,
  type Position,
  type SessionId,
  type StoredConfiguration,
  type Stream,
  type UserId,
  type WrappedKey,
} from "../../../events/index.ts";
import {
  type AdmittedNode,
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type BeatRequest,
  type Durability,
  type EpochStart,
  type EventLog,
  type Lessee,
  LogRefusedError,
  LogUnavailableError,
  type Observation,
  type OpenEpochOutcome,
  type OpenEpochRequest,
  type ReadOutcome,
  type RestoreStep,
  type RetainOutcome,
  type RetainRequest,
  type VaultEntry,
} from "../log.ts";
import { checkBatch, commandsKeptMs, keysPageMax, MalformedBatchError, sweptCommandsMax } from "../log-rules.ts";
import type { LogSink, PostgresConnection, Sent, Statement } from "./connection.ts";
import { PostgresConnections } from "./connections.ts";
import { DurabilityChecks, lookAt } from "./durability.ts";
import { openEpochOn } from "./epoch.ts";
import { HostOrder, type PostgresHost, parsePostgresHosts } from "./hosts.ts";
import { askOthers, checkStore, isWithoutLog, LogOrigin, migratePostgres, type StoreIdentity } from "./migrate.ts";
import { type Ask, readBase, readLink, readPage } from "./read.ts";
import { readRetained, readRetainRefusal, restoreInto, retainStatement } from "./restore.ts";
import {
  admittedNodeFrom,
  admittedNodesText,
  configurationFrom,
  configurationPlaceFrom,
  keyFrom,
  lesseeFrom,
  rowsOf,
} from "./rows.ts";
import {
  appendStatement,
  beatStatement,
  hasToWait,
  type LaidOutAppend,
  layOutAppend,
  linkFrom,
  readBeatRefusal,
  readRefusal,
} from "./statements.ts";

export type PostgresLogOptions = Readonly<{
  /** May name several hosts: `postgres://user:password@one:5432,two:5432/database`. Never logged. */
  connectionString: string;
  /** Recorded in the schema at creation; the log of another cluster is refused. */
  cluster: string;
  schema?: string;
  connectTimeoutMs?: number;
  /** A write without an answer for this long, ms, is indeterminate, and its connection is closed. */
  writeTimeoutMs?: number;
  readTimeoutMs?: number;
  readersMax?: number;
  /** `accept`: also accepts a `synchronous_commit` that may lose acknowledged events. */
  asynchronousCommit?: "refuse" | "accept";
  /** `wait`: opens without a server too, and starts as soon as there is one. Default: `fail`. */
  whenUnavailable?: "fail" | "wait";
  /** The names of the hosts to use. The others are only asked whether they have a log. Default: all. */
  onlyHosts?: ReadonlySet<string>;
  /** `read`: migrates nothing, and also reads a standby or a server that refuses writes. Default: `write`. */
  use?: "write" | "read";
  logger?: LogSink;
}>;

const waitingMax = 256;
/** Time limit of a restore step, ms. Only the process that restores waits for it. */
const restoreTimeoutMs = 60_000;

/**
 * Connects, migrates the schema and opens the log.
 * @throws LogUnavailableError when no writable primary answers (try again); LogRefusedError when this build must not
 * touch the log
 */
export async function openPostgresLog(options: PostgresLogOptions): Promise<EventLog> {
  const log = new PostgresLog(options);
  try {
    await log.prepare();
  } catch (error) {
    if (options.whenUnavailable !== "wait" || !(error instanceof LogUnavailableError)) {
      await log.close();
      throw error;
    }
    options.logger?.warn({ problem: error.message }, "Postgres is not available yet; waiting for it");
  }
  return log;
}

type Clean = Readonly<{ epoch: Epoch; incarnation: Incarnation; link: Link }>;
type Head = Omit<Observation, "head"> & Readonly<{ horizon: Link }>;

class PostgresLog implements EventLog {
  readonly kind = "postgres";
  readonly exclusive = false;
  readonly #schema: string;
  /** Every server of the connection string. */
  readonly #hosts: readonly PostgresHost[];
  readonly #options: Required<Omit<PostgresLogOptions, "logger" | "onlyHosts">> & Pick<PostgresLogOptions, "logger">;
  readonly #connect: ConstructorParameters<typeof PostgresConnections>[0];
  readonly #writer: PostgresConnections;
  readonly #readers: PostgresConnections;
  readonly #durability = new DurabilityChecks((links) => this.#read((ask) => lookAt(ask, this.#schema, links)));
  /** The head of the last clean commit. It is newer than the one in the head row, which the next commit updates. */
  #clean: Clean | undefined;
  /** An append prepared ahead. One at most: a writer has one next batch. */
  #laidOut: Readonly<{ batch: AppendBatch; append: LaidOutAppend }> | undefined;
  /**
   * Whether the newest write had to wait for standbys, by the settings of its session; undefined: nothing was written
   * yet.
   */
  #waits: boolean | undefined;
  #prepared = false;
  #opening: Readonly<{ expected: Epoch; connection: PostgresConnection }> | undefined;
  /** The newest epoch that this process has seen or that `heardOf` reported. */
  #newest = noEpoch;

  constructor(options: PostgresLogOptions) {
    const { use = "write" } = options;
    this.#prepared = use === "read";
    this.#options = {
      schema: "cardea",
      connectTimeoutMs: 2_000,
      writeTimeoutMs: 4_000,
      readTimeoutMs: 5_000,
      readersMax: 4,
      asynchronousCommit: "refuse",
      whenUnavailable: "fail",
      use: "write",
      ...options,
    };
    const { schema, cluster, connectTimeoutMs, writeTimeoutMs, readTimeoutMs, readersMax, asynchronousCommit } =
      this.#options;
    this.#schema = schema;
    this.#hosts = parsePostgresHosts(options.connectionString);
    const usable = this.#hosts.filter(({ name }) => options.onlyHosts?.has(name) ?? true);
    const store: StoreIdentity = { schema, cluster, origin: new LogOrigin() };
    this.#connect = {
      hosts: new HostOrder(usable),
      connectTimeoutMs,
      statementTimeoutMs: writeTimeoutMs,
      asynchronousCommit: use === "read" ? "accept" : asynchronousCommit,
      standby: use === "read" ? "accept" : "refuse",
      logger: options.logger,
      atOnce: 1,
      waitingMax,
      check: (connection) => this.#check(connection, store),
    };
    this.#writer = new PostgresConnections(this.#connect);
    const forReading = { statementTimeoutMs: readTimeoutMs, atOnce: readersMax, logger: undefined };
    this.#readers = new PostgresConnections({ ...this.#connect, ...forReading });
  }

  get waitsForStandbys(): boolean | undefined {
    return this.#waits;
  }

  /** Settles once it finds a server that this log may use. */
  async prepare(): Promise<void> {
    await (this.#options.use === "read" ? this.#readers : this.#writer).use(async () => {});
  }

  /** Checks a connection. The first one, to whichever server, migrates the schema. */
  async #check(connection: PostgresConnection, store: StoreIdentity): Promise<void> {
    if (this.#prepared) return checkStore(connection, store);
    if (await isWithoutLog(connection, store)) await askOthers(connection, this.#hosts, { ...this.#options, ...store });
    await migratePostgres(connection, store);
    if (this.#options.whenUnavailable === "wait")
      this.#options.logger?.info({ host: connection.host }, "Postgres is available");
    this.#prepared = true;
  }

  layOut(batch: AppendBatch): void {
    try {
      this.#laidOut = { batch, append: this.#append(batch) };
    } catch {
      this.#laidOut = undefined; // `append` reports the error
    }
  }

  #append(batch: AppendBatch): LaidOutAppend {
    checkBatch(batch);
    return layOutAppend(batch, this.#options.asynchronousCommit);
  }

  async append(batch: AppendBatch): Promise<AppendOutcome> {
    const append = this.#laidOut?.batch === batch ? this.#laidOut.append : this.#append(batch);
    this.#laidOut = undefined;
    const sent = await this.#send(appendStatement(this.#schema, append, this.#durable(batch)), {
      epoch: batch.epoch,
      incarnation: batch.incarnation,
      link: batch.last,
    });
    if (sent.type === "clean") return { type: "appended", last: batch.last };
    return sent.type === "refused" ? readRefusal(sent.error) : sent;
  }

  async beat(request: BeatRequest): Promise<BeatOutcome> {
    const sent = await this.#send(
      beatStatement(this.#schema, request, this.#durable(request), this.#options.asynchronousCommit),
      { epoch: request.epoch, incarnation: request.incarnation, link: request.head },
    );
    if (sent.type === "clean") return { type: "beaten", head: request.head };
    return sent.type === "refused" ? readBeatRefusal(sent.error) : sent;
  }

  async openEpoch(request: OpenEpochRequest): Promise<OpenEpochOutcome> {
    try {
      const { schema, writeTimeoutMs: timeoutMs, asynchronousCommit } = this.#options;
      const opened = await this.#writer.use(async (connection) => {
        this.#opening = { expected: request.expected, connection };
        try {
          return await openEpochOn(connection, { schema, timeoutMs, asynchronousCommit }, request);
        } finally {
          this.#opening = undefined;
        }
      });
      if (opened.type === "opened") {
        this.#clean = { epoch: opened.epoch, incarnation: request.incarnation, link: opened.head };
        this.#noteEpoch(opened.epoch);
      }
      return opened;
    } catch (cause) {
      if (cause instanceof MalformedBatchError) throw cause;
      return { type: "unavailable", cause };
    }
  }

  async observe(): Promise<Observation> {
    return this.#read(async (ask, host) => {
      const { horizon, ...rest } = await this.#head(ask);
      // An old primary that was not stopped shows its past for ever, and a write there waits in vain.
      if (rest.epoch < this.#newest) this.#connect.hosts.doubtful(host);
      this.heardOf(rest.epoch);
      return { ...rest, head: horizon };
    });
  }

  heardOf(epoch: Epoch): void {
    this.#noteEpoch(epoch);
    // Another process has opened an epoch. An opening that still waits may wait in vain at an old primary.
    if (this.#opening !== undefined && epoch > this.#opening.expected) this.#opening.connection.destroy();
  }

  #noteEpoch(epoch: Epoch): void {
    if (epoch > this.#newest) this.#newest = epoch;
  }

  async read(after: Link, limit: number): Promise<ReadOutcome> {
    return this.#read(async (ask) => {
      const { horizon } = await this.#head(ask);
      return readPage(ask, this.#schema, { after, limit, horizon });
    });
  }

  async linkAt(position: Position): Promise<Link | undefined> {
    return this.#read(async (ask) => {
      const { horizon } = await this.#head(ask);
      return position > horizon.position ? undefined : readLink(ask, this.#schema, position);
    });
  }

  async base(): Promise<Link> {
    return this.#read((ask) => readBase(ask, this.#schema));
  }

  async retain(request: RetainRequest): Promise<RetainOutcome> {
    const statement = retainStatement(this.#schema, request, this.#options.asynchronousCommit);
    const sent = await this.#send(statement, undefined);
    if (sent.type === "clean") return readRetained(sent.rows);
    return sent.type === "refused" ? readRetainRefusal(sent.error) : sent;
  }

  async restore(step: RestoreStep): Promise<Link> {
    return this.#writer.use((connection) =>
      restoreInto(connection, { ...this.#options, schema: this.#schema, timeoutMs: restoreTimeoutMs }, step),
    );
  }

  async epochs(): Promise<readonly EpochStart[]> {
    return this.#read(async (ask) => {
      const { horizon } = await this.#head(ask);
      const rows = await ask(
        `select epoch, incarnation, start_pos from "${this.#schema}".log_epoch where start_pos <= $1 order by start_pos`,
        [horizon.position],
      );
      return rows.map((row) => ({
        epoch: Number(row["epoch"]) as Epoch,
        incarnation: row["incarnation"] as Incarnation,
        start: Number(row["start_pos"]) as Position,
      }));
    });
  }

  durabilityOf(link: Link): Promise<Durability> {
    return this.#durability.check(link);
  }

  async findCommand(commandId: CommandId): Promise<Readonly<{ first: Position; count: number }> | undefined> {
    return this.#read(async (ask) => {
      const { horizon } = await this.#head(ask);
      const [row] = await ask(
        `select first_pos, count from "${this.#schema}".command where command_id = $1 and through_pos <= $2`,
        [commandId, horizon.position],
      );
      return row && { first: Number(row["first_pos"]) as Position, count: Number(row["count"]) };
    });
  }

  async streamVersions(streams: readonly Stream[]): Promise<ReadonlyMap<Stream, number>> {
    const text = `select stream, version from "${this.#schema}".stream_head where stream = any ($1)`;
    const rows = await this.#read((ask) => ask(text, [streams]));
    return new Map(rows.map((row) => [row["stream"] as Stream, Number(row["version"])]));
  }

  async admittedNodes(): Promise<readonly AdmittedNode[]> {
    return (await this.#read((ask) => ask(admittedNodesText(`"${this.#schema}"`)))).map(admittedNodeFrom);
  }

  async lessees(): Promise<readonly Lessee[]> {
    const text = `select node, boot, region, role, window_ms from "${this.#schema}".lessee`;
    return (await this.#read((ask) => ask(text))).map(lesseeFrom);
  }

  async keys(users: readonly UserId[]): Promise<readonly WrappedKey[]> {
    const text = `select user_id, key_id, wrapped from "${this.#schema}".person_key where user_id = any ($1) and wrapped is not null`;
    const rows = await this.#read((ask) => ask(text, [users]));
    return rows.map(keyFrom);
  }

  async keysAfter(user: UserId | null, limit: number): Promise<readonly WrappedKey[]> {
    const text = `select user_id, key_id, wrapped from "${this.#schema}".person_key
      where user_id collate "C" > $1 and wrapped is not null order by user_id collate "C" limit $2`;
    const rows = await this.#read((ask) => ask(text, [user ?? "", Math.max(1, Math.min(keysPageMax, limit))]));
    return rows.map(keyFrom);
  }

  async rewrapKeys(keys: readonly WrappedKey[]): Promise<number> {
    const text = `with done as (
        update "${this.#schema}".person_key k set wrapped = x.wrapped
        from unnest($1::text[], $2::bytea[], $3::bytea[]) as x(user_id, key_id, wrapped)
        where k.user_id = x.user_id and k.key_id = x.key_id and k.wrapped is not null returning 1
      ) select count(*) as count from done`;
    const columns = [keys.map((k) => k.userId), keys.map((k) => k.keyId), keys.map((k) => k.wrapped)];
    const [row] = await this.#read((ask) => ask(text, columns));
    return Number(row?.["count"]);
  }

  async vault(sessionId: SessionId): Promise<VaultEntry | undefined> {
    const text = `select version, sealed from "${this.#schema}".vault where session_id = $1`;
    const [row] = await this.#read((ask) => ask(text, [sessionId]));
    return row && { sessionId, version: Number(row["version"]), sealed: row["sealed"] as Uint8Array };
  }

  async configuration(configHash: ConfigHash): Promise<StoredConfiguration | undefined> {
    const text = `select hash, extract(epoch from recorded_at) * 1000 as at, body from "${this.#schema}".configuration where hash = $1`;
    const [row] = await this.#read((ask) => ask(text, [configHash]));
    return row && configurationFrom(row);
  }

  async configurations(): Promise<readonly ConfigurationEntry[]> {
    const text = `select hash, extract(epoch from recorded_at) * 1000 as at, octet_length(body) as bytes
      from "${this.#schema}".configuration order by recorded_at, hash collate "C"`;
    return (await this.#read((ask) => ask(text))).map(configurationPlaceFrom);
  }

  async sweepCommands(): Promise<number> {
    const text = `with gone as (
        delete from "${this.#schema}".command where command_id in (
          select command_id from "${this.#schema}".command where at < clock_timestamp() - $1 * interval '1 millisecond'
          order by at limit $2 for update skip locked
        ) returning 1
      ) select count(*) as count from gone`;
    const [row] = await this.#read((ask) => ask(text, [commandsKeptMs, sweptCommandsMax]));
    return Number(row?.["count"]);
  }

  async close(): Promise<void> {
    await Promise.all([this.#writer.close(), this.#readers.close()]);
  }

  /** Sends a write. A clean answer proves that everything up to `proves` is durable. */
  async #send(
    statement: Statement,
    proves: Clean | undefined,
  ): Promise<Sent | Readonly<{ type: "unavailable"; cause: unknown }>> {
    try {
      return await this.#writer.use(async (connection) => {
        const sent = await connection.ask(statement, this.#options.writeTimeoutMs);
        if (sent.type === "clean" && proves !== undefined) {
          this.#clean = proves;
          this.#noteWaiting(hasToWait(sent.rows), connection.host);
        }
        return sent;
      });
    } catch (cause) {
      return { type: "unavailable", cause };
    }
  }

  /** For operators only: the result `synchronous` rests on evidence (durability.ts), not on settings. */
  #noteWaiting(waits: boolean, host: string): void {
    if (waits === this.#waits) return;
    const before = this.#waits;
    this.#waits = waits;
    const { logger } = this.#options;
    if (waits && before !== undefined) logger?.info({ host }, "commits wait for a synchronous standby again");
    if (!waits && before === true)
      logger?.warn(
        { host },
        "commits no longer wait for a synchronous standby; a failover may lose what is acknowledged from now on, leases included, " +
          "and receipts say asynchronous (docs/deploy.md)",
      );
  }

  /** The link to report to the head row as durable: only one from a clean commit of the same epoch. */
  #durable({ epoch, incarnation }: Pick<AppendBatch, "epoch" | "incarnation">): Link {
    return this.#clean?.epoch === epoch && this.#clean.incarnation === incarnation ? this.#clean.link : genesis;
  }

  async #head(ask: Ask): Promise<Head> {
    const clean = this.#clean?.link ?? genesis;
    const s = `"${this.#schema}"`;
    const [row] = await ask(
      `select epoch, incarnation, broker_id, broker_url, beat, durable_epoch, durable_pos, durable_hash,
         (select e.hash from ${s}.event e where e.pos = $1) as clean_hash
       from ${s}.log_head`,
      [clean.position],
    );
    if (row === undefined) throw new LogRefusedError(`schema ${this.#schema} has lost its head row`);
    const durable = linkFrom(row["durable_epoch"], row["durable_pos"], row["durable_hash"]);
    const hash = row["clean_hash"];
    const still = hash instanceof Uint8Array && Buffer.from(hash).toString("hex") === clean.hash;
    return {
      epoch: Number(row["epoch"]) as Epoch,
      incarnation: row["incarnation"] as Incarnation | null,
      brokerId: row["broker_id"] as Observation["brokerId"],
      brokerUrl: row["broker_url"] as string | null,
      beat: Number(row["beat"]),
      horizon: still && clean.position > durable.position ? clean : durable,
    };
  }

  /** Reads, and retries once over another connection if the first was cut. @throws LogUnavailableError */
  async #read<T>(work: (ask: Ask, host: string) => Promise<T>): Promise<T> {
    const timeoutMs = this.#options.readTimeoutMs;
    const once = () =>
      this.#readers.use((connection) => {
        const ask: Ask = async (text, values = []) =>
          rowsOf(await connection.ask({ text, values }, timeoutMs), connection);
        return work(ask, connection.host);
      });
    try {
      return await once();
    } catch (error) {
      if (error instanceof LogUnavailableError) return once();
      throw error;
    }
  }
}

/**
 * Reads of the simulated log: the brokers' read-only calls to the Postgres model, as postgres/log.ts makes them.
 *
 * - A read sends its queries one after the other on one connection.
 * - A read returns nothing above the durable horizon.
 */
import {
  type CommandId,
  type ConfigHash,
  type ConfigurationEntry,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  type SessionId,
  type StoredConfiguration,
  type Stream,
  sameLink,
  type UserId,
  type WrappedKey,
} from "../../src/events/index.ts";
import {
  evidenceMsMax,
  evidencePausesMs,
  judgeEvidence,
  type ReplicationLook,
} from "../../src/replication/log/durability.ts";
import {
  type AdmittedNode,
  type Durability,
  type EpochStart,
  type Lessee,
  LogUnavailableError,
  type Observation,
  type ReadOutcome,
  type VaultEntry,
} from "../../src/replication/log/log.ts";
import {
  commandsKeptMs,
  judgeReader,
  keysPageMax,
  pageBytesMax,
  pageLimit,
  sweptCommandsMax,
} from "../../src/replication/log/log-rules.ts";
import { HostOrder } from "../../src/replication/log/postgres/hosts.ts";
import { Lender, type Lent, type LinkTerms, type Sent } from "./postgres-link.ts";
import type { PostgresModel } from "./postgres-model.ts";
import type { PostgresState } from "./postgres-state.ts";
import type { SimProcess } from "./process.ts";

export type SimLogOptions = Readonly<{
  connectTimeoutMs?: number;
  writeTimeoutMs?: number;
  readTimeoutMs?: number;
  readersMax?: number;
  /** Known servers, in the order of connection attempts. Default: all. */
  servers?: readonly string[];
}>;

/** Receives a read's answer, or the error. */
export type LogAnswer<T> = (answer: T | LogUnavailableError) => void;

export type Clean = Readonly<{ epoch: Epoch; incarnation: Incarnation; link: Link }>;
type Head = Readonly<{ seen: Omit<Observation, "head">; horizon: Link }>;
type Found = Readonly<{ first: Position; count: number }>;
/** Sends a query of one read. The queries of a read run in sequence on one connection. */
type LogQuery = <T>(look: (state: PostgresState) => T, then: (value: T) => void) => void;

const waitingMax = 256;

export class LogReads {
  protected readonly process: SimProcess;
  protected readonly model: PostgresModel;
  protected readonly hosts: HostOrder;
  protected readonly terms: Omit<LinkTerms, "atOnce">;
  readonly #readers: Lender;
  readonly #readTimeoutMs: number;
  /** Head of our last clean commit. It is ahead of the head row, which learns it only from the next commit. */
  protected clean: Clean | undefined;

  constructor(process: SimProcess, model: PostgresModel, options: SimLogOptions) {
    this.process = process;
    this.model = model;
    this.#readTimeoutMs = options.readTimeoutMs ?? 5_000;
    const names = options.servers ?? model.servers.map(({ name }) => name);
    this.hosts = new HostOrder(names.map((name) => ({ name, connectionString: "" })));
    this.terms = { connectTimeoutMs: options.connectTimeoutMs ?? 2_000, waitingMax };
    this.#readers = new Lender(process, model, this.hosts, { ...this.terms, atOnce: options.readersMax ?? 4 });
  }

  observe(answer: LogAnswer<Observation>): void {
    this.#read((query, done) => this.#head(query, ({ seen, horizon }) => done({ ...seen, head: horizon })), answer);
  }

  read(after: Link, limit: number, answer: LogAnswer<ReadOutcome>): void {
    this.#read<ReadOutcome>((query, done, at) => {
      const served = (outcome: ReadOutcome): ReadOutcome => {
        this.#reportPage(at(), after, outcome);
        return outcome;
      };
      this.#head(query, ({ horizon }) =>
        query(
          (state) => {
            const first = (state.base.position + 1) as Position;
            const checked = judgeReader(after, { horizon, first, at: state.linkAt(after.position) });
            return checked && served(checked);
          },
          (checked) => {
            if (checked !== undefined) return done(checked);
            query((state) => served(pageOf(state, after, { horizon, limit })), done);
          },
        ),
      );
    }, answer);
  }

  base(answer: LogAnswer<Link>): void {
    this.#read((query, done) => query((state) => state.base, done), answer);
  }

  linkAt(position: Position, answer: LogAnswer<Link | undefined>): void {
    this.#read<Link | undefined>(
      (query, done) =>
        this.#head(query, ({ horizon }) =>
          position > horizon.position ? done(undefined) : query((state) => state.linkAt(position), done),
        ),
      answer,
    );
  }

  epochs(answer: LogAnswer<readonly EpochStart[]>): void {
    this.#read<readonly EpochStart[]>(
      (query, done) =>
        this.#head(query, ({ horizon }) =>
          query((state) => state.epochs.filter(({ start }) => start <= horizon.position), done),
        ),
      answer,
    );
  }

  /** Checks one server repeatedly until the evidence is clear, as postgres/durability.ts does. */
  durabilityOf(link: Link, answer: (durability: Durability) => void): void {
    let open = true;
    const end = (durability: Durability): void => {
      if (!open) return;
      open = false;
      late.cancel();
      answer(durability);
    };
    const late = this.process.after(evidenceMsMax, () => end("asynchronous"));
    const once = (ended: LogAnswer<Durability>): void =>
      this.#withReader<Durability>(ended, (lent, done) => this.#findEvidence(lent, link, done));
    once((first) => {
      if (!(first instanceof LogUnavailableError)) return end(first);
      once((second) => end(second instanceof LogUnavailableError ? "asynchronous" : second));
    });
  }

  #findEvidence(lent: Lent, link: Link, done: LogAnswer<Durability>): void {
    let end: bigint | undefined;
    const look = (turn: number): void =>
      lent.ask<ReplicationLook>(
        (at, reply) => at.look(link, reply),
        this.#readTimeoutMs,
        (sent) => {
          if (sent.type !== "clean") return done(unavailableAt(lent, sent));
          end ??= sent.value.end;
          const evidence = judgeEvidence(sent.value, end);
          if (evidence !== "behind") return done(evidence);
          const pauseMs = evidencePausesMs[turn];
          if (pauseMs === undefined) return done("asynchronous");
          this.process.after(pauseMs, () => look(turn + 1));
        },
      );
    look(0);
  }

  findCommand(commandId: CommandId, answer: LogAnswer<Found | undefined>): void {
    this.#read<Found | undefined>(
      (query, done) =>
        this.#head(query, ({ horizon }) =>
          query((state) => {
            const made = state.commands.get(commandId);
            if (made === undefined || made.through > horizon.position) return undefined;
            return { first: made.first, count: made.count };
          }, done),
        ),
      answer,
    );
  }

  streamVersions(streams: readonly Stream[], answer: LogAnswer<ReadonlyMap<Stream, number>>): void {
    const look = (state: PostgresState): ReadonlyMap<Stream, number> => {
      const found = new Map<Stream, number>();
      for (const stream of streams) {
        const version = state.versions.get(stream);
        if (version !== undefined) found.set(stream, version);
      }
      return found;
    };
    this.#read((query, done) => query(look, done), answer);
  }

  lessees(answer: LogAnswer<readonly Lessee[]>): void {
    this.#read((query, done) => query((state) => [...state.lessees.values()], done), answer);
  }

  admittedNodes(answer: LogAnswer<readonly AdmittedNode[]>): void {
    this.#read((query, done) => query((state) => [...state.admitted.values()], done), answer);
  }

  keys(users: readonly UserId[], answer: LogAnswer<readonly WrappedKey[]>): void {
    const look = (state: PostgresState): readonly WrappedKey[] =>
      [...new Set(users)].map((user) => state.keys.get(user)).filter((key) => key !== undefined && key !== null);
    this.#read((query, done) => query(look, done), answer);
  }

  keysAfter(user: UserId | null, limit: number, answer: LogAnswer<readonly WrappedKey[]>): void {
    const look = (state: PostgresState): readonly WrappedKey[] =>
      [...state.keys.values()]
        .filter((key) => key !== null)
        .filter((key) => user === null || key.userId > user)
        .sort((a, b) => (a.userId < b.userId ? -1 : 1))
        .slice(0, Math.max(1, Math.min(keysPageMax, limit)));
    this.#read((query, done) => query(look, done), answer);
  }

  vault(sessionId: SessionId, answer: LogAnswer<VaultEntry | undefined>): void {
    this.#read((query, done) => query((state) => state.vault.get(sessionId), done), answer);
  }

  configuration(configHash: ConfigHash, answer: LogAnswer<StoredConfiguration | undefined>): void {
    this.#read((query, done) => query((state) => state.configurations.get(configHash), done), answer);
  }

  configurations(answer: LogAnswer<readonly ConfigurationEntry[]>): void {
    const look = (state: PostgresState): readonly ConfigurationEntry[] =>
      [...state.configurations.values()]
        .map(({ configHash, recordedAt, body }) => ({ configHash, recordedAt, bytes: body.length }))
        .sort((a, b) => a.recordedAt - b.recordedAt || (a.configHash < b.configHash ? -1 : 1));
    this.#read((query, done) => query(look, done), answer);
  }

  sweepCommands(answer: LogAnswer<number>): void {
    const writer = this.process.name;
    this.#withReader<number>(answer, (lent, end) =>
      lent.ask<number>(
        (at, reply) => {
          const before = at.wall - commandsKeptMs;
          at.query(
            (state) => {
              const old: CommandId[] = [];
              for (const [id, made] of state.commands)
                if (made.at < before && old.length < sweptCommandsMax) old.push(id);
              return old;
            },
            (said) => {
              const commands = said.type === "rows" ? said.value : [];
              if (commands.length === 0) reply({ type: "rows", value: 0 });
              else at.writeBeside(writer, { op: "sweep", commands }, commands.length, reply);
            },
          );
        },
        this.#readTimeoutMs,
        (sent) => end(sent.type === "clean" ? sent.value : unavailableAt(lent, sent)),
      ),
    );
  }

  close(): void {
    this.#readers.close();
  }

  #head(query: LogQuery, then: (head: Head) => void): void {
    const clean = this.clean?.link ?? genesis;
    query((state): Head => {
      const { epoch, incarnation, brokerId, brokerUrl, beat, durable } = state;
      // Valid only while the server has the event under the same hash: it may hold another history.
      const there = clean.position > 0 ? state.events[clean.position - 1 - state.base.position] : undefined;
      const still = there !== undefined && sameLink(linkOf(there.recorded), clean);
      const horizon = still && clean.position > durable.position ? clean : durable;
      return { seen: { epoch, incarnation, brokerId, brokerUrl, beat }, horizon };
    }, then);
  }

  /** Runs a read, and retries it once on another connection if the first one fails. */
  #read<T>(work: (query: LogQuery, done: (value: T) => void, at: () => string) => void, answer: LogAnswer<T>): void {
    const once = (ended: LogAnswer<T>): void =>
      this.#withReader<T>(ended, (lent, end) => {
        const query = <V>(look: (state: PostgresState) => V, then: (value: V) => void): void =>
          lent.ask<V>(
            (at, reply) => at.query(look, reply),
            this.#readTimeoutMs,
            (sent) => (sent.type === "clean" ? then(sent.value) : end(unavailableAt(lent, sent))),
          );
        work(query, end, () => lent.host);
      });
    once((first) => {
      if (first instanceof LogUnavailableError) once(answer);
      else answer(first);
    });
  }

  #withReader<T>(answer: LogAnswer<T>, run: (lent: Lent, end: LogAnswer<T>) => void): void {
    this.#readers.use({
      unavailable: answer,
      run: (lent, release) =>
        run(lent, (value) => {
          release();
          answer(value);
        }),
    });
  }

  #reportPage(server: string, after: Link, outcome: ReadOutcome): void {
    const model = this.model;
    const head = outcome.type === "page" ? outcome.page.head : outcome.type === "forked" ? outcome.head : after;
    model.server(server).common.report({
      type: "page-served",
      ...model.server(server).here(),
      to: this.process.name,
      after,
      last: outcome.type === "page" ? outcome.page.last : after,
      count: outcome.type === "page" ? outcome.page.entries.length : 0,
      head,
      outcome: outcome.type,
    });
  }
}

function pageOf(
  state: PostgresState,
  after: Link,
  { horizon, limit }: Readonly<{ horizon: Link; limit: number }>,
): ReadOutcome {
  const entries: Uint8Array[] = [];
  let bytes = 0;
  let last = after;
  const start = after.position - state.base.position;
  const end = Math.min(start + pageLimit(limit), horizon.position - state.base.position);
  for (let i = start; i >= 0 && i < end; i += 1) {
    const entry = state.events[i];
    if (entry === undefined) break;
    bytes += entry.bytes.length;
    if (bytes > pageBytesMax && entries.length > 0) break;
    entries.push(entry.bytes);
    last = linkOf(entry.recorded);
  }
  if (entries.length > 0) return { type: "page", page: { previous: after, entries, last, head: horizon } };
  return { type: "truncated", first: (state.base.position + 1) as Position }; // the base moved during the read
}

export function unavailableAt(lent: Lent, sent: Exclude<Sent<unknown>, { type: "clean" }>): LogUnavailableError {
  const cause = sent.type === "refused" ? sent.message : sent.cause.message;
  return new LogUnavailableError(`Postgres at ${lent.host}: ${cause}`);
}

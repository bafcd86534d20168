/**
 * Simulated log: one process's `EventLog` calls (src/replication/log/log.ts) to the Postgres model.
 *
 * - It answers by callback, with exactly the outcomes of postgres/log.ts. sim-log-reads.ts has the reads.
 * - The functions of log-rules.ts decide under the head row's lock which writes are valid. This class only transports
 *   requests and answers.
 * - Like the real log it remembers the head of its last clean commit. Each boot of its process creates a new one.
 */
import { isDeepStrictEqual } from "node:util";
import {
  clusterStream,
  decodeEvent,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
} from "../../src/events/index.ts";
import { lostHistory, lostWindowMs, type StoreRun, whyBeatsMayBeLost } from "../../src/replication/log/continuity.ts";
import {
  type AdmittedNode,
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type BeatRequest,
  type Lessee,
  type LogEntry,
  LogUnavailableError,
  type OpenEpochOutcome,
  type OpenEpochRequest,
  type RetainOutcome,
  type RetainRequest,
} from "../../src/replication/log/log.ts";
import {
  checkBatch,
  epochToOpen,
  MalformedBatchError,
  makeFirstEvent,
  refuseAppend,
  refuseBeat,
  refuseRetain,
} from "../../src/replication/log/log-rules.ts";
import { Lender, type Sent, type Statement } from "./postgres-link.ts";
import type { PostgresModel } from "./postgres-model.ts";
import type { PostgresState, Writing } from "./postgres-state.ts";
import type { SimProcess } from "./process.ts";
import { LogReads, type SimLogOptions, unavailableAt } from "./sim-log-reads.ts";

export type { LogAnswer, SimLogOptions } from "./sim-log-reads.ts";

/**
 * A leader folds the form that the event writer gives it, and every reader the one that it decodes (docs/adr/0075).
 * @throws MalformedBatchError unless the two are equal
 */
function checkReadAsWritten({ previous, entries }: Pick<AppendBatch, "previous" | "entries">): void {
  let at = previous;
  for (const { recorded, bytes } of entries) {
    const decoded = decodeEvent(bytes, at);
    if (!isDeepStrictEqual(recorded, decoded))
      throw new MalformedBatchError(`position ${recorded.position} is read as something else`);
    at = linkOf(decoded);
  }
}

type Decide<T> = (
  state: PostgresState,
) => Readonly<{ write: Writing; value: T }> | Readonly<{ refusal: { type: string } }>;

export class SimLog extends LogReads {
  readonly #writer: Lender;
  readonly #writeTimeoutMs: number;

  constructor(process: SimProcess, model: PostgresModel, options: SimLogOptions = {}) {
    super(process, model, options);
    this.#writeTimeoutMs = options.writeTimeoutMs ?? 4_000;
    this.#writer = new Lender(process, model, this.hosts, { ...this.terms, atOnce: 1 });
  }

  /** @throws MalformedBatchError: a bug of the writer */
  append(batch: AppendBatch, answer: (outcome: AppendOutcome) => void): void {
    checkBatch(batch);
    checkReadAsWritten(batch);
    const durable = this.#durable(batch);
    const decide: Decide<undefined> = (state) => {
      const refusal = refuseAppend(batch, state.view);
      return refusal === undefined ? { write: { op: "append", batch, durable }, value: undefined } : { refusal };
    };
    this.#write("append", decide, (sent) => {
      if (sent.type === "clean") {
        this.clean = { epoch: batch.epoch, incarnation: batch.incarnation, link: batch.last };
        answer({ type: "appended", last: batch.last });
      } else if (sent.type === "refused") answer(refusalOf<AppendOutcome>(sent));
      else answer(sent);
    });
  }

  beat(request: BeatRequest, answer: (outcome: BeatOutcome) => void): void {
    const durable = this.#durable(request);
    const decide: Decide<undefined> = (state) => {
      const refusal = refuseBeat(request, state.view);
      return refusal === undefined ? { write: { op: "beat", request, durable }, value: undefined } : { refusal };
    };
    this.#write("beat", decide, (sent) => {
      if (sent.type === "clean") {
        this.clean = { epoch: request.epoch, incarnation: request.incarnation, link: request.head };
        answer({ type: "beaten", head: request.head });
      } else if (sent.type === "refused") answer(refusalOf<BeatOutcome>(sent));
      else answer(sent);
    });
  }

  retain(request: RetainRequest, answer: (outcome: RetainOutcome) => void): void {
    const { partitionSize } = this.model;
    const decide: Decide<Readonly<{ base: Link; more: boolean }>> = (state) => {
      const refusal = refuseRetain(request, { ...state.view, linkAt: (position) => state.linkAt(position) });
      if (refusal !== undefined) return { refusal };
      // Drops whole partitions, one at a time, never the one that receives writes.
      const wanted = Math.min(request.first - 1, state.durable.position);
      const ends = (Math.floor((state.base.position + 1) / partitionSize) + 1) * partitionSize - 1;
      const drops = ends <= wanted && ends < state.head.position;
      const base = (drops ? state.linkAt(ends as Position) : undefined) ?? state.base;
      const more = drops && ends + partitionSize <= wanted && ends + partitionSize < state.head.position;
      return { write: { op: "retain", base }, value: { base, more } };
    };
    this.#write("other", decide, (sent) => {
      if (sent.type === "clean") answer({ type: "retained", ...sent.value });
      else if (sent.type === "refused") answer(refusalOf<RetainOutcome>(sent));
      else answer(sent);
    });
  }

  openEpoch(request: OpenEpochRequest, answer: (outcome: OpenEpochOutcome) => void): void {
    const writer = this.process.name;
    const how = { op: "open-epoch", writer, lockTimeoutMs: this.#lockTimeoutMs } as const;
    this.#writer.use({
      unavailable: (cause) => answer({ type: "unavailable", cause }),
      run: (lent, release) => {
        const end = (outcome: OpenEpochOutcome): void => {
          release();
          answer(outcome);
        };
        const ask = <T>(statement: Statement<T>, then: (value: T) => void): void =>
          lent.ask(statement, this.#writeTimeoutMs, (sent) => {
            if (sent.type === "clean") return then(sent.value);
            lent.destroy(); // ends the transaction and releases its lock
            end({ type: "unavailable", cause: unavailableAt(lent, sent) });
          });
        const opened = (
          entry: LogEntry,
          rest: Readonly<{
            lessees: readonly Lessee[];
            admitted: readonly AdmittedNode[];
            beatsLost: string | null;
          }>,
        ): void =>
          lent.ask<undefined>(
            (at, reply) => at.commit(how, reply),
            this.#writeTimeoutMs,
            (sent) => {
              if (sent.type === "refused") return end({ type: "unavailable", cause: unavailableAt(lent, sent) });
              if (sent.type === "indeterminate") return end(sent);
              const head = linkOf(entry.recorded);
              const { epoch } = entry.recorded;
              this.clean = { epoch, incarnation: request.incarnation, link: head };
              end({ type: "opened", epoch, head, entry, ...rest });
            },
          );
        ask<undefined>(
          (at, reply) => at.begin(reply),
          () =>
            ask<Link & { rowEpoch: Epoch }>(
              (at, reply) => at.lockHead(how, (state) => ({ ...state.head, rowEpoch: state.epoch }), reply),
              ({ rowEpoch, ...head }) => {
                if (rowEpoch !== request.expected) {
                  ask<undefined>(
                    (at, reply) => at.rollBack(reply),
                    () => end({ type: "overtaken", epoch: rowEpoch }),
                  );
                  return;
                }
                const look = (state: PostgresState, run: StoreRun) => ({
                  version: state.view.versionOf(clusterStream),
                  lessees: [...state.lessees.values()],
                  admitted: [...state.admitted.values()],
                  run,
                  // Servers of the model only crash: no mark survives their restarts.
                  beatsLost: whyBeatsMayBeLost(request, { run, previous: state.record, mark: null }),
                  windowMs: lostWindowMs({
                    ...{ requestedMs: request.windowMaxMs, recordedMs: state.windowMaxMs, previous: "recorded" },
                    lessees: [...state.lessees.values()],
                  }),
                });
                ask<ReturnType<typeof look>>(
                  (at, reply) => at.query(look, reply),
                  ({ version, lessees, admitted, run, beatsLost, windowMs }) => {
                    const position = { epoch: epochToOpen(request), previous: head, streamVersion: version + 1 };
                    const entry = madeOrThrown(() => makeFirstEvent(request, position));
                    if (entry instanceof MalformedBatchError) {
                      lent.destroy();
                      end({ type: "unavailable", cause: entry });
                      return;
                    }
                    const held = beatsLost === null || windowMs === 0 ? null : lostHistory(position.epoch, windowMs);
                    const all = held === null ? lessees : [...lessees, held];
                    ask<undefined>(
                      (at, reply) => at.prepare({ op: "open-epoch", request, entry, run, held }, reply),
                      () => opened(entry, { lessees: all, admitted, beatsLost }),
                    );
                  },
                );
              },
            ),
        );
      },
    });
  }

  override close(): void {
    super.close();
    this.#writer.close();
  }

  // Shorter than the statement timeout, so that a wait for the head row ends in a definite refusal.
  get #lockTimeoutMs(): number {
    return Math.max(1, Math.floor(this.#writeTimeoutMs * 0.6));
  }

  #write<T>(
    op: "append" | "beat" | "other",
    decide: Decide<T>,
    answer: (sent: Sent<T> | Readonly<{ type: "unavailable"; cause: unknown }>) => void,
  ): void {
    const how = { op, writer: this.process.name, lockTimeoutMs: this.#lockTimeoutMs };
    this.#writer.use({
      unavailable: (cause) => answer({ type: "unavailable", cause }),
      run: (lent, release) =>
        lent.ask<T>(
          (at, reply) => at.write(how, decide, reply),
          this.#writeTimeoutMs,
          (sent) => {
            release();
            answer(sent);
          },
        ),
    });
  }

  /** The head known to be durable: only that of a clean commit in the same epoch and incarnation, else genesis. */
  #durable({ epoch, incarnation }: Readonly<{ epoch: Epoch; incarnation: Incarnation }>): Link {
    return this.clean?.epoch === epoch && this.clean.incarnation === incarnation ? this.clean.link : genesis;
  }
}

/** Returns a MalformedBatchError (a bug of the writer), which postgres/log.ts throws, for delivery by callback. */
function madeOrThrown<T>(make: () => T): T | MalformedBatchError {
  try {
    return make();
  } catch (error) {
    if (error instanceof MalformedBatchError) return error;
    throw error;
  }
}

/** The outcome for an error of the log's functions or any other refusal of the server. Nothing was written. */
function refusalOf<Outcome extends { type: string }>(
  sent: Extract<Sent<unknown>, { type: "refused" }>,
): Outcome | Readonly<{ type: "unavailable"; cause: unknown }> {
  if (sent.refusal !== undefined) return sent.refusal as Outcome;
  return { type: "unavailable", cause: new LogUnavailableError(sent.message) };
}

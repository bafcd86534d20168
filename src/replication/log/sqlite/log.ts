/**
 * SQLite log: the log in one file, for one broker and any number of nodes. sqlite/store.ts accesses the file in a
 * thread of its own; this end sends calls and waits for answers.
 *
 * - The exclusive lock makes it the only writer, so it needs no beat.
 * - A call without an answer in time, or whose thread dies, is indeterminate if it could have written.
 * - Calls run in order, so the call that determines the outcome of a late one never overtakes it.
 * - A thread that dies is replaced by another, which reads the file again. By then the calls of the first have ended,
 *   because the file lock ends with them.
 */
import { Worker } from "node:worker_threads";
import type {
  CommandId,
  ConfigHash,
  Link,
  Position,
  SessionId,
  Stream,
  UserId,
  WrappedKey,
} from "../../../events/index.ts";
import { joinBytes, splitBytes } from "../byte-list.ts";
import {
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type BeatRequest,
  type Durability,
  type EpochStart,
  type EventLog,
  LogDamagedError,
  LogRefusedError,
  LogUnavailableError,
  type OpenEpochOutcome,
  type OpenEpochRequest,
  type ReadOutcome,
  type RestoreStep,
  type RetainOutcome,
  type RetainRequest,
} from "../log.ts";
import { MalformedBatchError, makeFirstEvent } from "../log-rules.ts";
import { openingId, type SqliteAnswer, type SqliteCall, type SqliteOperation } from "./calls.ts";
import type { SqliteStore } from "./store.ts";

export type SqliteLogOptions = Readonly<{
  path: string;
  /** Recorded in the file at creation; the file of another cluster is refused. */
  cluster: string;
  /** How long opening waits for another process to release the file, ms. */
  lockTimeoutMs?: number;
  /** How long a call may take before its outcome counts as unknown, ms. */
  answerTimeoutMs?: number;
}>;

/** Pause before a new thread, ms. It doubles as long as threads die before the age `young`. */
const restartMs = { first: 100, max: 5_000, young: 10_000 };
const waitingCallsMax = 1_024;
const openAttemptsMax = 8;

/**
 * @throws LogUnavailableError when another process has the file or it cannot be opened; LogRefusedError when this build
 * must not touch the file
 */
export async function openSqliteLog(options: SqliteLogOptions): Promise<EventLog> {
  const log = new SqliteLog(options);
  await log.opened;
  return log;
}

/** The call was sent, and its outcome is unknown. */
class NoAnswerError extends LogUnavailableError {}

type Waiting = Readonly<{
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
  timer: NodeJS.Timeout | undefined;
}>;
type Arguments<Operation extends SqliteOperation> = Parameters<SqliteStore[Operation]>;
type Answer<Operation extends SqliteOperation> = ReturnType<SqliteStore[Operation]>;

class SqliteLog implements EventLog {
  readonly kind = "file";
  readonly exclusive = true;
  readonly opened: Promise<unknown>;
  readonly #path: string;
  readonly #workerData: Readonly<{ path: string; cluster: string; lockTimeoutMs: number }>;
  readonly #answerTimeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = openingId;
  /** Undefined: the thread has died. */
  #worker: Worker | undefined;
  #startedAt = 0;
  #restart: Readonly<{ reason: Error; at: number; pauseMs: number }> | undefined;
  /** Set once and permanently: the log was closed, or never opened. */
  #gone: LogUnavailableError | undefined;

  constructor({ path, cluster, lockTimeoutMs = 1_000, answerTimeoutMs = 30_000 }: SqliteLogOptions) {
    this.#path = path;
    this.#answerTimeoutMs = answerTimeoutMs;
    this.#workerData = { path, cluster, lockTimeoutMs };
    this.opened = new Promise((resolve, reject) => this.#waiting.set(openingId, { resolve, reject, timer: undefined }));
    this.#worker = this.#start();
  }

  #start(): Worker {
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./log-worker.${extension}`, import.meta.url), {
      name: "cardea log",
      execArgv: [], // the thread does not inherit the options of the process
      workerData: this.#workerData,
    });
    let cause: unknown;
    worker.on("message", (answer: SqliteAnswer) => {
      if (this.#worker === worker) this.#take(answer);
    });
    worker.on("error", (error) => {
      cause = error;
    });
    worker.on("exit", () => {
      if (this.#worker === worker) this.#died(new NoAnswerError(`the thread of ${this.#path} has ended`, { cause }));
    });
    this.#startedAt = performance.now();
    return worker;
  }

  observe() {
    return this.#ask("observe");
  }

  async openEpoch(request: OpenEpochRequest): Promise<OpenEpochOutcome> {
    const { firstEvent: _, ...rest } = request;
    try {
      for (let attempt = 0; attempt < openAttemptsMax; attempt++) {
        const place = await this.#ask("placeEpoch", { expected: request.expected, atLeast: request.atLeast });
        if (place.type === "overtaken") return place;
        const entry = makeFirstEvent(request, place);
        const [bytes] = splitBytes(joinBytes([entry.bytes]));
        if (bytes === undefined) throw new MalformedBatchError("no first event");
        const outcome = await this.#write("openEpoch", { ...rest, previous: place.previous, bytes });
        if (outcome.type === "opened") return { ...outcome, entry };
        if (outcome.type !== "moved") return outcome;
      }
      return {
        type: "unavailable",
        cause: new Error(`the head moved ${openAttemptsMax} times while the epoch was being opened`),
      };
    } catch (cause) {
      if (cause instanceof LogUnavailableError) return { type: "unavailable", cause };
      throw cause;
    }
  }

  append(batch: AppendBatch): Promise<AppendOutcome> {
    return this.#write("append", { ...batch, entries: joinBytes(batch.entries.map((entry) => entry.bytes)) });
  }

  beat(request: BeatRequest): Promise<BeatOutcome> {
    return this.#write("beat", request);
  }

  async read(after: Link, limit: number): Promise<ReadOutcome> {
    const outcome = await this.#ask("read", after, limit);
    if (outcome.type !== "page") return outcome;
    const { previous, entries, last, head } = outcome;
    return { type: "page", page: { previous, entries: splitBytes(entries), last, head } };
  }

  base(): Promise<Link> {
    return this.#ask("base");
  }

  retain(request: RetainRequest): Promise<RetainOutcome> {
    return this.#write("retain", request);
  }

  restore(step: RestoreStep): Promise<Link> {
    const packed =
      step.type === "events" ? { type: step.type, entries: joinBytes(step.entries.map((entry) => entry.bytes)) } : step;
    return this.#ask("restore", packed);
  }

  linkAt(position: Position) {
    return this.#ask("linkAt", position);
  }
  epochs(): Promise<readonly EpochStart[]> {
    return this.#ask("epochs");
  }
  async durabilityOf(): Promise<Durability> {
    return "local";
  }

  findCommand(commandId: CommandId) {
    return this.#ask("findCommand", commandId);
  }
  streamVersions(streams: readonly Stream[]) {
    return this.#ask("streamVersions", streams);
  }
  lessees() {
    return this.#ask("lessees");
  }
  admittedNodes() {
    return this.#ask("admittedNodes");
  }
  keys(users: readonly UserId[]) {
    return this.#ask("keys", users);
  }
  keysAfter(user: UserId | null, limit: number) {
    return this.#ask("keysAfter", user, limit);
  }
  rewrapKeys(keys: readonly WrappedKey[]) {
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
    const rows = keys.map(({ userId, keyId, wrapped }) => [userId, hex(keyId), hex(wrapped)]);
    return this.#ask("rewrapKeys", JSON.stringify(rows));
  }
  vault(sessionId: SessionId) {
    return this.#ask("vault", sessionId);
  }
  configuration(configHash: ConfigHash) {
    return this.#ask("configuration", configHash);
  }
  configurations() {
    return this.#ask("configurations");
  }
  sweepCommands() {
    return this.#ask("sweepCommands");
  }

  async close(): Promise<void> {
    if (this.#gone !== undefined) return;
    const worker = this.#worker;
    const ended = new Promise((resolve) => worker?.once("exit", resolve));
    const closed = worker === undefined ? undefined : this.#ask("close");
    this.#gone = new LogUnavailableError(`${this.#path} is closed`);
    if (worker === undefined) return;
    await closed?.catch(() => worker.terminate());
    worker.ref(); // an otherwise idle process must not end before the file is closed
    await ended;
  }

  /** Runs a write. A write without an answer may have been carried out. */
  async #write<Operation extends "append" | "beat" | "openEpoch" | "retain">(
    operation: Operation,
    ...args: Arguments<Operation>
  ): Promise<Answer<Operation> | Extract<AppendOutcome, { type: "indeterminate" | "unavailable" }>> {
    if (this.#waiting.size >= waitingCallsMax) return { type: "unavailable", cause: this.#overloaded() };
    try {
      return await this.#ask(operation, ...args);
    } catch (cause) {
      if (cause instanceof NoAnswerError) return { type: "indeterminate", cause };
      if (cause instanceof LogUnavailableError || cause instanceof LogRefusedError)
        return { type: "unavailable", cause };
      throw cause;
    }
  }

  #ask<Operation extends SqliteOperation>(
    operation: Operation,
    ...args: Arguments<Operation>
  ): Promise<Answer<Operation>> {
    return new Promise<unknown>((resolve, reject) => {
      const worker = this.#alive();
      if (this.#waiting.size >= waitingCallsMax) throw this.#overloaded();
      this.#lastId += 1;
      const id = this.#lastId;
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new NoAnswerError(`${this.#path} did not answer within ${this.#answerTimeoutMs} ms`));
      }, this.#answerTimeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
      worker.ref();
      worker.postMessage({ id, operation, args } satisfies SqliteCall);
    }) as Promise<Answer<Operation>>;
  }

  /** Returns the thread, or starts one. @throws the reason when there is none and it is too early for another */
  #alive(): Worker {
    if (this.#gone !== undefined) throw this.#gone;
    if (this.#worker !== undefined) return this.#worker;
    const { reason, at } = this.#restart ?? { reason: this.#overloaded(), at: 0 };
    // Not the original error: this call was never sent to a thread.
    if (performance.now() < at) throw new LogUnavailableError(reason.message, { cause: reason });
    this.#worker = this.#start();
    return this.#worker;
  }

  #take({ id, value, error }: SqliteAnswer): void {
    // Without the file, no later call was carried out.
    if (id === openingId && error !== undefined) {
      this.#died(this.#revive(error));
      return;
    }
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) this.#worker?.unref(); // an idle log does not keep a process alive
    if (waiting === undefined) return; // the caller has given up on the call
    clearTimeout(waiting.timer);
    if (error === undefined) waiting.resolve(value);
    else waiting.reject(this.#revive(error));
  }

  #revive({ code, message, cause, after }: NonNullable<SqliteAnswer["error"]>): Error {
    if (after !== undefined)
      return new LogDamagedError(this.#path, after, message.includes("missing") ? "missing" : "changed");
    if (code === "ERR_REPLICATION_LOG_REFUSED") return new LogRefusedError(message);
    if (code === "ERR_REPLICATION_MALFORMED_BATCH")
      return new MalformedBatchError(message.replace(/^malformed batch: /, ""));
    return new LogUnavailableError(code === "ERR_REPLICATION_LOG_UNAVAILABLE" ? message : `${this.#path}: ${message}`, {
      cause,
    });
  }

  #overloaded(): LogUnavailableError {
    return new LogUnavailableError(`${this.#path} has ${waitingCallsMax} calls waiting`);
  }

  #died(reason: Error): void {
    this.#worker = undefined;
    if (this.#waiting.has(openingId)) this.#gone ??= new LogUnavailableError(reason.message, { cause: reason });
    const young = performance.now() - this.#startedAt < restartMs.young;
    const before = this.#restart?.pauseMs ?? 0;
    const pauseMs = young ? Math.min(restartMs.max, Math.max(restartMs.first, before * 2)) : restartMs.first;
    this.#restart = { reason, at: performance.now() + pauseMs, pauseMs };
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(reason);
    }
    this.#waiting.clear();
  }
}

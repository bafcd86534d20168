/**
 * SQLite log worker: the thread that makes the blocking calls of the file log, so that no other thread blocks. It
 * answers calls in order of arrival; sqlite/log.ts is the other end.
 */
import { type MessagePort, parentPort, type Transferable, workerData } from "node:worker_threads";
import { LogDamagedError } from "../log.ts";
import { openingId, type SqliteAnswer, type SqliteCall } from "./calls.ts";
import { explain, type SqliteFileOptions } from "./file.ts";
import { SqliteStore } from "./store.ts";

if (parentPort !== null) serve(parentPort, workerData as SqliteFileOptions);

function serve(port: MessagePort, options: SqliteFileOptions): void {
  let store: SqliteStore;
  try {
    store = new SqliteStore(options, Date.now);
  } catch (error) {
    port.postMessage({ id: openingId, error: describe(error) } satisfies SqliteAnswer);
    return;
  }
  port.on("message", ({ id, operation, args }: SqliteCall) => {
    const answer = runOperation(store, { id, operation, args }, options.path);
    // Outside any catch: if an answer cannot be posted, this thread ends, and the outcome of its write is unknown.
    port.postMessage(answer, blocksOf(answer.value));
    if (operation === "close") port.close();
  });
  port.postMessage({ id: openingId } satisfies SqliteAnswer);
}

function runOperation(store: SqliteStore, { id, operation, args }: SqliteCall, path: string): SqliteAnswer {
  try {
    // The other end is typed by SqliteStore itself: sqlite/log.ts names the operation and gives its arguments.
    const run = store[operation] as (...args: readonly unknown[]) => unknown;
    return { id, value: run.apply(store, [...args]) };
  } catch (error) {
    return { id, error: describe(explain(error, path)) };
  }
}

/** The block of a page is transferred instead of copied. */
function blocksOf(value: unknown): Transferable[] {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, "entries")) return [];
  const { entries } = value as { entries: { block: Uint8Array<ArrayBuffer> } };
  return [entries.block.buffer];
}

function describe(error: unknown): NonNullable<SqliteAnswer["error"]> {
  if (!(error instanceof Error)) return { code: "", message: String(error) };
  const after = error instanceof LogDamagedError ? { after: error.after } : {};
  return { code: "code" in error ? String(error.code) : "", message: error.message, cause: error, ...after };
}

/**
 * SQLite log worker: the thread in which the file log blocks, so that nobody else does. It answers calls in the order
 * in which they came; see sqlite/log.ts for the other end.
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
    const answer = carryOut(store, { id, operation, args }, options.path);
    // Outside any catch: should an answer not go through, this thread ends, and what it wrote counts as unknown.
    port.postMessage(answer, blocksOf(answer.value));
    if (operation === "close") port.close();
  });
  port.postMessage({ id: openingId } satisfies SqliteAnswer);
}

function carryOut(store: SqliteStore, { id, operation, args }: SqliteCall, path: string): SqliteAnswer {
  try {
    // The other end is typed by SqliteStore itself: sqlite/log.ts names the operation and gives its arguments.
    const run = store[operation] as (...args: readonly unknown[]) => unknown;
    return { id, value: run.apply(store, [...args]) };
  } catch (error) {
    return { id, error: describe(explain(error, path)) };
  }
}

/** A page's block is handed over instead of copied. */
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

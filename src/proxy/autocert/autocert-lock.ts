/**
 * Autocert lock: lets one process per host order certificates at a time.
 *
 * It is an exclusive SQLite lock on a small file, so the kernel releases it however the process ends.
 */
import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** @returns a function that releases the lock; undefined: another process holds it */
export function tryOrderLock(folder: string): (() => void) | undefined {
  const path = join(folder, "ordering.sqlite");
  if (existsSync(path)) chmodSync(path, 0o600);
  else closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma busy_timeout = 0; pragma locking_mode = exclusive; begin exclusive");
    return () => database.close();
  } catch (error) {
    database.close();
    if (error instanceof Error && "errcode" in error && error.errcode === 5) return undefined; // SQLITE_BUSY
    throw error;
  }
}

/**
 * Autocert lock: one process of a host orders certificates at a time.
 *
 * It is SQLite's own on a small file in exclusive mode, so the kernel lets go of it however the process ends.
 */
import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** @returns how to let go of it; undefined: another process orders */
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

/**
 * Slow disk: loaded into a process before its program; makes each sync of a file late while a file says by how many
 * milliseconds. The program itself is unchanged.
 */
import { readFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

const order = process.env["CARDEA_CHAOS_SLOW_DISK"] ?? "";
const handle = await open(process.execPath, "r");
const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, "sync" | "datasync">;
await handle.close();
for (const name of ["sync", "datasync"] as const) {
  const sync = prototype[name];
  prototype[name] = async function late(this: FileHandle): Promise<void> {
    const ms = lateMs();
    if (ms > 0) await delay(ms);
    return sync.call(this);
  };
}

function lateMs(): number {
  try {
    return Number(readFileSync(order, "utf8"));
  } catch {
    return 0;
  }
}

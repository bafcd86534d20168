/**
 * Record numbers file: stores the mark of record numbers in the node's data folder, replacing the file atomically.
 *
 * One process holds the folder's lock, so no other process writes the file.
 */
import { open, readFile, rename } from "node:fs/promises";
import type { BootId } from "../events/index.ts";
import type { NumbersMark, NumbersStore } from "./record-numbers.ts";

/**
 * @param onDamaged called if the file exists but has no valid mark, so that losses of the last boot cannot be declared
 */
export function recordNumbersFile(path: string, onDamaged: (error: unknown) => void): NumbersStore {
  return {
    async read() {
      try {
        return markIn(JSON.parse(await readFile(path, "utf8")));
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return null; // the first boot
        onDamaged(error);
        return null;
      }
    },
    async write(mark) {
      const handle = await open(`${path}.new`, "w", 0o600);
      try {
        await handle.writeFile(`${JSON.stringify(mark)}\n`);
        await handle.datasync();
      } finally {
        await handle.close();
      }
      await rename(`${path}.new`, path);
    },
  };
}

/** @throws TypeError if the value is not a mark */
function markIn(value: unknown): NumbersMark {
  const { boot, written, used, reserved } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const isMark =
    typeof boot === "string" &&
    [written, used, reserved].every((number) => Number.isSafeInteger(number) && Number(number) >= 0);
  if (!isMark) throw new TypeError("the file contains no valid record numbers");
  return { boot: boot as BootId, written: Number(written), used: Number(used), reserved: Number(reserved) };
}

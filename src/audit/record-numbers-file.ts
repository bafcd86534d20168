/**
 * The mark of record numbers in a file of a node's data folder, replaced whole.
 *
 * One process holds the folder's lock, so nothing else writes the file.
 */
import { open, readFile, rename } from "node:fs/promises";
import type { BootId } from "../events/index.ts";
import type { NumbersMark, NumbersStore } from "./record-numbers.ts";

/** @param onDamaged the file is there and is no mark: what the boot before has lost cannot be declared */
export function recordNumbersFile(path: string, onDamaged: (error: unknown) => void): NumbersStore {
  return {
    async read() {
      try {
        return markIn(JSON.parse(await readFile(path, "utf8")));
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return null; // the first boot here
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

/** @throws TypeError for what is no mark */
function markIn(value: unknown): NumbersMark {
  const { boot, written, used, reserved } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const isMark =
    typeof boot === "string" &&
    [written, used, reserved].every((number) => Number.isSafeInteger(number) && Number(number) >= 0);
  if (!isMark) throw new TypeError("the file holds no mark of record numbers");
  return { boot: boot as BootId, written: Number(written), used: Number(used), reserved: Number(reserved) };
}

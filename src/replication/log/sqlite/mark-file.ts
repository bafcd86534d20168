/**
 * Mark file: a file beside a file log, by which the log detects that either was replaced by an older copy.
 *
 * - The mark is recorded in the log in the transaction that opens an epoch or writes a lessee, right after the file is
 *   written. The two agree as long as neither is replaced.
 * - A copy that replaces one or both has another inode or another change time. The kernel sets that time, and no tool
 *   can set it back.
 * - A block device or virtual machine that is rolled back takes both along, so the mark also names the boot of the
 *   kernel.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";

/** @returns null when there is no such file, or the system does not distinguish boots */
export function readMark(path: string): string | null {
  const file = openIfThere(path);
  if (file === undefined) return null;
  try {
    return identityOf(file, readFileSync(file, "utf8"));
  } finally {
    closeSync(file);
  }
}

/**
 * Replaces the content of the file and flushes it to the disk.
 * @returns the mark, as `readMark` returns it
 * @throws the errors of the file system
 */
export function writeMark(path: string, token: string): string | null {
  const file = openSync(path, "w", 0o600);
  try {
    writeSync(file, token);
    fsyncSync(file);
    return identityOf(file, token);
  } finally {
    closeSync(file);
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function identityOf(file: number, token: string): string | null {
  const boot = kernelBoot();
  const { dev, ino, ctimeNs } = fstatSync(file, { bigint: true });
  return boot === null ? null : [token, dev, ino, ctimeNs, boot].join(" ");
}

/** The boot id of the kernel, random for each boot (random(4)); null: this system has none. */
function kernelBoot(): string | null {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}

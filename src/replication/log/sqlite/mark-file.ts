/**
 * Mark file: a file beside a file log by which the log knows that neither was replaced by an older copy.
 *
 * The log records the mark in the transaction that opens an epoch or writes a lessee, right after the file was written.
 * What the two say is equal as long as both stay where they are. Any copy that is put in the place of one or both has
 * another inode or another time of change: the kernel sets that time, and no tool can set it back. A block device or
 * virtual machine that goes back to an older state takes both along, so the mark names the kernel's boot too.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";

/** @returns null when there is no such file, or the system does not tell one boot from another */
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
 * Replaces what the file says, on the disk.
 * @returns the mark, as `readMark` says it
 * @throws the file system's errors
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

/** Random for each start of the kernel (random(4)); null: this system has none. */
function kernelBoot(): string | null {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}

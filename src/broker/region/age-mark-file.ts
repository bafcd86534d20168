/**
 * Age mark: a file on the disk of a regional broker while leases by age that this boot granted may count. It keeps the
 * next boot from replacing this one at the leader, because this boot still answers for those leases.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";

export type AgeMark = Readonly<{
  /** An earlier boot may have granted by age, and those leases may still count. */
  leftBehind: boolean;
  /** The mark is on the disk when this returns. Call it before the first grant by age. */
  set(): void;
  /** Removes the mark: no lease by age counts any more. */
  clear(): void;
}>;

export function openAgeMark(path: string): AgeMark {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const leftBehind = existsSync(path);
  let standing = leftBehind;
  return {
    leftBehind,
    set() {
      if (standing) return;
      try {
        write(path);
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`${path} cannot be written (${why}); granting no leases by age until it can`, { cause });
      }
      standing = true;
    },
    clear() {
      if (!standing) return;
      rmSync(path, { force: true });
      standing = false;
    },
  };
}

function write(path: string): void {
  const file = openSync(path, "w", 0o600);
  try {
    writeSync(file, "leases by age may count\n");
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * Age mark: on the disk of a regional broker while leases by age of this boot may count, so that the next boot does not tell the
 * leader to let go of what this one is answerable for.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";

export type AgeMark = Readonly<{
  /** A boot before this one may have granted by age, and did not see the end of it. */
  leftBehind: boolean;
  /** On the disk when it returns: before the first grant by age. */
  set(): void;
  /** Nothing that was granted by age counts any more. */
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
        throw new Error(`${path} cannot be written (${why}): no lease by age is given before it can`, { cause });
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

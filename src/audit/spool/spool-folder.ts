/**
 * Spool folder: the folder of one node's spool, of mode 0700, with files of mode 0600.
 *
 * A SQLite lock keeps a second process away: two writers would destroy each other's records. The kernel releases it
 * when the process ends, also by `kill -9`.
 */
import { chmodSync, closeSync, mkdirSync, openSync, readdirSync, rmSync } from "node:fs";
import { type FileHandle, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { CodedError } from "../../events/index.ts";
import type { SpoolDisk, SpoolFile } from "./spool-disk.ts";

export class SpoolUnusableError extends CodedError<"ERR_AUDIT_SPOOL_UNUSABLE"> {
  override readonly code = "ERR_AUDIT_SPOOL_UNUSABLE";
  readonly path: string;
  /** Another process has the folder. */
  readonly isInUse: boolean;
  constructor(
    { path, how, isInUse = false }: Readonly<{ path: string; how: string; isInUse?: boolean }>,
    options?: ErrorOptions,
  ) {
    super(`the audit spool ${path} ${how}`, options);
    this.path = path;
    this.isInUse = isInUse;
  }
}

/**
 * @param options.waitMs how long to wait for a process that ends, or only looks at the folder; the thread waits
 * @returns its files. After `release` they can no longer be changed: the folder may be another process's.
 * @throws SpoolUnusableError if the folder cannot be created, or another process uses it
 */
export function openSpoolFolder(
  path: string,
  { waitMs = waitMsDefault }: Readonly<{ waitMs?: number }> = {},
): SpoolDisk & Readonly<{ release(): void }> {
  const lock = lockFolder(path, waitMs);
  const at = (name: string): string => join(path, name);
  let changes = 0;
  let isReleased = false;
  const change: Change = async (make) => {
    if (isReleased) throw new SpoolUnusableError({ path, how: "was released" });
    changes++;
    try {
      return await make();
    } finally {
      if (--changes === 0 && isReleased) lock.close();
    }
  };
  removeUnfinished(path);
  return {
    async list() {
      const names = (await readdir(path)).filter((name) => !name.endsWith(unfinished));
      const files = names.map(async (name) => {
        const size = await stat(at(name)).then((found) => found.size, nullIfMissing);
        return size === null ? [] : [{ name, size }]; // it may be removed meanwhile
      });
      return (await Promise.all(files)).flat();
    },
    create: (name) => change(async () => fileOf(await open(at(name), "wx+", 0o600), change, () => syncFolder(path))),
    open: async (name) => fileOf(await open(at(name), "r+"), change, null),
    readSmall: (name) => readFile(at(name)).catch(nullIfMissing),
    replace: (name, bytes) =>
      change(async () => {
        const handle = await open(at(`${name}${unfinished}`), "w", 0o600);
        try {
          await handle.writeFile(bytes);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await rename(at(`${name}${unfinished}`), at(name));
        await syncFolder(path);
      }),
    remove: (name) => change(() => rm(at(name), { force: true })),
    release() {
      isReleased = true;
      if (changes === 0) lock.close(); // else after the last change
    },
  };
}

/** @throws the error, unless it says that the file does not exist */
function nullIfMissing(error: unknown): null {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
  throw error;
}

/** Makes a change of the folder. @throws SpoolUnusableError after its release */
type Change = <Result>(make: () => Promise<Result>) => Promise<Result>;

/** Suffix of a file that is being written to replace another one. */
const unfinished = ".new";

/** Removes what a process that ended within `replace` has left. */
function removeUnfinished(path: string): void {
  for (const name of readdirSync(path)) if (name.endsWith(unfinished)) rmSync(join(path, name), { force: true });
}

const waitMsDefault = 1_500;

function lockFolder(path: string, waitMs: number): DatabaseSync {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const name = join(path, "lock.sqlite");
    closeSync(openSync(name, "a", 0o600));
    chmodSync(name, 0o600);
    const lock = new DatabaseSync(name);
    try {
      lock.exec(`pragma busy_timeout = ${waitMs}; pragma locking_mode = exclusive; pragma journal_mode = memory`);
      lock.exec("begin exclusive");
      return lock;
    } catch (cause) {
      lock.close();
      const isBusy = cause instanceof Error && "errcode" in cause && cause.errcode === 5;
      if (!isBusy) throw cause;
      const how = "is in use by another process: give each node its own audit.spool_dir";
      throw new SpoolUnusableError({ path, how, isInUse: true }, { cause });
    }
  } catch (cause) {
    if (cause instanceof SpoolUnusableError) throw cause;
    const how = `cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new SpoolUnusableError({ path, how }, { cause });
  }
}

/** @param syncName makes the name of a new file durable, once; null: it is */
function fileOf(handle: FileHandle, change: Change, syncName: (() => Promise<void>) | null): SpoolFile {
  let isNameDurable = syncName === null;
  return {
    write: (chunks, at) =>
      change(async () => {
        let left = chunks;
        for (let offset = at; left.length > 0; ) {
          const { bytesWritten } = await handle.writev(left as Uint8Array[], offset);
          if (bytesWritten === 0) throw new Error("the disk wrote nothing");
          offset += bytesWritten;
          left = after(left, bytesWritten);
        }
      }),
    sync: () =>
      change(async () => {
        await handle.datasync();
        if (isNameDurable) return;
        await syncName?.();
        isNameDurable = true;
      }),
    async read(into, at) {
      let total = 0;
      while (total < into.length) {
        const { bytesRead } = await handle.read(into, total, into.length - total, at + total);
        if (bytesRead === 0) break;
        total += bytesRead;
      }
      return total;
    },
    truncate: (size) => change(() => handle.truncate(size)),
    close: () => handle.close(),
  };
}

/** What remains of the chunks after so many bytes. */
function after(chunks: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes;
  let from = 0;
  for (; from < chunks.length; from++) {
    const { length } = chunks[from] as Uint8Array;
    if (skip < length) break;
    skip -= length;
  }
  const [first, ...rest] = chunks.slice(from);
  return first === undefined ? [] : [first.subarray(skip), ...rest];
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

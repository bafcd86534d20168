/**
 * Data folder lock: an exclusive lock on a node's data folder that records the boot which holds it.
 *
 * At most one process uses the folder, and the next one knows which boot it replaces. The lock is SQLite's own, on a
 * small database in exclusive mode. The kernel releases it when the process ends, also by `kill -9`, and never before.
 * A process that holds the lock therefore knows that the recorded boot permits nothing any more.
 *
 * This proof holds for this file on this running kernel, not for a copy: the boot that wrote the original may be alive.
 * So the file records the boot with the identity of the file, of its file system and of the running kernel. If one of
 * them differs, there is no proof and no boot is named: receipts wait for the window of the boot before. A copied
 * folder, a cloned disk, a volume moved to another machine and a rebooted machine all look alike here. A memory image
 * of a running machine is not detected.
 *
 * The file also keeps the seed of the boot's key, so that the next boot can prove the replacement: a broker accepts it
 * only with the replaced boot's signature (wire/node-key.ts).
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type BootId, CodedError, type NodeId, parseBootId } from "../../events/index.ts";
import { type NodeKey, signReplacement } from "../wire/node-key.ts";

/** `kernelBootId`: the path of the kernel's boot id, which changes with each boot of the machine. */
type Place = Readonly<{ dataDir: string; node: NodeId; kernelBootId?: string }>;

export type DataFolderLock = Readonly<{
  /** The last boot of this node that may have held a lease, said no goodbye and has surely ended; null: none. */
  replaces: BootId | null;
  /** The seed of the replaced boot's key; null: the build that wrote the file kept none. */
  replacedSeed: Uint8Array | null;
  /** Call this before the first renew of a boot is sent. @param seed the seed of the boot's key */
  record(boot: BootId, seed: Uint8Array): void;
  /** The brokers have accepted the goodbye: the next boot has none to replace. */
  clear(): void;
  release(): void;
}>;

export class DataFolderLockedError extends CodedError<"ERR_REPLICATION_DATA_FOLDER_LOCKED"> {
  override readonly code = "ERR_REPLICATION_DATA_FOLDER_LOCKED";
  readonly dataDir: string;
  constructor(place: Place, options?: ErrorOptions) {
    super(
      `another process of node ${place.node} uses the data folder ${place.dataDir}: stop it, or give this one another data_dir`,
      options,
    );
    this.dataDir = place.dataDir;
  }
}

/**
 * An operator must act: remove a damaged file after checking that no process uses the folder, or free disk space.
 */
export class DataFolderUnusableError extends CodedError<"ERR_REPLICATION_DATA_FOLDER_UNUSABLE"> {
  override readonly code = "ERR_REPLICATION_DATA_FOLDER_UNUSABLE";
  readonly path: string;
  constructor({ path, how }: Readonly<{ path: string; how: string }>, options?: ErrorOptions) {
    super(`${path} ${how}`, options);
    this.path = path;
  }
}

/** @throws DataFolderLockedError, DataFolderUnusableError */
export function lockDataFolder(options: Place): DataFolderLock {
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const path = join(options.dataDir, `node-${encodeURIComponent(options.node)}.sqlite`);
  // SQLite would create a world-readable file, and any process that can read it can lock it. An existing file is not
  // opened here: closing it would release a lock that this process holds.
  if (existsSync(path)) chmodSync(path, 0o600);
  else closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma busy_timeout = 0; pragma locking_mode = exclusive; pragma synchronous = full");
    database.exec("pragma secure_delete = on"); // a deleted seed is overwritten
    database.exec(
      "begin exclusive; create table if not exists last_boot (id text not null, file text not null); " +
        "create table if not exists last_key (id text not null, seed blob not null); commit",
    ); // exclusive locking mode keeps the lock after the commit
    const file = identityOf(path, kernelOf(options));
    const row = database.prepare("select id, file from last_boot").get();
    const replaces = row === undefined || file === null || row["file"] !== file ? null : parseBootId(row["id"]);
    const kept = database.prepare("select seed from last_key where id = ?").get(replaces ?? "");
    const seed = kept?.["seed"];
    let open = true;
    let recorded: BootId | undefined;
    return {
      replaces,
      replacedSeed: seed instanceof Uint8Array ? Uint8Array.from(seed) : null,
      record(boot, ownSeed) {
        if (boot === recorded) return;
        database.exec("begin; delete from last_boot; delete from last_key");
        database.prepare("insert into last_boot (id, file) values (?, ?)").run(boot, file ?? "");
        database.prepare("insert into last_key (id, seed) values (?, ?)").run(boot, ownSeed);
        database.exec("commit");
        recorded = boot;
      },
      clear() {
        if (open) database.exec("begin; delete from last_boot; delete from last_key; commit");
        recorded = undefined;
      },
      release() {
        if (open) database.close();
        open = false;
      },
    };
  } catch (cause) {
    database.close();
    if (isBusy(cause)) throw new DataFolderLockedError(options, { cause });
    if (cause instanceof Error && "errcode" in cause)
      throw new DataFolderUnusableError({ path, how: explain(cause) }, { cause });
    throw cause;
  }
}

/**
 * The boot that a new one replaces, and the proof that the data folder belonged to it. Absent proof: an older build
 * kept no key.
 */
export function replacementBy(
  { cluster, name: node, boot: by }: NodeKey,
  folder: Pick<DataFolderLock, "replaces" | "replacedSeed"> | null,
): Readonly<{ replaces: BootId | null; replacementProof?: Uint8Array }> {
  const replaced = folder?.replaces ?? null;
  const seed = folder?.replacedSeed ?? null;
  if (replaced === null || seed === null) return { replaces: replaced };
  return { replaces: replaced, replacementProof: signReplacement(seed, { cluster, node, replaced, by }) };
}

/** The identity of a file under one running kernel. Null: the kernel's boot id is unknown. */
function identityOf(path: string, kernel: string | null): string | null {
  const { dev, ino, birthtimeNs } = statSync(path, { bigint: true });
  return kernel === null ? null : `${kernel}.${dev}.${ino}.${birthtimeNs}`;
}

/** The kernel's boot id: unique for each boot of each machine, and the same in all of its containers. @see proc(5) */
function kernelOf({ kernelBootId = "/proc/sys/kernel/random/boot_id" }: Place): string | null {
  try {
    return readFileSync(kernelBootId, "utf8").trim() || null;
  } catch {
    return null; // not Linux, or hidden: no proof
  }
}

/** SQLITE_BUSY; @see sqlite.org/rescode.html */
function isBusy(cause: unknown): boolean {
  return cause instanceof Error && "errcode" in cause && cause.errcode === 5;
}

/** SQLITE_CORRUPT and SQLITE_NOTADB; SQLITE_FULL */
function explain(cause: Error): string {
  const code = "errcode" in cause ? Number(cause.errcode) & 0xff : undefined;
  if (code === 11 || code === 26) {
    return (
      `is damaged (${cause.message}): make sure that no process of this node runs, then remove the file. ` +
      "Receipts then wait once for the window of the boot that it named"
    );
  }
  return code === 13 ? "cannot grow: the disk is full. Free some space" : `cannot be used: ${cause.message}`;
}

/**
 * Data folder lock: at most one process lives in a node's data folder, and the next one knows which boot it replaces.
 *
 * The lock is SQLite's own on a small database in exclusive mode, so the kernel lets go of it however the process ends,
 * a `kill -9` included, and never before. A process that holds it therefore knows that the boot written there permits
 * nothing any more.
 *
 * That is true of this very file on this very kernel, not of a copy: the boot that wrote into the original may be
 * alive. So the boot is written down with the identity of the file, of its file system and of the running kernel. Where
 * one of them differs, there is no proof, and no boot is named: receipts wait for the window of the one before. A
 * copied folder, a cloned disk, a volume that has moved to another machine and a machine that was rebooted look alike
 * from here. A memory image of a running machine is not recognised.
 *
 * Beside the boot stands the seed of its key, so that the next boot can prove what it says: a broker accepts a
 * replacement only with the replaced boot's signature (wire/node-key.ts).
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type BootId, CodedError, type NodeId, parseBootId } from "../../events/index.ts";
import { type NodeKey, signReplacement } from "../wire/node-key.ts";

/** `kernelBootId`: where the kernel says which boot of the machine it is. */
type Place = Readonly<{ dataDir: string; node: NodeId; kernelBootId?: string }>;

export type DataFolderLock = Readonly<{
  /** The last boot of this node that may have held a lease and did not say goodbye, and that has surely ended. */
  replaces: BootId | null;
  /** Of the replaced boot's key; null: a build that kept none wrote it. */
  replacedSeed: Uint8Array | null;
  /** To be called before the first renew of a boot is sent. @param seed of its key */
  record(boot: BootId, seed: Uint8Array): void;
  /** The brokers have taken our goodbye: there is nothing to replace. */
  clear(): void;
  release(): void;
}>;

export class DataFolderLockedError extends CodedError<"ERR_REPLICATION_DATA_FOLDER_LOCKED"> {
  override readonly code = "ERR_REPLICATION_DATA_FOLDER_LOCKED";
  readonly dataDir: string;
  constructor(place: Place, options?: ErrorOptions) {
    super(
      `another process of node ${place.node} lives in the data folder ${place.dataDir}: stop it, or give this one another data_dir`,
      options,
    );
    this.dataDir = place.dataDir;
  }
}

/**
 * A damaged file is for an operator to take away, who sees that nobody lives there; a full disk is for one to make room
 * on.
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
  // SQLite would let everybody read it, and whoever may read may lock. An existing file is not opened here: closing it
  // would
  // let go of a lock that this very process holds.
  if (existsSync(path)) chmodSync(path, 0o600);
  else closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma busy_timeout = 0; pragma locking_mode = exclusive; pragma synchronous = full");
    database.exec("pragma secure_delete = on"); // a deleted seed is overwritten
    database.exec(
      "begin exclusive; create table if not exists last_boot (id text not null, file text not null); " +
        "create table if not exists last_key (id text not null, seed blob not null); commit",
    ); // the lock stays
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
 * Which boot a new one replaces, and the proof that its data folder was that boot's. Absent proof: an older build kept
 * no key.
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

/** Of one file under one running kernel. Null: the kernel does not say which one it is. */
function identityOf(path: string, kernel: string | null): string | null {
  const { dev, ino, birthtimeNs } = statSync(path, { bigint: true });
  return kernel === null ? null : `${kernel}.${dev}.${ino}.${birthtimeNs}`;
}

/** Another one after each boot of a machine, and on each machine; the same in all containers of one. @see proc(5) */
function kernelOf({ kernelBootId = "/proc/sys/kernel/random/boot_id" }: Place): string | null {
  try {
    return readFileSync(kernelBootId, "utf8").trim() || null;
  } catch {
    return null; // not Linux, or hidden: nothing is proven
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
      `is damaged (${cause.message}): see that no process of this node runs, and remove the file. ` +
      "Receipts then wait once for the window of the boot that it named"
    );
  }
  return code === 13 ? "cannot grow: the disk is full. Make room" : `cannot be used: ${cause.message}`;
}

/**
 * Snapshot folder: the snapshots on the disk of one process. `chunks/<hash>` is packed with zstd;
 * `manifests/<position>-<id>` is as signed.
 *
 * - A file gets its final name only once it is whole and on the disk, so a process that dies leaves no partial file
 *   under such a name.
 * - Every read is verified: a chunk is exactly the bytes that its hash names, or the error names the corrupt chunk.
 */
import { subtle } from "node:crypto";
import { constants } from "node:fs";
import { access, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { CodedError, type Hash, parseHash } from "../../events/index.ts";
import type { EnvelopeOpener } from "../wire/broker-opener.ts";
import type { ChunkRef } from "./builder.ts";
import {
  chunkBytesMax,
  manifestBytesMax,
  openManifest,
  type SignedManifest,
  SnapshotRefusedError,
} from "./manifest.ts";

const pack = promisify(zlib.zstdCompress);
const unpack = promisify(zlib.zstdDecompress);
const packOptions = { params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 } };

/** The data on the disk, or received from a broker, does not match the manifest. */
export class SnapshotCorruptError extends CodedError<"ERR_REPLICATION_SNAPSHOT_CORRUPT"> {
  override readonly code = "ERR_REPLICATION_SNAPSHOT_CORRUPT";
  constructor(problem: string, options?: ErrorOptions) {
    super(`a snapshot is corrupt: ${problem}`, options);
  }
}

/** The disk write failed. Earlier snapshots are unchanged, and no part of the new one counts. */
export class SnapshotNotSavedError extends CodedError<"ERR_REPLICATION_SNAPSHOT_NOT_SAVED"> {
  override readonly code = "ERR_REPLICATION_SNAPSHOT_NOT_SAVED";
  constructor(folder: string, options: Readonly<{ cause: unknown }>) {
    const { cause } = options;
    const full = cause instanceof Error && "code" in cause && (cause.code === "ENOSPC" || cause.code === "EDQUOT");
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      `a snapshot could not be saved in ${folder}: ${full ? "the disk is full; free some space there" : why}. Earlier snapshots are kept`,
      options,
    );
  }
}

/** A manifest on the disk that failed verification, and why. */
export type BadManifest = Readonly<{ file: string; problem: string }>;
export type SnapshotList = Readonly<{
  /** Newest first. */
  snapshots: readonly SignedManifest[];
  bad: readonly BadManifest[];
}>;

export class SnapshotFolder {
  readonly path: string;
  /** Accepts only envelopes of brokers of this cluster. */
  readonly open: EnvelopeOpener;
  #serial = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: Readonly<{ path: string; open: EnvelopeOpener }>) {
    this.path = options.path;
    this.open = options.open;
  }

  /**
   * Runs a job exclusively. A job that adds or removes several files must run here: no manifest protects chunks whose
   * manifest is still to be written.
   */
  async alone<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(job);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Packs and stores a chunk. @returns its reference for a manifest */
  async putChunk(bytes: Uint8Array): Promise<ChunkRef> {
    const hash = await hashAside(bytes);
    const path = this.#chunkPath(hash);
    if (!(await exists(path))) await this.#write(path, await pack(bytes, packOptions));
    return { hash, bytes: bytes.length };
  }

  /** Stores a chunk that another process packed. @throws SnapshotCorruptError */
  async putPacked(ref: ChunkRef, packed: Uint8Array): Promise<void> {
    await this.putChecked(await checkChunk(ref, packed));
  }

  async putChecked({ hash, packed }: CheckedChunk): Promise<void> {
    await this.#write(this.#chunkPath(hash), packed);
  }

  async hasChunk(hash: Hash): Promise<boolean> {
    return exists(this.#chunkPath(hash));
  }

  /** @returns the packed bytes; undefined when the chunk is not here */
  async packedChunk(hash: Hash): Promise<Uint8Array | undefined> {
    try {
      return await readFile(this.#chunkPath(hash));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /**
   * @param damaged `remove` (default) deletes a chunk that does not match its hash, so that it can be fetched again
   * @throws SnapshotCorruptError when the chunk is absent or does not match its hash
   */
  async chunk(ref: ChunkRef, damaged: "remove" | "keep" = "remove"): Promise<Uint8Array> {
    const packed = await this.packedChunk(ref.hash);
    const file = this.#chunkPath(ref.hash);
    if (packed === undefined) throw new SnapshotCorruptError(`${file} is missing`);
    try {
      return (await checkChunk(ref, packed, file)).bytes;
    } catch (error) {
      if (damaged === "remove") await rm(file, { force: true });
      throw error;
    }
  }

  /** @returns the packed bytes, verified against the hash; undefined when the chunk is absent or does not match */
  async intactChunk(hash: Hash): Promise<Uint8Array | undefined> {
    const packed = await this.packedChunk(hash);
    if (packed === undefined || (await isPacked(packed, hash))) return packed;
    await rm(this.#chunkPath(hash), { force: true });
    return undefined;
  }

  /** Stores the manifest. The snapshot exists from here on: all its chunks are here, with their names on the disk. */
  async putManifest({ envelope, manifest, id }: SignedManifest): Promise<void> {
    const name = `${String(manifest.link.position).padStart(16, "0")}-${id}`;
    const manifests = join(this.path, "manifests");
    await this.#onDisk(join(this.path, "chunks"));
    await this.#write(join(manifests, name), envelope);
    await this.#onDisk(manifests);
  }

  async list(): Promise<SnapshotList> {
    const snapshots: SignedManifest[] = [];
    const bad: BadManifest[] = [];
    for (const file of (await names(join(this.path, "manifests"))).filter((name) => !name.endsWith(".part"))) {
      try {
        snapshots.push(await this.#manifest(file));
      } catch (error) {
        if (isMissing(error)) continue; // it was deleted in the meantime
        bad.push({ file, problem: error instanceof Error ? error.message : String(error) });
      }
    }
    snapshots.sort((a, b) => b.manifest.link.position - a.manifest.link.position);
    return { snapshots, bad };
  }

  /** Keeps these snapshots and all their chunks; deletes the rest. */
  async keep(kept: readonly SignedManifest[]): Promise<void> {
    const { snapshots } = await this.list();
    for (const { id } of snapshots) if (!kept.some((each) => each.id === id)) await this.#removeManifest(id);
    const needed = new Set<string>(kept.flatMap(({ manifest }) => manifest.chunks.map(({ hash }) => hash)));
    for (const name of await names(join(this.path, "chunks")))
      if (!needed.has(name) && !name.endsWith(".part")) await rm(join(this.path, "chunks", name), { force: true });
  }

  /** Deletes the partial files of a process that died. */
  async tidy(): Promise<void> {
    for (const folder of ["chunks", "manifests"])
      for (const name of await names(join(this.path, folder)))
        if (name.endsWith(".part")) await rm(join(this.path, folder, name), { force: true });
  }

  async #removeManifest(id: Hash): Promise<void> {
    const folder = join(this.path, "manifests");
    for (const name of await names(folder)) if (name.endsWith(id)) await rm(join(folder, name), { force: true });
  }

  async #manifest(file: string): Promise<SignedManifest> {
    const path = join(this.path, "manifests", file);
    if ((await stat(path)).size > manifestBytesMax) throw new SnapshotRefusedError("its manifest is too large");
    const signed = openManifest(new Uint8Array(await readFile(path)), this.open);
    if (!file.endsWith(signed.id)) throw new SnapshotRefusedError("its manifest does not match its file name");
    return signed;
  }

  #chunkPath(hash: Hash): string {
    return join(this.path, "chunks", parseHash(hash));
  }

  async #write(path: string, bytes: Uint8Array): Promise<void> {
    this.#serial += 1;
    const part = `${path}.${process.pid}-${this.#serial}.part`;
    try {
      await putFile(part, path, bytes);
    } catch (cause) {
      await rm(part, { force: true }).catch(() => {});
      throw new SnapshotNotSavedError(this.path, { cause });
    }
  }

  async #onDisk(folder: string): Promise<void> {
    try {
      await syncFolder(folder);
    } catch (cause) {
      if (isMissing(cause)) return; // the folder does not exist yet
      throw new SnapshotNotSavedError(this.path, { cause });
    }
  }
}

/** Writes the whole file under a temporary name and flushes it to the disk before the rename. */
async function putFile(part: string, path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await open(part, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(part, path);
}

/** Flushes the names in a folder to the disk. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

declare const checked: unique symbol;
/** A chunk whose packed and unpacked bytes match its hash, as verified by `checkChunk`. */
export type CheckedChunk = Readonly<{ hash: Hash; packed: Uint8Array; bytes: Uint8Array; [checked]: true }>;

/**
 * @param named the name of the chunk in an error
 * @throws SnapshotCorruptError unless these bytes are, packed, exactly the bytes that the hash names
 */
export async function checkChunk(
  { hash, bytes: length }: ChunkRef,
  packed: Uint8Array,
  named = `chunk ${hash}`,
): Promise<CheckedChunk> {
  let bytes: Uint8Array;
  try {
    bytes = await unpack(packed, { maxOutputLength: Math.max(1, length) });
  } catch (cause) {
    throw new SnapshotCorruptError(`${named} cannot be unpacked`, { cause });
  }
  if (bytes.length !== length || (await hashAside(bytes)) !== hash)
    throw new SnapshotCorruptError(`${named} does not match its hash`);
  return { hash, packed, bytes } as CheckedChunk;
}

/** Computes `hashOfChunk` off the main thread, which must not block while it hashes a hundred megabytes. */
async function hashAside(bytes: Uint8Array): Promise<Hash> {
  return parseHash(Buffer.from(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)).toString("hex"));
}

async function isPacked(packed: Uint8Array, hash: Hash): Promise<boolean> {
  try {
    return (await hashAside(await unpack(packed, { maxOutputLength: chunkBytesMax }))) === hash;
  } catch {
    return false;
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path, constants.F_OK);
    return true;
  } catch {
    return false;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/**
 * Event archive folder: blocks of events on the disk of one broker, packed with zstd, in `events` beside its snapshots.
 *
 * A file gets its final name only once it is whole and on the disk. Every read is verified; a damaged file is removed,
 * because another broker may have the block.
 */
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import zlib from "node:zlib";
import type { Position } from "../../events/index.ts";
import {
  type BlockName,
  blockBytesMax,
  checkBlockName,
  type EventBlock,
  EventBlockError,
  type EventPage,
  encodeBlock,
  nameOfBlock,
  parseBlock,
  parseBlockName,
} from "./event-block.ts";

const pack = promisify(zlib.zstdCompress);
const unpack = promisify(zlib.zstdDecompress);
const packOptions = {
  params: { [zlib.constants.ZSTD_c_compressionLevel]: 3, [zlib.constants.ZSTD_c_checksumFlag]: 1 },
};
/** The disk gives out whole pages. */
const pageBytes = 4_096;

export type StoredBlock = BlockName & Readonly<{ bytes: number }>;

export class EventArchiveFolder {
  readonly path: string;
  readonly #sizes = new Map<string, number>();
  #serial = 0;

  /** @param snapshots the folder of the broker's snapshots */
  constructor(snapshots: string) {
    this.path = join(snapshots, "events");
  }

  /** Oldest first. */
  async list(): Promise<readonly StoredBlock[]> {
    const found: StoredBlock[] = [];
    for (const file of await names(this.path)) {
      const name = parseBlockName(file);
      if (name !== undefined) found.push({ ...name, bytes: await this.#sizeOf(file) });
    }
    for (const file of this.#sizes.keys()) if (!found.some((one) => one.file === file)) this.#sizes.delete(file);
    return found.sort((a, b) => a.first - b.first || a.last.position - b.last.position);
  }

  async put(block: EventPage): Promise<void> {
    const packed = await pack(encodeBlock(block), packOptions);
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    this.#serial += 1;
    const path = join(this.path, nameOfBlock(block));
    const part = `${path}.${process.pid}-${this.#serial}.part`;
    try {
      const file = await open(part, "wx", 0o600);
      try {
        await file.writeFile(packed);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(part, path);
      const folder = await open(this.path, "r");
      try {
        await folder.sync();
      } finally {
        await folder.close();
      }
    } catch (error) {
      await rm(part, { force: true }).catch(() => {});
      throw error;
    }
  }

  /**
   * The packed block that holds the event at a position; undefined: none does. Its checksum was verified, and its
   * reader verifies the events.
   */
  async packedAt(position: Position): Promise<Uint8Array | undefined> {
    for (const name of (await this.list()).toReversed()) {
      if (name.first > position || name.last.position < position) continue;
      const packed = await this.#unlessDamaged(name, async (bytes) => {
        await unpack(bytes, { maxOutputLength: blockBytesMax });
        return bytes;
      });
      if (packed !== undefined) return packed;
    }
    return undefined;
  }

  /** Undefined: it is damaged, and was removed, or is gone. */
  async read(name: BlockName): Promise<EventBlock | undefined> {
    return this.#unlessDamaged(name, async (packed) => {
      const block = await unpackBlock(packed);
      checkBlockName(block, name);
      return block;
    });
  }

  async remove(blocks: readonly Pick<BlockName, "file">[]): Promise<void> {
    for (const { file } of blocks) await rm(join(this.path, file), { force: true });
  }

  /** Deletes the partial files of a process that died. */
  async tidy(): Promise<void> {
    for (const file of await names(this.path))
      if (file.endsWith(".part")) await rm(join(this.path, file), { force: true });
  }

  /** Removes a file whose damage is proven: its events are missing from here on, which readers say. */
  async #unlessDamaged<T>(name: BlockName, use: (packed: Uint8Array) => Promise<T>): Promise<T | undefined> {
    let packed: Uint8Array;
    try {
      packed = await readFile(join(this.path, name.file));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    try {
      return await use(packed);
    } catch (error) {
      if (!provesDamage(error)) throw error;
      await this.remove([name]);
      return undefined;
    }
  }

  async #sizeOf(file: string): Promise<number> {
    const known = this.#sizes.get(file);
    if (known !== undefined) return known;
    try {
      const { size } = await stat(join(this.path, file));
      const bytes = Math.ceil(size / pageBytes) * pageBytes;
      this.#sizes.set(file, bytes);
      return bytes;
    } catch (error) {
      if (isMissing(error)) return 0;
      throw error;
    }
  }
}

/** @throws EventBlockError; the error of zlib */
export async function unpackBlock(packed: Uint8Array): Promise<EventBlock> {
  return parseBlock(await unpack(packed, { maxOutputLength: blockBytesMax }));
}

/** Unpacking fails for other reasons, too, such as too little memory. */
function provesDamage(error: unknown): boolean {
  if (error instanceof EventBlockError) return error.isDamaged;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return code === "ERR_BUFFER_TOO_LARGE" || code === "Z_BUF_ERROR" || damageCodes.has(code);
}

const damageCodes: ReadonlySet<string> = new Set([
  "ZSTD_error_prefix_unknown",
  "ZSTD_error_version_unsupported",
  "ZSTD_error_frameParameter_unsupported",
  "ZSTD_error_frameParameter_windowTooLarge",
  "ZSTD_error_corruption_detected",
  "ZSTD_error_checksum_wrong",
  "ZSTD_error_literals_headerWrong",
  "ZSTD_error_dictionary_corrupted",
  "ZSTD_error_dictionary_wrong",
  "ZSTD_error_srcSize_wrong",
  "ZSTD_error_dstSize_tooSmall",
]);

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/**
 * Rotated files: renames a full or old file of audit records, compresses the renamed one, and deletes the oldest ones
 * beyond a bound of count and bytes.
 *
 *   decisions.jsonl --rename--> decisions-<time>.jsonl --compress--> decisions-<time>.jsonl.gz
 *
 * - The rename is atomic. Everything in the file is synced before, so a crash at any point loses nothing.
 * - The compressed file is written and synced under another name first. Its plain file is removed once the compressed
 *   one has its name. After a crash between the two both exist with equal content; readers skip the compressed one.
 * - What a crash left undone is done at the first write of the next process.
 * - Only names that a rotation makes are compressed or deleted, so files that the operator renames stay.
 * - Several processes may share the file: a name ends with a random part, so that two never rename to the same one at
 *   the same time, and each step accepts that another did it.
 */
import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { FileRotation } from "../../config/index.ts";

export type FileRotationOptions = Readonly<{
  rotation: FileRotation;
  /** Wall clock, milliseconds since 1970. */
  nowMs: () => number;
  /** A renamed file that could not be compressed or deleted. It is tried again at the next rotation. */
  onFailure: (error: unknown) => void;
}>;

export type FileRotator = Readonly<{
  /** Renames the file if these bytes do not fit, or a period ended. @returns whether a new file must be opened */
  rotate(file: Readonly<{ handle: FileHandle; sync: () => Promise<void> }>, bytes: number): Promise<boolean>;
  /** Stops compressing; the next process begins that file again. */
  close(): Promise<void>;
}>;

/** What a killed process left of a compressed file is deleted once it is this old. */
const partialMsMax = 3_600_000;

export function createFileRotator(path: string, options: FileRotationOptions): FileRotator {
  const { rotation, nowMs, onFailure } = options;
  const folder = dirname(path);
  const names = rotatedNames(basename(path));
  const stopped = new AbortController();
  let working: Promise<void> | null = null;
  let isRequested = false;
  let hasStarted = false;

  /** One pass at a time. A rotation during a pass causes one more. */
  function requestTidying(): void {
    isRequested = true;
    working ??= tidyWhileRequested().finally(() => {
      working = null;
    });
  }

  async function tidyWhileRequested(): Promise<void> {
    const { signal } = stopped;
    while (isRequested && !signal.aborted) {
      isRequested = false;
      try {
        await tidyRotated(folder, names, { rotation, nowMs, signal });
      } catch (error) {
        if (!signal.aborted) onFailure(error);
      }
    }
  }

  async function isDue(file: FileHandle, bytes: number): Promise<boolean> {
    const { size, mtimeMs } = await file.stat();
    if (size === 0) return false;
    if (size + bytes > rotation.fileBytesMax) return true;
    const { everyMs } = rotation;
    return everyMs !== null && Math.floor(mtimeMs / everyMs) < Math.floor(nowMs() / everyMs);
  }

  return {
    async rotate({ handle, sync }, bytes) {
      if (!hasStarted) requestTidying();
      hasStarted = true;
      if (!(await isDue(handle, bytes))) return false;
      await sync();
      const free = await freeName(folder, names, nowMs());
      try {
        await rename(path, join(folder, free));
      } catch (error) {
        if (!isMissing(error)) throw error; // another process renamed it first
      }
      await syncFolder(folder);
      requestTidying();
      return true;
    },
    async close() {
      stopped.abort();
      await working;
    },
  };
}

type RotatedNames = Readonly<{
  /** How the name of a file begins that was renamed at this time; milliseconds since 1970. */
  startOf(atMs: number): string;
  format(atMs: number, random: string): string;
  /** The name before `.gz`; undefined: not a file of a rotation. */
  plainOf(name: string): string | undefined;
  /** The temporary name of a compressed file. */
  partialOf(plain: string): string;
  isPartial(name: string): boolean;
}>;

/** Times in names sort like text. */
function rotatedNames(live: string): RotatedNames {
  const extension = /\.jsonl?$/.exec(live)?.[0] ?? "";
  const stem = live.slice(0, live.length - extension.length);
  const hasForm = (name: string): boolean =>
    name.startsWith(`${stem}-`) &&
    name.endsWith(extension) &&
    /^\d{8}T\d{9}Z-[0-9a-f]{6}$/.test(name.slice(stem.length + 1, name.length - extension.length));
  const plainOf = (name: string): string | undefined => {
    const plain = name.endsWith(".gz") ? name.slice(0, -".gz".length) : name;
    return hasForm(plain) ? plain : undefined;
  };
  const startOf = (atMs: number): string => `${stem}-${new Date(atMs).toISOString().replaceAll(/[-:.]/g, "")}-`;
  return {
    startOf,
    format: (atMs, random) => `${startOf(atMs)}${random}${extension}`,
    plainOf,
    partialOf: (plain) => `.${plain}.gz.${process.pid}.partial`,
    isPartial(name) {
      const plain = /^\.(.*)\.gz\.\d+\.partial$/.exec(name)?.[1];
      return plain !== undefined && hasForm(plain);
    },
  };
}

/** After every existing name of this process, so that names sort like the renames. */
async function freeName(folder: string, names: RotatedNames, nowMs: number): Promise<string> {
  const existing = await readdir(folder);
  let atMs = nowMs;
  while (existing.some((name) => name.startsWith(names.startOf(atMs)))) atMs++;
  return names.format(atMs, randomBytes(3).toString("hex"));
}

async function tidyRotated(
  folder: string,
  names: RotatedNames,
  options: Readonly<{ rotation: FileRotation; nowMs: () => number; signal: AbortSignal }>,
): Promise<void> {
  const { rotation, signal } = options;
  await deletePartials(folder, names, options.nowMs() - partialMsMax);
  await deleteOldest(folder, names, rotation); // first: on a full disk there is no room to compress
  if (!rotation.compress) return;
  for (const name of (await readdir(folder)).sort()) {
    if (names.plainOf(name) !== name) continue;
    await compress(folder, { plain: name, partial: names.partialOf(name), signal });
    await deleteOldest(folder, names, rotation);
  }
}

async function deletePartials(folder: string, names: RotatedNames, beforeMs: number): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!names.isPartial(name)) continue;
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (found !== undefined && found.mtimeMs < beforeMs) await rm(join(folder, name), { force: true });
  }
}

/** Readers order files by their time of change, so the compressed file gets that of its plain one. */
async function compress(
  folder: string,
  { plain, partial, signal }: Readonly<{ plain: string; partial: string; signal: AbortSignal }>,
): Promise<void> {
  const [from, through, to] = [join(folder, plain), join(folder, partial), join(folder, `${plain}.gz`)];
  try {
    if ((await stat(to).catch(() => undefined)) === undefined) {
      const { atime, mtime } = await stat(from);
      await pipeline(createReadStream(from), createGzip(), createWriteStream(through, { mode: 0o600 }), { signal });
      await syncFile(through);
      await utimes(through, atime, mtime);
      await rename(through, to);
      await syncFolder(folder);
    }
    await rm(from, { force: true });
    await syncFolder(folder);
  } catch (error) {
    await rm(through, { force: true });
    if (!isMissing(error)) throw error; // another process was faster, or the operator took the file
  }
}

/** The plain and the compressed file of one rotation count as one. */
async function deleteOldest(
  folder: string,
  names: RotatedNames,
  { keepFiles, keepBytes }: Pick<FileRotation, "keepFiles" | "keepBytes">,
): Promise<void> {
  const byPlain = new Map<string, string[]>();
  for (const name of await readdir(folder)) {
    const plain = names.plainOf(name);
    if (plain !== undefined) byPlain.set(plain, [...(byPlain.get(plain) ?? []), name]);
  }
  let files = 0;
  let bytes = 0;
  for (const plain of [...byPlain.keys()].sort().reverse()) {
    const all = (byPlain.get(plain) ?? []).map((name) => join(folder, name));
    const sizes = await Promise.all(all.map(async (file) => (await stat(file).catch(() => undefined))?.size ?? 0));
    files += 1;
    bytes += Math.min(...sizes);
    // The newest stays, even if one batch in it is longer than the bound: readers may not have seen it yet.
    const isBeyond = files > keepFiles || (files > 1 && bytes > keepBytes);
    if (isBeyond) for (const file of all) await rm(file, { force: true });
  }
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

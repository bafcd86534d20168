/**
 * Record file: audit records from files of JSON lines, plain or compressed with gzip.
 *
 * - The name of a rotated file starts with the live file's name, or with that name before `.jsonl`:
 *   `decisions.jsonl.1`, `decisions.jsonl-20261126.gz`, `decisions-2026-11-26.jsonl`.
 * - Files may be rotated meanwhile: the live file is opened first, and a file that was compressed is read from there.
 * - A line longer than any record is cut, so its reader finds that it is none.
 */
import { createReadStream, type ReadStream, readdirSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { ReadingProgress, RecordSource } from "./record-source.ts";

/** A record has 512 KiB at most; its envelope adds some hundred bytes. */
const lineBytesMax = 1_048_576;
const lineEnd = 0x0a;

/** The end of the name of a copy that `cardea audit erase` makes of a file; a killed one leaves it. */
export const erasingSuffix = ".erasing";

/** The rotated files written since `from` (ms since 1970), oldest first, then the live file. */
export function auditFiles(path: string, from: number): readonly string[] {
  const folder = dirname(path);
  const live = basename(path);
  const stem = live.replace(/\.jsonl?$/, "");
  const isRotated = (name: string): boolean =>
    name !== live &&
    !name.endsWith(erasingSuffix) &&
    (name.startsWith(`${live}.`) ||
      name.startsWith(`${live}-`) ||
      (name.startsWith(`${stem}-`) && /\.jsonl?(\.gz)?$/.test(name)));
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  // While a file is being replaced by its compressed one, both have the same records.
  const isTwin = (name: string): boolean => name.endsWith(".gz") && names.includes(name.slice(0, -".gz".length));
  const rotated = names.filter((name) => isRotated(name) && !isTwin(name)).map((name) => join(folder, name));
  const dated = rotated.map((file) => ({ file, at: statSync(file).mtimeMs })).filter(({ at }) => at >= from);
  dated.sort((a, b) => a.at - b.at || (a.file < b.file ? 1 : -1)); // at equal times `.2` is older than `.1`
  return [...dated.map(({ file }) => file), ...(names.includes(live) ? [path] : [])];
}

/** Files in the order in which they are read. */
export function createFileSource(
  name: string,
  files: readonly string[],
  { onProgress }: Readonly<{ onProgress?: ReadingProgress }> = {},
): RecordSource {
  return {
    name,
    async *lines({ signal }) {
      const live = files.at(-1);
      // A rename from here on changes nothing of what is read.
      const opened = live === undefined ? undefined : await openFile(live);
      try {
        const sizes = files.map(sizeOf);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        let done = 0;
        for (const [i, file] of files.entries()) {
          const handle = file === live ? opened : await openFile(file);
          if (handle === undefined) continue; // deleted by rotation
          for await (const { line, bytes } of linesOf(handle, signal)) {
            onProgress?.(done + bytes, Math.max(total, done + bytes), "bytes");
            if (line !== "") yield line;
          }
          done += sizes[i] ?? 0;
        }
      } finally {
        await opened?.handle.close().catch(() => undefined); // reading closes it
      }
    },
    async close() {},
  };
}

type OpenedFile = Readonly<{ path: string; handle: FileHandle }>;

/** @returns undefined if the file is gone, and no compressed one is in its place */
async function openFile(path: string): Promise<OpenedFile | undefined> {
  for (const one of [path, `${path}.gz`]) {
    try {
      return { path: one, handle: await open(one, "r") };
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  return undefined;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** @returns `bytes`: of the file, so far */
async function* linesOf(
  { path, handle }: OpenedFile,
  signal: AbortSignal | undefined,
): AsyncGenerator<Readonly<{ line: string; bytes: number }>> {
  const raw: ReadStream = createReadStream(path, { fd: handle, ...(signal === undefined ? {} : { signal }) });
  const input: Readable = path.endsWith(".gz") ? raw.pipe(createGunzip()) : raw;
  raw.on("error", (error) => input.destroy(error));
  try {
    for await (const line of splitLines(input)) yield { line, bytes: raw.bytesRead };
  } finally {
    input.destroy();
    raw.destroy();
  }
}

export async function* splitLines(input: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let length = 0;
  const add = (bytes: Buffer): void => {
    const left = bytes.subarray(0, Math.max(0, lineBytesMax - length));
    if (left.length > 0) parts.push(left);
    length += left.length;
  };
  for await (const chunk of input) {
    let from = 0;
    for (let end = chunk.indexOf(lineEnd); end >= 0; end = chunk.indexOf(lineEnd, from)) {
      if (length === 0) yield chunk.toString("utf8", from, end);
      else {
        add(chunk.subarray(from, end));
        yield Buffer.concat(parts).toString("utf8");
      }
      parts = [];
      length = 0;
      from = end + 1;
    }
    add(chunk.subarray(from));
  }
  if (length > 0) yield Buffer.concat(parts).toString("utf8");
}

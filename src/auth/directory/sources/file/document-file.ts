/**
 * Document file: a directory's document on the disk of the broker that leads.
 *
 * A file that changes while it is read is not used. `watch` looks at the folder, because a file that is replaced by a
 * rename is another one.
 */
import { createHash } from "node:crypto";
import { watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectorySource } from "../../source.ts";
import { type DocumentFormat, parseDocument } from "./document.ts";
import { createDocumentSource } from "./document-source.ts";

export const documentBytesMax = 64 * 1024 * 1024;
const hashedBytes = 1024 * 1024;

export const pause = async (): Promise<void> => void (await turn());

export function openDocumentFile(
  { path, format }: Readonly<{ path: string; format: DocumentFormat }>,
  { log, size }: Readonly<{ log: { warn(fields: object, message: string): void }; size?: number }>,
): DirectorySource {
  return createDocumentSource({
    ...(size === undefined ? {} : { size }),
    async load(_unless, signal) {
      const bytes = await readStable(path, signal);
      return { version: `sha256:${await digestOf(bytes)}`, parse: () => parseDocument(bytes, format, pause) };
    },
    watch(onChange) {
      try {
        const name = basename(path);
        const watcher = watch(dirname(path), { persistent: false }, (_event, changed) => {
          if (changed === null || changed === name) onChange();
        });
        watcher.on("error", (err) => log.warn({ err, path }, "cannot watch a directory file; reading it at intervals"));
        return () => watcher.close();
      } catch (err) {
        log.warn({ err, path }, "cannot watch a directory file; reading it at intervals");
        return () => undefined;
      }
    },
  });
}

async function readStable(path: string, signal: AbortSignal): Promise<Uint8Array> {
  try {
    const before = await stat(path);
    if (before.size > documentBytesMax)
      throw new DirectoryError(`${path} is larger than ${documentBytesMax} bytes`, { kind: "malformed" });
    const bytes = await readFile(path, { signal });
    const after = await stat(path);
    const isStable = before.mtimeMs === after.mtimeMs && before.ino === after.ino && after.size === bytes.length;
    if (!isStable) throw new DirectoryError(`${path} is being written; reading it later`, { kind: "unreachable" });
    return bytes;
  } catch (error) {
    if (error instanceof DirectoryError || signal.aborted) throw error;
    const { code } = error as Readonly<{ code?: string }>;
    throw new DirectoryError(`cannot read ${path}: ${code ?? "unknown error"}`, { kind: "unreachable", cause: error });
  }
}

export async function digestOf(bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for (let from = 0; from < bytes.length; from += hashedBytes) {
    hash.update(bytes.subarray(from, from + hashedBytes));
    await pause();
  }
  return hash.digest("base64url");
}

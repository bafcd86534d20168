/**
 * Text output: what a command writes piece by piece, to the terminal or to a file.
 *
 * - A slow reader of the terminal slows the command down; memory stays bounded.
 * - A file appears whole or not at all: it is written and synced under another name first, so that a full disk or an
 *   interruption leaves the file that was there.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, open, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CannotError, type Terminal, UsageError } from "./command.ts";

export type TextOutput = Readonly<{
  write(text: string): Promise<void>;
  /** Everything was written. */
  finish(): Promise<void>;
  /** Leaves nothing behind. Also after `finish`, where it does nothing. */
  abandon(): Promise<void>;
}>;

/** Text gathered before a write to a file, UTF-16 units. */
const gatherCharsMax = 65_536;

/** @param onClosed called when nothing reads the output any more, such as `head` */
export function terminalOutput(terminal: Terminal, onClosed: () => void): TextOutput {
  let isClosed = false;
  const onError = (): void => {
    isClosed = true;
    onClosed();
  };
  process.stdout.on("error", onError);
  const stop = async (): Promise<void> => {
    // An error of the last write comes later; it must not end the process.
    setImmediate(() => process.stdout.removeListener("error", onError)).unref();
  };
  return {
    async write(text) {
      if (isClosed) return;
      terminal.out(text);
      if (process.stdout.writableNeedDrain) await once(process.stdout, "drain").catch(() => undefined);
    },
    finish: stop,
    abandon: stop,
  };
}

/**
 * Writes a file that other people may read; also to a terminal or a pipe.
 * @param text whole, or in pieces: one string cannot have more than half a gigabyte
 * @throws as fileOutput
 */
export async function writeWhole(path: string, text: string | Iterable<string>): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found !== null && !found.isFile() && !found.isDirectory()) {
    await writeFile(path, text).catch((cause: unknown) => {
      throw cannotWrite(path, cause);
    });
    return;
  }
  const output = await fileOutput(path, { mode: 0o666 });
  try {
    for (const piece of typeof text === "string" ? [text] : text) await output.write(piece);
    await output.finish();
  } finally {
    await output.abandon();
  }
}

/** @throws UsageError if there is something else than a file, CannotError if the folder cannot be written */
export async function fileOutput(
  path: string,
  { mode = 0o600 }: Readonly<{ mode?: number }> = {},
): Promise<TextOutput> {
  const target = await realpath(path).catch(() => path);
  const found = await stat(target).catch(() => null);
  if (found !== null && !found.isFile()) throw new UsageError(`--output ${path}: that is no file`);
  const partial = join(dirname(target), `.${basename(target)}.${randomUUID().slice(0, 8)}.part`);
  let file: FileHandle | null = await open(partial, "wx", mode).catch((cause: unknown) => {
    throw cannotWrite(path, cause);
  });
  let gathered = "";
  const flush = async (): Promise<void> => {
    const text = gathered;
    gathered = "";
    await file?.appendFile(text);
  };
  return {
    async write(text) {
      gathered += text;
      if (gathered.length < gatherCharsMax) return;
      await flush().catch((cause: unknown) => {
        throw cannotWrite(path, cause);
      });
    },
    async finish() {
      try {
        await flush();
        await file?.datasync();
        await file?.close();
        await rename(partial, target);
        file = null;
      } catch (cause) {
        throw cannotWrite(path, cause);
      }
    },
    async abandon() {
      if (file === null) return;
      await file.close().catch(() => undefined);
      file = null;
      await rm(partial, { force: true });
    },
  };
}

function cannotWrite(path: string, cause: unknown): CannotError {
  return new CannotError(`${path} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
}

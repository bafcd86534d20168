/**
 * File sink: appends audit records as JSON lines to a file of mode 0600. A later sync makes many batches durable.
 *
 * - With `rotation` the sink renames the file itself, by size and time (rotated-folder.ts). The operator may rename it
 *   too: the sink notices a renamed or removed file and creates a new one, so no signal is needed.
 * - A batch counts as written only if the file still has its name after the write. Otherwise another process renamed it
 *   meanwhile and may have compressed it without the batch.
 * - A file is synced before it is closed. Once a sync has failed, what it covered may be lost, although a later one
 *   succeeds, so `sync` rejects and everything that it covers is written again.
 * - A failed batch is written again as a whole, starting on a new line. So half a line is never read as a record, and a
 *   record may occur twice, with the same number.
 */
import type { Stats } from "node:fs";
import { type FileHandle, mkdir, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { CodedError } from "../../events/index.ts";
import type { AuditSink } from "../audit-sink.ts";
import { createFileRotator, type FileRotationOptions, type FileRotator, syncFolder } from "./rotated-folder.ts";

const lineEnd = Buffer.from("\n");

/** A sync failed earlier: records that it covered may be lost. */
export class AuditFileUnsyncedError extends CodedError<"ERR_AUDIT_FILE_UNSYNCED"> {
  override readonly code = "ERR_AUDIT_FILE_UNSYNCED";
  constructor(path: string, options?: ErrorOptions) {
    super(`${path} could not be synced; its newest records are written again`, options);
  }
}

export class AuditFileMovedError extends CodedError<"ERR_AUDIT_FILE_MOVED"> {
  override readonly code = "ERR_AUDIT_FILE_MOVED";
  constructor(path: string) {
    super(`${path} was renamed while records were written to it; they are written again`);
  }
}

export function createFileSink(path: string, options: FileRotationOptions | null = null): AuditSink {
  let file: FileHandle | undefined;
  /** Of the open file. */
  let identity: Pick<Stats, "ino" | "dev"> = { ino: 0, dev: 0 };
  /** The last write, perhaps of an earlier process, may have ended in the middle of a line. */
  let torn = true;
  /** The open file has bytes that are not synced. */
  let isDirty = false;
  /** Why what was written since the last `sync` may be lost; null: it is not. */
  let failure: AuditFileUnsyncedError | null = null;
  const rotator: FileRotator | null = options === null ? null : createFileRotator(path, options);

  async function current(): Promise<FileHandle> {
    if (file !== undefined) {
      if (await isStillNamed(identity, path)) return file;
      await closeFile();
    }
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const opened = await open(path, "a+", 0o600);
    try {
      await syncFolder(dirname(path)); // else a power failure could remove the file with what was stored in it
      identity = await opened.stat();
      torn = await endsWithinALine(opened);
    } catch (error) {
      await opened.close();
      throw error;
    }
    file = opened;
    return opened;
  }

  /** Once it has failed, the kernel may count the lost bytes as written. */
  async function syncFile(): Promise<void> {
    if (!isDirty) return;
    isDirty = false;
    try {
      await file?.datasync();
    } catch (cause) {
      torn = true; // the end of the last line may be among what is lost
      failure = new AuditFileUnsyncedError(path, { cause });
      throw failure;
    }
  }

  async function closeFile(): Promise<void> {
    try {
      await syncFile();
    } finally {
      const closing = file;
      file = undefined;
      await closing?.close();
    }
  }

  return {
    name: `file ${path}`,
    async write({ bytes }) {
      let handle = await current();
      if (rotator !== null && (await rotator.rotate({ handle, sync: syncFile }, bytes.length))) {
        await closeFile();
        handle = await current();
      }
      const chunks = torn ? [lineEnd, bytes] : [bytes];
      torn = true;
      isDirty = true;
      await appendAll(handle, chunks);
      torn = false;
      if (!(await isStillNamed(identity, path))) throw new AuditFileMovedError(path);
    },
    async sync() {
      const earlier = failure;
      failure = null;
      if (earlier !== null) throw earlier;
      await syncFile().finally(() => {
        failure = null; // thrown here
      });
    },
    async close() {
      await rotator?.close();
      await closeFile();
    },
  };
}

async function appendAll(handle: FileHandle, chunks: readonly Buffer[]): Promise<void> {
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      const { bytesWritten } = await handle.write(chunk, at, chunk.length - at, null);
      if (bytesWritten === 0) throw new Error("the disk wrote nothing");
      at += bytesWritten;
    }
  }
}

async function isStillNamed({ ino, dev }: Pick<Stats, "ino" | "dev">, path: string): Promise<boolean> {
  const there = await stat(path).catch(() => undefined);
  return there !== undefined && there.ino === ino && there.dev === dev;
}

/** Whether the file is not empty and its last byte is not a line end. */
async function endsWithinALine(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat();
  if (size === 0) return false;
  const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return bytesRead === 1 && buffer[0] !== 0x0a;
}

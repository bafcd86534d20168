/**
 * File sink: appends audit records as JSON lines to a file of mode 0600 and syncs it after each batch.
 *
 * - The operator rotates the file. The sink notices a renamed or removed file at the next batch and creates a new one;
 *   no signal is needed.
 * - A failed batch is written again as a whole, starting on a new line. So half a line is never read as a record, and a
 *   record may occur twice, with the same number.
 */
import { type FileHandle, mkdir, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { AuditSink } from "./audit-sink.ts";

const lineEnd = Buffer.from("\n");

export function createFileSink(path: string): AuditSink {
  let file: FileHandle | undefined;
  /** The last write, perhaps of an earlier process, may have ended in the middle of a line. */
  let torn = true;

  async function current(): Promise<FileHandle> {
    if (file !== undefined) {
      const [there, ours] = await Promise.all([stat(path).catch(() => undefined), file.stat()]);
      if (there !== undefined && there.ino === ours.ino && there.dev === ours.dev) return file;
      await file.close();
      file = undefined;
    }
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const isNew = (await stat(path).catch(() => undefined)) === undefined;
    file = await open(path, "a+", 0o600);
    if (isNew) await syncFolder(dirname(path)); // else a power failure could remove the file with what was stored in it
    torn = await endsWithinALine(file);
    return file;
  }

  return {
    name: `file ${path}`,
    async write({ bytes }) {
      const handle = await current();
      const whole = torn ? Buffer.concat([lineEnd, bytes]) : bytes;
      torn = true;
      await handle.appendFile(whole);
      torn = false;
      await handle.datasync();
    },
    async close() {
      await file?.close();
      file = undefined;
    },
  };
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Whether the file is not empty and its last byte is not a line end. */
async function endsWithinALine(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat();
  if (size === 0) return false;
  const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return bytesRead === 1 && buffer[0] !== 0x0a;
}

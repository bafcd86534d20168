/**
 * Audit to a file of JSON lines: created 0600, appended to, synced after each batch. Rotation is the operator's: a renamed or
 * removed file is noticed at the next batch, which begins a new one; no signal is needed.
 *
 * A batch that failed is written again whole, on a line of its own: half a line is never taken for a record, and a record may
 * stand there twice, with one number.
 */
import { type FileHandle, mkdir, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { AuditSink } from "./recorder.ts";

const lineEnd = Buffer.from("\n");

export function createFileSink(path: string): AuditSink {
  let file: FileHandle | undefined;
  /** The last write may have ended in the middle of a line; so may that of the process before. */
  let torn = true;

  async function current(): Promise<FileHandle> {
    if (file !== undefined) {
      const [there, ours] = await Promise.all([stat(path).catch(() => undefined), file.stat()]);
      if (there !== undefined && there.ino === ours.ino && there.dev === ours.dev) return file;
      await file.close();
      file = undefined;
    }
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    file = await open(path, "a+", 0o600);
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

/** Whether the last byte is not the end of a line. */
async function endsWithinALine(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat();
  if (size === 0) return false;
  const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return bytesRead === 1 && buffer[0] !== 0x0a;
}

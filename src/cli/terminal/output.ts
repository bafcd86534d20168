/**
 * Output: the process's standard output as one bounded, asynchronous queue of whole lines.
 *
 * - The event loop never waits for it. A full disk, a stalled pipe or a hung file system costs lines, not requests.
 * - At most one write is in flight. Each holds whole lines and, but for a longer single line, at most PIPE_BUF bytes:
 *   several processes may share a pipe without mixing their lines.
 * - What finds no room is dropped and counted. When the output works again, one line says how many were dropped.
 * - A failed write is retried with a growing delay. The rest of a line that was written in part comes first.
 *
 * The process's logger, the access log, the authorize log and the audit records of `audit: {stdout: true}` share it.
 * pino's own destinations are not used: a synchronous one blocks on a full pipe, and the exit hook of an asynchronous
 * one retries a full disk for ever.
 */
import { write, writeSync } from "node:fs";

export type Output = Readonly<{
  /** Queues a line, which is written within 200 ms. @returns false: there is no room, and the line is dropped */
  writeLine(line: string): boolean;
  /**
   * Queues text that ends in a line feed and writes it as soon as possible. This is pino's contract of a destination.
   */
  write(text: string): void;
  /**
   * Settles when the operating system has taken all bytes, which are whole lines. A failing output delays that; the
   * caller keeps no more than one call waiting. Rejects when the output is closed first.
   */
  writeAll(bytes: Uint8Array): Promise<void>;
  stats(): OutputStats;
  /** A line was left out on purpose, because its cause was logged within the minute. */
  countThrottled(): void;
  /** Writes what is queued, for two seconds at most. Later lines are dropped. */
  close(): Promise<void>;
  /**
   * Writes what is queued without returning to the event loop: for the exit of the process. Blocks for 250 ms at most.
   */
  closeNow(): void;
}>;

export type OutputStats = Readonly<{
  queuedBytes: number;
  droppedLines: number;
  leftOutLines: number;
  /** The system's code of the write that failed last (`ENOSPC`); null: the last write succeeded. */
  failure: string | null;
}>;

const chunkBytesMax = 4_096; // PIPE_BUF: the kernel never splits a smaller write to a pipe
const queuedBytesMax = 4 * 1024 * 1024;
const flushEveryMs = 200;
/** A full pipe is looked at again soon: its reader is slow, or was for a moment. */
const busyMs = { first: 2, max: 50 };
const failedMs = { first: 50, max: 2_000 };
const closeMsMax = 2_000;
const exitMsMax = 250;

/** `done` is set on the last chunk of a `writeAll`. */
type Chunk = { bytes: Uint8Array; done: ((error: Error | null) => void) | null };

/** @param options.noticeOf the line that says how many lines were dropped, and why (a system error code, or `full`) */
export function openOutput(options: {
  fd: number;
  noticeOf: (droppedLines: number, reason: string) => string;
}): Output {
  const { fd, noticeOf } = options;
  let leftOutLines = 0;
  let text = "";
  let textBytes = 0;
  const chunks: Chunk[] = [];
  let chunkBytes = 0;
  let inFlight: Chunk | null = null;
  let timer: NodeJS.Timeout | null = null;
  let soon: NodeJS.Immediate | null = null;
  let attempts = 0;
  let failure: string | null = null;
  let droppedLines = 0;
  let unreported = 0;
  let lostTo = "full";
  let state: "open" | "closing" | "closed" = "open";
  let whenEmpty: (() => void) | null = null;

  const queuedBytes = (): number => textBytes + chunkBytes + (inFlight?.bytes.length ?? 0);

  function enqueue(lines: string): boolean {
    const bytes = Buffer.byteLength(lines);
    if (state !== "open" || queuedBytes() + bytes > queuedBytesMax) {
      droppedLines++;
      unreported++;
      lostTo = failure ?? "full";
      return false;
    }
    if (textBytes > 0 && textBytes + bytes > chunkBytesMax) sealText();
    text += lines;
    textBytes += bytes;
    if (textBytes >= chunkBytesMax) sealText();
    return true;
  }

  function sealText(): void {
    if (textBytes === 0) return;
    chunks.push({ bytes: Buffer.from(text), done: null });
    chunkBytes += textBytes;
    text = "";
    textBytes = 0;
    if (inFlight === null && timer === null) writeNext();
  }

  /** At the end of this turn of the event loop. */
  function flushSoon(): void {
    if (soon !== null || failure !== null) return;
    soon = setImmediate(() => {
      soon = null;
      flush();
    });
  }

  function flush(): void {
    sealText();
    if (inFlight === null && timer === null) writeNext();
  }

  function writeNext(): void {
    inFlight ??= takeChunk();
    if (inFlight === null) {
      whenEmpty?.();
      return;
    }
    const { bytes } = inFlight;
    write(fd, bytes, 0, bytes.length, null, (error, count) => {
      if (state !== "closed") written(error, count);
    });
  }

  function takeChunk(): Chunk | null {
    if (unreported > 0 && failure === null && state === "open") {
      const bytes = Buffer.from(`${noticeOf(unreported, lostTo)}\n`);
      unreported = 0;
      return { bytes, done: null };
    }
    const chunk = chunks.shift();
    if (chunk === undefined) return null;
    chunkBytes -= chunk.bytes.length;
    return chunk;
  }

  function written(error: NodeJS.ErrnoException | null, count: number): void {
    const chunk = inFlight;
    if (chunk === null) return;
    if (error === null) {
      failure = null;
      attempts = 0;
      if (count < chunk.bytes.length) chunk.bytes = chunk.bytes.subarray(count);
      else {
        inFlight = null;
        chunk.done?.(null);
      }
      writeNext();
      return;
    }
    const busy = isBusy(error);
    if (!busy) failure = error.code ?? "unknown";
    const { first, max } = busy ? busyMs : failedMs;
    timer = setTimeout(
      () => {
        timer = null;
        writeNext();
      },
      Math.min(max, first * 2 ** Math.min(attempts++, 10)),
    );
    if (state === "open") timer.unref();
  }

  const flushing = setInterval(flush, flushEveryMs).unref();

  return {
    writeLine: (line) => enqueue(`${line}\n`),
    write(lines) {
      if (enqueue(lines)) flushSoon();
    },
    writeAll(bytes) {
      return new Promise((resolve, reject) => {
        if (state !== "open") {
          reject(new Error("the output is closed"));
          return;
        }
        const settle = (error: Error | null): void => (error === null ? resolve() : reject(error));
        sealText(); // keeps the order
        const parts = wholeLines(bytes);
        if (parts.length === 0) settle(null);
        parts.forEach((part, index) => {
          chunks.push({ bytes: part, done: index === parts.length - 1 ? settle : null });
        });
        chunkBytes += bytes.length;
        flush();
      });
    },
    stats: () => ({ queuedBytes: queuedBytes(), droppedLines, leftOutLines, failure }),
    countThrottled() {
      leftOutLines++;
    },
    async close() {
      if (state !== "open") return;
      retryNow();
      flush();
      state = "closing";
      if (queuedBytes() > 0) {
        await new Promise<void>((resolve) => {
          const given = setTimeout(resolve, closeMsMax);
          whenEmpty = () => {
            clearTimeout(given);
            resolve();
          };
        });
      }
      end();
    },
    closeNow() {
      if (state === "closed") return;
      const waiting = [...(inFlight === null ? [] : [inFlight]), ...chunks].map(({ bytes }) => bytes);
      const rest = text;
      end();
      writeNow(fd, [...waiting, Buffer.from(rest)]);
    },
  };

  /** A delay after a failed write may be as long as the time that `close` has. */
  function retryNow(): void {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    attempts = 0;
    writeNext();
  }

  function end(): void {
    state = "closed";
    clearInterval(flushing);
    if (timer !== null) clearTimeout(timer);
    if (soon !== null) clearImmediate(soon);
    for (const { done } of [...(inFlight === null ? [] : [inFlight]), ...chunks]) {
      done?.(new Error("the output was closed before this was written"));
    }
    inFlight = null;
    chunks.length = 0;
    chunkBytes = 0;
    text = "";
    textBytes = 0;
  }
}

/**
 * Blocks the thread for `exitMsMax` at most. Gives up at an error that is not a full pipe: the process ends, and has
 * nowhere to report it.
 */
function writeNow(fd: number, parts: readonly Uint8Array[]): void {
  const until = performance.now() + exitMsMax;
  for (const bytes of parts) {
    for (let at = 0; at < bytes.length; ) {
      try {
        at += writeSync(fd, bytes, at);
      } catch (error) {
        if (!isBusy(error as NodeJS.ErrnoException) || performance.now() >= until) return;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, busyMs.first);
      }
    }
  }
}

/** The pipe is full: its reader is slow, or has stalled. */
function isBusy({ code }: NodeJS.ErrnoException): boolean {
  return code === "EAGAIN" || code === "EBUSY";
}

/** Cuts behind line feeds into parts of at most PIPE_BUF bytes; a longer line is a part of its own. */
function wholeLines(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; ) {
    const within = bytes.lastIndexOf(0x0a, Math.min(bytes.length, from + chunkBytesMax) - 1);
    const end = within >= from ? within : bytes.indexOf(0x0a, from);
    const to = end === -1 ? bytes.length : end + 1;
    parts.push(bytes.subarray(from, to));
    from = to;
  }
  return parts;
}

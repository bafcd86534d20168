/**
 * Access log: whole lines to standard output, many at a time and off the request's path.
 *
 * Lines of other logs go there too, so a write is never larger than what a pipe takes as one (PIPE_BUF, 4,096 bytes): lines are
 * never mixed. Nobody waits for a slow reader: what finds no room is dropped, and counted.
 */
import { pino } from "pino";

export type AccessLog = Readonly<{
  /** @returns false: there is no room */
  write(line: string): boolean;
  close(): Promise<void>;
}>;

const pipeBytesMax = 4_096;
const waitingBytesMax = 4 * 1024 * 1024;
const flushEveryMs = 200;
const closeMsMax = 2_000;

/** @param fd where to; standard output unless told otherwise */
export function openAccessLog(fd = 1): AccessLog {
  const out = pino.destination({
    dest: fd,
    sync: false,
    minLength: pipeBytesMax - 1,
    maxWrite: pipeBytesMax,
    maxLength: waitingBytesMax,
    periodicFlush: flushEveryMs,
  });
  let dropped = false;
  let closed = false;
  out.on("drop", () => {
    dropped = true;
  });
  out.on("error", () => {}); // nobody reads any more
  return {
    write(line) {
      if (closed) return false;
      dropped = false;
      out.write(`${line}\n`);
      return !dropped;
    },
    close() {
      closed = true;
      return new Promise((resolve) => {
        const timer = setTimeout(resolve, closeMsMax);
        out.once("close", () => {
          clearTimeout(timer);
          resolve();
        });
        out.end(); // standard output itself stays open
      });
    },
  };
}

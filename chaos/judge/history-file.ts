/**
 * History file: entries appended as JSON lines, and a monitor of stalls of this process, which make its timestamps
 * late.
 */
import { createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Entry, nsPerMs } from "./history.ts";
import type { RunClock } from "./run-clock.ts";

export type HistoryFile = Readonly<{ write(entry: Entry): void; close(): Promise<void> }>;

const pollEveryMs = 50;
/** A timer that fires this late is a stall. */
const lateMs = 200;

export function openHistoryFile(
  path: string,
  { process: name, now }: Readonly<{ process: string; now: RunClock }>,
): HistoryFile {
  const file = createWriteStream(path, { flags: "a", highWaterMark: 1024 * 1024 });
  const write = (entry: Entry): void => void file.write(`${JSON.stringify(entry)}\n`);
  let looked = now();
  const watch = setInterval(() => {
    const at = now();
    if (at - looked > (pollEveryMs + lateMs) * nsPerMs) write({ type: "stall", process: name, begin: looked, end: at });
    looked = at;
  }, pollEveryMs);
  let closed: Promise<void> | undefined;
  function close(): Promise<void> {
    clearInterval(watch);
    return new Promise((resolve, reject) => {
      file.once("error", reject);
      file.end(resolve);
    });
  }
  return { write, close: () => (closed ??= close()) };
}

/** Ignores a last line that a crash truncated. */
export async function readHistoryFile(path: string): Promise<Entry[]> {
  const lines = (await readFile(path, "utf8")).split("\n");
  return lines.slice(0, -1).map((line) => JSON.parse(line) as Entry);
}

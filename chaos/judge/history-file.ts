/**
 * History file: entries appended as JSON lines, and monitors of this process: its stalls, which make its timestamps
 * late, and how long it waits for a processor.
 */
import { createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Entry, nsPerMs } from "./history.ts";
import { readSchedule } from "./machine-load.ts";
import type { RunClock } from "./run-clock.ts";

export type HistoryFile = Readonly<{ write(entry: Entry): void; close(): Promise<void> }>;

const pollEveryMs = 50;
/**
 * A timer that fires this late is a stall. Bytes wait for at most two turns of the event loop, so without a stall they
 * are stamped within the judge's allowance.
 */
const lateMs = 60;
const loadEveryMs = 1_000;

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
  let schedule = readSchedule();
  let loadAt = now();
  const loadWatch = setInterval(() => {
    const [before, at] = [schedule, now()];
    schedule = readSchedule();
    if (before === null || schedule === null) return;
    const [ranMs, waitedMs] = [schedule.ranMs - before.ranMs, schedule.waitedMs - before.waitedMs];
    write({ type: "load", process: name, begin: loadAt, end: at, ranMs, waitedMs });
    loadAt = at;
  }, loadEveryMs);
  let closed: Promise<void> | undefined;
  function close(): Promise<void> {
    clearInterval(watch);
    clearInterval(loadWatch);
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

/**
 * Loop delay: records the pauses of the event loop of the process that preloads it (`node --import`), in the file that
 * `LOOP_DELAY_FILE` names. A file beside it, with `.reset` at its end, begins a new period.
 *
 * `cpuMs` is the longest time that the main thread computed between two timers: unlike a pause, other processes on the
 * machine do not lengthen it.
 */
import { existsSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

export type LoopDelay = Readonly<{ p99Ms: number; maxMs: number; cpuMs: number }>;

const writeEveryMs = 200;
const file = process.env["LOOP_DELAY_FILE"];
if (file !== undefined) record(file);

function record(path: string): void {
  const pauses = monitorEventLoopDelay({ resolution: 1 });
  pauses.enable();
  let before = process.threadCpuUsage();
  let longest = 0;
  const tick = setInterval(() => {
    const { user, system } = process.threadCpuUsage(before);
    before = process.threadCpuUsage();
    longest = Math.max(longest, (user + system) / 1_000);
  }, 1);
  const write = setInterval(() => {
    if (existsSync(`${path}.reset`)) {
      unlinkSync(`${path}.reset`);
      pauses.reset();
      longest = 0;
    }
    const found: LoopDelay = { p99Ms: pauses.percentile(99) / 1e6, maxMs: pauses.max / 1e6, cpuMs: longest };
    writeFileSync(`${path}.new`, JSON.stringify(found));
    renameSync(`${path}.new`, path);
  }, writeEveryMs);
  tick.unref();
  write.unref();
}

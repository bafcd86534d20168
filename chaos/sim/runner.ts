/** Runner: runs many seeds on all cores. It hands them one by one to a few worker processes. */
import { fork } from "node:child_process";
import { join } from "node:path";
import type { Coverage } from "./coverage.ts";
import type { Covered, Done, Order } from "./worker-orders.ts";

export type RunOptions = Readonly<{
  firstSeed: number;
  seeds: number;
  workers: number;
  /** Whether a seed runs a second time, to check that it repeats. */
  twice: (seed: number) => boolean;
  onDone: (done: Done) => void;
  /** Called once, with the lines of `src/` covered by the first seeds of the first worker. */
  onCovered?: (coverage: Coverage) => void;
  /** Checked before each new seed; true stops the run early. */
  enough?: () => boolean;
}>;

/** Number of seeds of one worker with coverage. Later seeds run few other lines, and coverage costs a few percent. */
const coveredSeedsMax = 40;

/** @returns when every seed is done. An early stop still completes the seeds in progress. */
export async function runSeeds(options: RunOptions): Promise<void> {
  const { firstSeed, seeds, twice, onDone, onCovered, enough = () => false } = options;
  let next = firstSeed;
  const last = firstSeed + seeds;
  const worker = (number: number): Promise<void> =>
    new Promise((resolve, reject) => {
      let counting = number === 0 && onCovered !== undefined;
      const program = join(import.meta.dirname, counting ? "coverage-worker.ts" : "worker.ts");
      const child = fork(program, {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
        execArgv: [...process.execArgv, ...(counting ? ["--disable-warning=ExperimentalWarning"] : [])],
      });
      let seed: number | undefined;
      let done = 0;
      const send = (order: Order): void => void child.send(order);
      const hand = (): void => {
        const isOver = next >= last || enough();
        if (counting && (isOver || done >= coveredSeedsMax)) {
          counting = false;
          send({ type: "coverage" });
        } else if (isOver) {
          seed = undefined;
          child.disconnect();
        } else {
          seed = next;
          next += 1;
          send({ type: "seed", seed, twice: twice(seed) });
        }
      };
      child.on("message", (message: Done | Covered) => {
        if (message.type === "covered") onCovered?.(message.coverage);
        else {
          done += 1;
          onDone(message);
        }
        hand();
      });
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        if (seed === undefined && code === 0) resolve();
        else reject(new Error(`the process of seed ${seed} ended with ${code ?? signal}`));
      });
      hand();
    });
  const workers = Math.max(1, Math.min(options.workers, seeds));
  await Promise.all(Array.from({ length: workers }, (_, number) => worker(number)));
}

/** Runner: many seeds on all cores, each in one of a few processes, handed out one by one. */
import { fork } from "node:child_process";
import { join } from "node:path";
import type { Coverage } from "./coverage.ts";
import type { Covered, Done, Order } from "./worker-orders.ts";

export type RunOptions = Readonly<{
  firstSeed: number;
  seeds: number;
  workers: number;
  /** Whether a seed is run a second time, to see that it repeats. */
  twice: (seed: number) => boolean;
  onDone: (done: Done) => void;
  /** The lines of `src/` that the first worker's first seeds have run. Called once. */
  onCovered?: (coverage: Coverage) => void;
  /** Before the next seed is handed out. */
  enough?: () => boolean;
}>;

/** So many seeds of one worker are counted: the next ones run few other lines, and counting costs a few percent. */
const coveredSeedsMax = 40;

/** @returns when every seed is done; what was begun is finished even when it is enough */
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

/** Runner: many seeds on all cores, each in one of a few processes, handed out one by one. */
import { fork } from "node:child_process";
import { join } from "node:path";
import type { Done, Order } from "./worker.ts";

export type RunOptions = Readonly<{
  firstSeed: number;
  seeds: number;
  workers: number;
  /** Whether a seed is run a second time, to see that it repeats. */
  twice: (seed: number) => boolean;
  onDone: (done: Done) => void;
  /** Before the next seed is handed out. */
  enough?: () => boolean;
}>;

/** @returns when every seed is done; what was begun is finished even when it is enough */
export async function runSeeds(options: RunOptions): Promise<void> {
  const { firstSeed, seeds, twice, onDone, enough = () => false } = options;
  let next = firstSeed;
  const last = firstSeed + seeds;
  const worker = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(join(import.meta.dirname, "worker.ts"), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
      let seed: number | undefined;
      const hand = (): void => {
        if (next >= last || enough()) {
          seed = undefined;
          child.disconnect();
          return;
        }
        seed = next;
        next += 1;
        const order: Order = { seed, twice: twice(seed) };
        child.send(order);
      };
      child.on("message", (done: Done) => {
        onDone(done);
        hand();
      });
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        if (seed === undefined && code === 0) resolve();
        else reject(new Error(`the process of seed ${seed} ended with ${code ?? signal}`));
      });
      hand();
    });
  await Promise.all(Array.from({ length: Math.max(1, Math.min(options.workers, seeds)) }, worker));
}

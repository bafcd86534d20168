/** Appender: three callers sign in again and again until `stop`, so that the log of a test grows. */
import type { Cluster } from "./cluster.ts";

export type Appender = Readonly<{
  appendCount: () => number;
  failures: readonly string[];
  /** Duration of the slowest append so far. */
  slowestMs: () => number;
  stop: () => Promise<void>;
}>;

export function startAppender(cluster: Pick<Cluster, "session">): Appender {
  const failures: string[] = [];
  let [running, count, slowest] = [true, 0, 0];
  const caller = async (name: string): Promise<void> => {
    for (let n = 0; running; n++) {
      const startedAt = performance.now();
      try {
        await cluster.session(`${name}-${n % 50}`);
        count += 1;
      } catch (error) {
        failures.push(String(error));
      }
      slowest = Math.max(slowest, performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, 40)); // what a test waits for takes hundreds, not thousands
    }
  };
  const callers = ["ann", "ben", "cat"].map(caller);
  return {
    failures,
    appendCount: () => count,
    slowestMs: () => slowest,
    async stop() {
      running = false;
      await Promise.all(callers);
    },
  };
}

/**
 * Appender: sign-ins by three callers at once, one after the other, until it is told to stop; so that a log of a test
 * grows.
 */
import type { Cluster } from "./cluster.ts";

export type Appender = Readonly<{
  done: () => number;
  failed: readonly string[];
  longestMs: () => number;
  stop: () => Promise<void>;
}>;

export function startAppender(cluster: Pick<Cluster, "session">): Appender {
  const failed: string[] = [];
  let [going, done, longestMs] = [true, 0, 0];
  const caller = async (name: string): Promise<void> => {
    for (let n = 0; going; n++) {
      const startedAt = performance.now();
      try {
        await cluster.session(`${name}-${n % 50}`);
        done += 1;
      } catch (error) {
        failed.push(String(error));
      }
      longestMs = Math.max(longestMs, performance.now() - startedAt);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const callers = ["ann", "ben", "cat"].map(caller);
  return {
    ...{ failed, done: () => done, longestMs: () => longestMs },
    async stop() {
      going = false;
      await Promise.all(callers);
    },
  };
}

/** Delayed fan-out: a fan-out that delivers each message late by a fixed delay, in order. */
import type { Fanout } from "../../src/replication/fanout/index.ts";

export function delayedFanout(inner: Fanout, { delayMs }: Readonly<{ delayMs: number }>): Fanout {
  const timers = new Set<NodeJS.Timeout>();
  return {
    ...inner,
    subscribe: (listener) =>
      inner.subscribe((envelope) => {
        const timer = setTimeout(() => {
          timers.delete(timer);
          listener(envelope, () => {});
        }, delayMs);
        timers.add(timer);
      }),
    close: async () => {
      for (const timer of timers) clearTimeout(timer);
      await inner.close();
    },
  };
}

/**
 * Simulated link: delays what passes between a follower and its broker or NATS, in order, with a fixed latency and
 * random jitter.
 */
import type { Fanout } from "../../src/replication/fanout/index.ts";
import type { Databroker } from "../../src/replication/index.ts";
import type { SeededRandom } from "../../test/support/seeded-random.ts";

/** One direction; `deliver` never overtakes an earlier call. */
export type SimulatedLink = Readonly<{ latencyMs: number; deliver: (run: () => void) => void }>;

/** @param jitter the largest extra delay, as a share of the latency */
export function simulatedLink(latencyMs: number, jitter: number, random: SeededRandom): SimulatedLink {
  const queue: (() => void)[] = [];
  let lastAt = 0;
  return {
    latencyMs,
    deliver(run) {
      if (latencyMs === 0) {
        run();
        return;
      }
      const now = performance.now();
      lastAt = Math.max(lastAt, now + latencyMs * (1 + (jitter * random.int(1_000)) / 1_000));
      queue.push(run);
      setTimeout(() => queue.shift()?.(), lastAt - now);
    },
  };
}

export function fanoutOver(down: SimulatedLink, fanout: Fanout): Fanout {
  return {
    ...fanout,
    // A report of a forgery must not wait, and this bench forges nothing.
    subscribe: (listener) => fanout.subscribe((envelope) => down.deliver(() => listener(envelope, () => {}))),
  };
}

export function databrokerOver(
  { up, down }: Readonly<{ up: SimulatedLink; down: SimulatedLink }>,
  databroker: Databroker,
): Databroker {
  async function passed<T>(call: () => Promise<T>): Promise<T> {
    await new Promise<void>((resolve) => up.deliver(resolve));
    try {
      return await call();
    } finally {
      await new Promise<void>((resolve) => down.deliver(resolve));
    }
  }
  return {
    ...databroker,
    lease: (envelope) => passed(() => databroker.lease(envelope)),
    read: (after, request) => passed(() => databroker.read(after, request)),
  };
}

/** System clock: the machine's own clocks. */
import { performance } from "node:perf_hooks";
import type { MonotonicMs, UnixMs } from "../../events/index.ts";
import type { Clock } from "./clock.ts";

export const systemClock: Clock = {
  monotonic: () => performance.now() as MonotonicMs,
  wall: () => Date.now() as UnixMs,
};

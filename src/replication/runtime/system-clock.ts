/** System clock: the machine's own clocks. */
import type { MonotonicMs, UnixMs } from "../../events/index.ts";
import type { Clock } from "./clock.ts";

export const systemClock: Clock = {
  monotonic: () => performance.now() as MonotonicMs,
  wall: () => Date.now() as UnixMs,
};

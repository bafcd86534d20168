/** Clocks as an argument: everything that tells the time is handed one of these. */
import type { MonotonicMs, UnixMs } from "../events/index.ts";

export type Clock = Readonly<{
  /** Never steps; comparable only within one process. */
  monotonic(): MonotonicMs;
  wall(): UnixMs;
}>;

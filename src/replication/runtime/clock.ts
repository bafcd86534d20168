/** Clocks as an argument: all code that reads the time takes one of these. */
import type { MonotonicMs, UnixMs } from "../../events/index.ts";
import type { Moment } from "../lease/drift-watch.ts";

export type Clock = Readonly<{
  /** Never steps; comparable only within one process. */
  monotonic(): MonotonicMs;
  wall(): UnixMs;
}>;

export function momentOf(clock: Clock): Moment {
  return { monotonic: clock.monotonic(), wall: clock.wall() };
}

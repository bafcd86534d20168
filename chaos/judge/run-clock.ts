/** The clock of a run: one origin, and this host's monotonic clock, which all processes share. */
import type { Ns } from "./history.ts";

export type RunClock = () => Ns;

/** @param origin of `process.hrtime.bigint()`, as text */
export function runClock(origin: string): RunClock {
  const from = BigInt(origin);
  return () => Number(process.hrtime.bigint() - from);
}

export const newOrigin = (): string => process.hrtime.bigint().toString();

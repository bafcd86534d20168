/**
 * Machine load: how long a process of the harness waits for a processor, by the kernel's own account.
 *
 * The processes of a cluster wait as this one does when other programs use the machine too. Only bounds in time of
 * what heals are longer then, never a check of safety.
 */
import { readFileSync } from "node:fs";

/** So far: how long a process has run, and how long it was ready to run and did not. */
export type Schedule = Readonly<{ ranMs: number; waitedMs: number }>;

const scheduleFile = "/proc/self/schedstat";
const nsPerMs = 1_000_000;
/**
 * What the main process of the harness waits (ms) for each ms that it runs, where the cluster has a machine of two
 * cores for itself. An estimate until it is measured: every run prints this time (report/measure.ts), so a run on a
 * quiet machine gives the figure.
 */
const quietWaitedPerMs = 2;
/** The longest that a bound may become. */
const factorMax = 5;
/** Less than this says little. */
const ranMsMin = 5;

/** @returns null on systems that keep no such account */
export function readSchedule(): Schedule | null {
  try {
    return parseSchedule(readFileSync(scheduleFile, "utf8"));
  } catch {
    return null;
  }
}

/** Nanoseconds on a processor, nanoseconds of waiting for one, and a count. */
export function parseSchedule(text: string): Schedule | null {
  const [ran, waited] = text.trim().split(" ").map(Number);
  if (ran === undefined || waited === undefined || !Number.isFinite(ran + waited)) return null;
  return { ranMs: ran / nsPerMs, waitedMs: waited / nsPerMs };
}

export const waitedPerMs = ({ ranMs, waitedMs }: Schedule): number => (ranMs < ranMsMin ? 0 : waitedMs / ranMs);

/** How much longer bounds are, from the account of a time: 1 on a machine that the cluster has for itself. */
export function boundFactor(account: Schedule): number {
  return Math.min(Math.max(1, waitedPerMs(account) / quietWaitedPerMs), factorMax);
}

/** What several accounts say together. */
export function loadOf(accounts: readonly Schedule[]): Schedule {
  const sum = (pick: (each: Schedule) => number): number => accounts.reduce((all, each) => all + pick(each), 0);
  return { ranMs: sum(({ ranMs }) => ranMs), waitedMs: sum(({ waitedMs }) => waitedMs) };
}

/** Measures the load from now on. Calls of the result say by what factor bounds are longer in the time since then. */
export function watchLoad(read: () => Schedule | null = readSchedule): () => number {
  const before = read();
  return () => {
    const now = read();
    if (before === null || now === null) return 1;
    return boundFactor({ ranMs: now.ranMs - before.ranMs, waitedMs: now.waitedMs - before.waitedMs });
  };
}

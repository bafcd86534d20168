/**
 * Signal memory: what a process counts of signals, for its metrics and for operators. It lasts as long as the process.
 * Pure.
 */
import type { EnforcementReports, EnforcementResult } from "./signal-enforcement.ts";
import type { ReportedState } from "./verification-duty.ts";

export type SignalMemory = Readonly<{
  /** By transmitter, event and result. Bounded: the configuration and the known events name all of them. */
  received: Map<string, Readonly<{ transmitter: string; event: string; result: string; count: number }>>;
  /** By transmitter. */
  polls: Map<string, PollCounts>;
  /** By transmitter. */
  enforcement: Map<string, EnforcementCounts>;
  /** By transmitter: what the leader has read of its stream, and when (wall clock, ms). */
  streams: Map<string, ReportedState & Readonly<{ readAt: number }>>;
}>;

export type EnforcementCounts = Readonly<{
  results: Readonly<Record<EnforcementResult, number>>;
  /** People whose denied sessions could not be ended yet. */
  people: number;
}>;

export type PollCounts = Readonly<{
  answered: number;
  failed: number;
  /** Wall clock (ms) of the last answer; 0: none yet. */
  answeredAt: number;
}>;

const entriesMax = 10_000;

export function newSignalMemory(): SignalMemory {
  return { received: new Map(), polls: new Map(), enforcement: new Map(), streams: new Map() };
}

export function countReceived(
  { received }: SignalMemory,
  { transmitter, event, result }: Readonly<{ transmitter: string; event: string; result: string }>,
): void {
  const key = `${transmitter} ${event} ${result}`;
  const count = (received.get(key)?.count ?? 0) + 1;
  if (count > 1 || received.size < entriesMax) received.set(key, { transmitter, event, result, count });
}

export function countPoll(
  { polls }: SignalMemory,
  transmitter: string,
  { result, nowMs }: Readonly<{ result: "answered" | "failed"; nowMs: number }>,
): void {
  const { answered, failed, answeredAt } = polls.get(transmitter) ?? { answered: 0, failed: 0, answeredAt: 0 };
  polls.set(
    transmitter,
    result === "answered"
      ? { answered: answered + 1, failed, answeredAt: nowMs }
      : { answered, failed: failed + 1, answeredAt },
  );
}

const notEnforced: EnforcementCounts = { results: { ended: 0, unavailable: 0, refused: 0 }, people: 0 };

/** Counts what becomes of denied sessions. */
export function enforcementReportsOf({ enforcement }: SignalMemory): EnforcementReports {
  return {
    onEnforced(transmitter, result) {
      const { results, people } = enforcement.get(transmitter) ?? notEnforced;
      enforcement.set(transmitter, { results: { ...results, [result]: results[result] + 1 }, people });
    },
    onWaiting(waiting) {
      for (const transmitter of new Set([...enforcement.keys(), ...waiting.keys()])) {
        const { results } = enforcement.get(transmitter) ?? notEnforced;
        enforcement.set(transmitter, { results, people: waiting.get(transmitter) ?? 0 });
      }
    },
  };
}

/** People whose sessions a signal of the transmitter denies, and that could not be ended yet. */
export const peopleWaiting = ({ enforcement }: SignalMemory, transmitter: string): number =>
  enforcement.get(transmitter)?.people ?? 0;

/** Verdicts: what a drill promised, and what was measured of it. Pure. */
import { type Bound, type Drill, type PromiseName, promises } from "./drill.ts";
import { isHarm, shareOf } from "./guard.ts";
import type { Observations } from "./observations.ts";
import type { Quantity, Verdict } from "./run-record.ts";

export type Outcome = Readonly<{
  observations: Observations;
  windowMs: number;
  peopleErrorsMax: number;
  /** Acknowledged changes that the log no longer has; null: could not be asked. */
  lost: number | null;
  /** From the undo of the fault until everything worked; null: not within the bound, or no process was stopped. */
  returnedMs: number | null;
  /** What could not be undone, as sentences. */
  leftOver: readonly string[];
  /** Why the drill ended early; null: it did not. */
  stopped: string | null;
}>;

/** More than this share of the canary's requests at other proxies must not fail. */
const othersErrorsMax = 0.01;
/** A receipt may arrive this much later than the window that it waits for: a renew is in flight, and clocks drift. */
const windowSlackMs = 3_000;
const receiptMsMax = 120_000;

export function boundMs(bound: Bound, windowMs: number): number | null {
  if (bound === "none") return null;
  return bound === "window" ? windowMs + windowSlackMs : bound;
}

/** How long a drill waits for a receipt, and a little longer than it may take. */
export function receiptWaitMs({ promises: { "receipt-complete": bound = "window" } }: Drill, windowMs: number): number {
  return Math.min(receiptMsMax, (boundMs(bound, windowMs) ?? receiptMsMax) + 2_000);
}

/** How long a drill waits until every node is back. */
export function returnWaitMs({ promises: { "target-returns": bound = 60_000 } }: Drill, windowMs: number): number {
  return boundMs(bound, windowMs) ?? 60_000;
}

export function verdictsOf(drill: Drill, outcome: Outcome): readonly Verdict[] {
  return (Object.entries(drill.promises) as [PromiseName, Bound][]).map(([name, bound]) => {
    const measured = measures[name](outcome, boundMs(bound, outcome.windowMs));
    const open = measured.result === "not-measured" && outcome.stopped !== null && measured.text === "";
    return { promise: promises[name], ...measured, ...(open && { text: "the drill was stopped before" }) };
  });
}

type Measured = Omit<Verdict, "promise">;
type Measure = (outcome: Outcome, limitMs: number | null) => Measured;

const ms = (value: number): Quantity => ({ value, unit: "ms" });
const notMeasured = (text: string, bound: Quantity | null = null): Measured => ({
  result: "not-measured",
  bound,
  measured: null,
  text,
});

/** The worst of some times against their bound. `missing`: some had none. */
function worstOf(values: readonly (number | null)[], limitMs: number | null, text: string): Measured {
  const bound = limitMs === null ? null : ms(limitMs);
  if (values.length === 0) return notMeasured("", bound);
  const missing = values.filter((value) => value === null).length;
  const worst = values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
  const held = missing === 0 && (limitMs === null || worst <= limitMs);
  const some = missing === 0 ? "" : `${missing} of ${values.length} did not end in time; `;
  return { result: held ? "held" : "broken", bound, measured: ms(worst), text: `${some}${text}` };
}

const measures: Readonly<Record<PromiseName, Measure>> = {
  "nothing-after-receipt": ({ observations: { judgedAfterReceipt, permittedAfterReceipt } }) =>
    judgedAfterReceipt === 0
      ? notMeasured("")
      : {
          result: permittedAfterReceipt === 0 ? "held" : "broken",
          bound: { value: 0, unit: "requests" },
          measured: { value: permittedAfterReceipt, unit: "requests" },
          text: `${judgedAfterReceipt} requests were sent after complete receipts`,
        },
  "streams-end": ({ observations: { streamsLateMs } }, limitMs) =>
    streamsLateMs === null
      ? notMeasured("no stream was open at a complete receipt", limitMs === null ? null : ms(limitMs))
      : worstOf([streamsLateMs], limitMs, "after the receipt; 0: before it"),
  "every-node-refuses": ({ observations: { revocations } }, limitMs) =>
    worstOf(
      revocations.map(({ enforcedMs }) => enforcedMs),
      limitMs,
      "from the command to the last proxy's first refusal",
    ),
  "receipt-complete": ({ observations: { revocations } }, limitMs) =>
    worstOf(
      revocations.map(({ completeMs }) => completeMs),
      limitMs,
      "from the command",
    ),
  acknowledged: ({ observations: { revocations } }, limitMs) =>
    worstOf(
      revocations.map(({ acknowledgedMs }) => acknowledgedMs),
      limitMs,
      "from the first attempt",
    ),
  "nothing-lost": ({ lost, observations: { revocations } }) =>
    lost === null || revocations.length === 0
      ? notMeasured("")
      : {
          result: lost === 0 ? "held" : "broken",
          bound: { value: 0, unit: "changes" },
          measured: { value: lost, unit: "changes" },
          text: "receipts of all acknowledged changes, asked again at the end",
        },
  "others-serve": ({ observations: { others } }) => {
    const bound: Quantity = { value: othersErrorsMax * 100, unit: "%" };
    if (others.requests === 0) return notMeasured("", bound);
    const share = others.errors / others.requests;
    return {
      result: share <= othersErrorsMax ? "held" : "broken",
      bound,
      measured: { value: Number((share * 100).toFixed(2)), unit: "%" },
      text: `${others.errors} errors in ${others.requests} requests while the canary had its right`,
    };
  },
  "target-returns": ({ returnedMs, stopped, observations: { faults } }, limitMs) =>
    faults.length === 0 || (returnedMs === null && stopped !== null)
      ? notMeasured("", limitMs === null ? null : ms(limitMs))
      : worstOf([returnedMs], limitMs, "from the undo until every node has a lease and has caught up"),
  "people-unharmed": ({ observations: { people, peopleWorst }, peopleErrorsMax }) => {
    const bound: Quantity = { value: peopleErrorsMax * 100, unit: "%" };
    if (!people.measured) return notMeasured("no metrics could be read", bound);
    if (people.requests === 0) return notMeasured("no request of a person was seen", bound);
    return {
      result: isHarm(peopleWorst, peopleErrorsMax) ? "broken" : "held",
      bound,
      measured: { value: Number((shareOf(peopleWorst) * 100).toFixed(2)), unit: "%" },
      text: `${peopleWorst.errors} errors in ${peopleWorst.requests} requests of the worst ten seconds; ${people.errors} in ${people.requests} altogether`,
    };
  },
  restored: ({ leftOver }) => ({
    result: leftOver.length === 0 ? "held" : "broken",
    bound: { value: 0, unit: "left over" },
    measured: { value: leftOver.length, unit: "left over" },
    text: leftOver.join("; "),
  }),
};

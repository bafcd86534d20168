/** Measure: the cost of the faults in numbers. Pure. */
import { type History, type Ns, nsPerMs, type RequestEntry } from "../judge/history.ts";
import { nothingLost } from "../judge/losses.ts";
import { loadOf, waitedPerMs } from "../judge/machine-load.ts";
import { type Operation, operationsOf } from "../judge/promises.ts";
import { type EntitlementTerms, entitlementOf, rightsOf } from "../judge/rights.ts";

export type Share = Readonly<{ permitted: number; requested: number; byStatus: Readonly<Record<string, number>> }>;
export type Percentiles = Readonly<{ count: number; p50: number; p90: number; p99: number; max: number }>;

/** In ms. `main` lengthens bounds of promises; all together decide whether a share of the home region is demanded. */
export type Waited = Readonly<{
  /** Null: the system keeps no account. */
  all: number | null;
  byProcess: Readonly<Record<string, number>>;
}>;

export type Measures = Readonly<{
  requests: number;
  answered: number;
  unknown: number;
  byStatus: Readonly<Record<string, number>>;
  /** Why outcomes were unknown. */
  unknownWhy: Readonly<Record<string, number>>;
  /** Requests that were entitled to a permit and reached a running proxy, by whether a fault was active. */
  outside: Share;
  within: Share;
  sockets: Readonly<{
    opened: number;
    received: number;
    carried: number;
    closeCodes: Readonly<Record<string, number>>;
  }>;
  /**
   * Slow readers whose session was revoked: how many, and the most bytes that reached one after its complete receipt.
   */
  slowReaders: Readonly<{ cut: number; lateBytesMax: number }>;
  commands: Readonly<Record<string, Readonly<{ done: number; refused: number; unknown: number }>>>;
  /** What cut-off regions accepted by themselves: commands, and those with a complete receipt of the region. */
  local: Readonly<{ accepted: number; complete: number }>;
  /** From the request of a revocation or removal to its complete receipt, in ms, by whether a fault was active. */
  completeMs: Readonly<{ outside: Percentiles; within: Percentiles }>;
  receipts: Readonly<{ complete: number; incomplete: number; lost: number; failed: number }>;
  /** What incomplete receipts said of the missing nodes. */
  incompleteWhy: Readonly<Record<string, number>>;
  faults: Readonly<Record<string, number>>;
  stallMsMax: number;
  /** How long processes of the harness waited for a processor for each ms that they ran. */
  waitedPerMs: Waited;
}>;

export type MeasureOptions = EntitlementTerms;

export function measure(history: History, options: MeasureOptions): Measures {
  const operations = operationsOf(history);
  const inFault = windowsOf(history);
  const rights = rightsOf(history, operations, nothingLost);
  const entitled = history.request.filter(entitlementOf(history, rights, options));
  const isWithin = (each: Readonly<{ begin: Ns; end: Ns }>): boolean => inFault(each.begin, each.end);
  const completions = operations.filter(
    ({ intent, completeAt }) => intent.type !== "create-session" && completeAt !== null,
  );
  const spans = completions.map(({ begin, completeAt }) => ({ begin, end: completeAt ?? begin }));
  const sockets = history.request.filter(({ kind, status }) => kind === "websocket" && status === 101);
  const streams = new Set(sockets.map(({ id }) => id));
  return {
    requests: history.request.length,
    answered: history.request.filter(({ outcome }) => outcome === "answered").length,
    unknown: history.request.filter(({ outcome }) => outcome === "unknown").length,
    byStatus: tally(
      history.request.filter(({ outcome }) => outcome === "answered").map(({ status }) => String(status)),
    ),
    unknownWhy: tally(history.request.filter(({ outcome }) => outcome === "unknown").map(({ problem }) => problem)),
    outside: shareOf(entitled.filter((request) => !isWithin(request))),
    within: shareOf(entitled.filter(isWithin)),
    sockets: {
      opened: sockets.length,
      received: history.received.length,
      carried: history.carried.length,
      closeCodes: tally(history.closed.filter(({ id }) => streams.has(id)).map(({ code }) => String(code))),
    },
    slowReaders: { cut: history.late.length, lateBytesMax: Math.max(0, ...history.late.map(({ late }) => late)) },
    commands: commandsOf(operations),
    local: localOf(operations),
    completeMs: {
      outside: percentiles(spans.filter((span) => !isWithin(span))),
      within: percentiles(spans.filter(isWithin)),
    },
    receipts: {
      complete: history.receipt.filter(({ complete }) => complete).length,
      incomplete: history.receipt.filter(({ status }) => status === "incomplete").length,
      lost: history.receipt.filter(({ status }) => status === "lost").length,
      failed: history.receipt.filter(({ status }) => status === "none").length,
    },
    incompleteWhy: tally(
      history.receipt
        .filter(({ status }) => status === "incomplete")
        .flatMap(({ nodes }) => nodes.filter(({ status }) => status === "unconfirmed"))
        .map(({ node, reason }) => `${node}: ${reason.replace(/\d+/g, "…")}`),
    ),
    faults: tally(history.fault.map(({ what, problem }) => (problem === "" ? what : `${what} (failed)`))),
    stallMsMax: history.stall.reduce((longest, { begin, end }) => Math.max(longest, (end - begin) / nsPerMs), 0),
    waitedPerMs: waitedIn(history),
  };
}

function waitedIn({ load }: History): Waited {
  const byProcess = [...Map.groupBy(load, ({ process }) => process)].map(([process, accounts]): [string, number] => [
    process,
    waitedPerMs(loadOf(accounts)),
  ]);
  return { all: load.length === 0 ? null : waitedPerMs(loadOf(load)), byProcess: Object.fromEntries(byProcess) };
}

/** After a fault, a ready node may still lose a lease that it could not renew during it. */
const settleMs = 2_000;

/** Whether a span overlaps a fault, from its beginning until everything had been ready for a while. */
function windowsOf(history: History): (begin: Ns, end: Ns) => boolean {
  const windows = history.fault.map(({ begin, clear }) => ({ begin, clear: clear + settleMs * nsPerMs }));
  return (begin, end) => windows.some((window) => window.begin < end && window.clear > begin);
}

function shareOf(requests: readonly RequestEntry[]): Share {
  const answers = requests.map(({ outcome, status, stamps }) =>
    outcome === "unknown" ? "unknown" : stamps === null ? String(status) : "permitted",
  );
  const permitted = answers.filter((answer) => answer === "permitted").length;
  return { permitted, requested: requests.length, byStatus: tally(answers.filter((answer) => answer !== "permitted")) };
}

function commandsOf(operations: readonly Operation[]): Measures["commands"] {
  const byIntent = Map.groupBy(operations, ({ intent }) => intent.type);
  const count = (all: readonly Operation[], outcome: Operation["outcome"]): number =>
    all.filter((each) => each.outcome === outcome).length;
  return Object.fromEntries(
    [...byIntent].map(([type, all]) => [
      type,
      { done: count(all, "done"), refused: count(all, "refused"), unknown: count(all, "unknown") },
    ]),
  );
}

function localOf(operations: readonly Operation[]): Measures["local"] {
  const all = operations.flatMap(({ local }) => local);
  return { accepted: all.length, complete: all.filter(({ completeAt }) => completeAt !== null).length };
}

export function percentiles(spans: readonly Readonly<{ begin: Ns; end: Ns }>[]): Percentiles {
  const sorted = spans.map(({ begin, end }) => (end - begin) / nsPerMs).sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}

export function tally(labels: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  return Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
}

/** Record: a run as the data that the report page shows (run-record.ts). Pure. */
import type { UnixMs } from "../../src/events/index.ts";
import { regionOf, type Topology } from "../cluster/topology.ts";
import type { History, Intent, Ns, RequestEntry } from "../judge/history.ts";
import { nsPerMs } from "../judge/history.ts";
import { type Operation, operationsOf } from "../judge/promises.ts";
import { type Check, checks, type Violation } from "../judge/violation.ts";
import type {
  NodeSeries,
  ProcessKind,
  ReceiptMeasure,
  RevocationMeasure,
  RunFault,
  RunRecord,
  TrafficSecond,
  TrafficSeries,
  Verdict,
} from "../run-record.ts";

export type RecordParts = Readonly<{
  name: string;
  purpose: string;
  command: string;
  seed: number | null;
  version: string;
  topology: Topology;
  processes: readonly Readonly<{ name: string; kind: ProcessKind; region: string }>[];
  history: History;
  violations: readonly Violation[];
  /** The clients' first moment, in history time and by the wall clock, and their last. */
  startedAt: Ns;
  startedAtMs: UnixMs;
  endedAt: Ns;
  facts: readonly Readonly<{ name: string; value: string }>[];
  summary: string;
}>;

export function recordOf(parts: RecordParts): RunRecord {
  const { name, purpose, command, seed, version, topology, processes, history, facts, summary } = parts;
  const at = (ns: Ns): number => Math.round((ns - parts.startedAt) / nsPerMs);
  const operations = operationsOf(history);
  const heads = headsOf(history, at);
  return {
    format: 1,
    kind: "chaos",
    name,
    purpose,
    startedAt: parts.startedAtMs,
    durationMs: at(parts.endedAt),
    version,
    seed,
    command,
    stopped: null,
    summary,
    facts: [...facts, ...omissionsOf(history)],
    topology: {
      regions: topology.regions.map((region) => ({ name: region.name, home: region.kind === "home" })),
      processes,
    },
    verdicts: [...verdictsOfScenarios(history), ...verdictsOfChecks(parts.violations)],
    faults: faultsOf(history, at),
    notes: history.note.map((note) => ({ atMs: at(note.at), text: note.text })),
    traffic: topology.regions.map((region) => trafficOf(region.name, { history, topology, at })),
    revocations: operations.flatMap((operation) => revocationOf(operation, at)),
    receipts: receiptsOf(history, operations, { topology, at }),
    nodes: processes.flatMap((process) => seriesOf(process, { history, at, heads })),
    head: heads,
    evidence: parts.violations.slice(0, evidenceMax).map(({ check, what, at: seenAt, about }) => ({
      title: `${checks[check]}: ${what}`,
      atMs: seenAt === Number.MAX_SAFE_INTEGER ? null : at(seenAt),
      lines: Object.entries(about).map(([key, value]) => `${key}: ${value}`),
    })),
  };
}

type At = (ns: Ns) => number;
/** A history has an entry when it ended; a record has it when it began. */
const byBegin = (a: Readonly<{ begin: Ns }>, b: Readonly<{ begin: Ns }>): number => a.begin - b.begin;
const evidenceMax = 20;
/** A receipt is about 1 kB of the record. A run with more keeps every n-th, over its whole time. */
const receiptsMax = 10_000;

function receiptStep(history: History): number {
  return Math.max(1, Math.ceil(history.receipt.length / receiptsMax));
}

function verdictsOfScenarios({ promise }: History): readonly Verdict[] {
  return promise.map((each) => ({
    promise: `${each.scenario}: ${each.promise}`,
    result: each.kept ? "held" : "broken",
    bound: each.boundMs === null ? null : { value: each.boundMs, unit: "ms" },
    measured: each.tookMs === null ? null : { value: each.tookMs, unit: "ms" },
    text: each.kept ? "" : `last seen: ${each.seen}`,
  }));
}

/** Each check of the judge is a promise of its own: the opposite of what it looks for. */
function verdictsOfChecks(violations: readonly Violation[]): readonly Verdict[] {
  const isCheck = (name: string): name is Check => Object.hasOwn(checks, name);
  return Object.keys(checks)
    .filter(isCheck)
    .filter((check) => check !== "promise-broken")
    .map((check) => {
      const found = violations.filter((violation) => violation.check === check);
      const times = found.reduce((sum, { times: each }) => sum + each, 0);
      return {
        promise: `Never: ${checks[check]}`,
        result: found.length === 0 ? "held" : "broken",
        bound: null,
        measured: found.length === 0 ? null : { value: times, unit: "times" },
        text: found[0]?.what ?? "",
      };
    });
}

function faultsOf({ fault }: History, at: At): readonly RunFault[] {
  return fault.toSorted(byBegin).map(({ what, target, regions, begin, end, clear, problem, scenario }) => ({
    name: what,
    target,
    region: regions.length === 1 ? (regions[0] ?? null) : null,
    fromMs: at(begin),
    untilMs: at(end),
    clearMs: at(clear),
    text: scenario === null ? "" : `scenario ${scenario}`,
    problem: problem === "" ? null : problem,
  }));
}

function trafficOf(
  region: string,
  { history, topology, at }: Readonly<{ history: History; topology: Topology; at: At }>,
): TrafficSeries {
  const seconds = new Map<number, TrafficSecond>();
  for (const request of history.request) {
    if (regionOf(topology, request.node) !== region) continue;
    const second = Math.floor(at(request.end) / 1_000);
    const none = { atMs: second * 1_000, permitted: 0, refused: 0, unavailable: 0, failed: 0 };
    const known = seconds.get(second) ?? none;
    const outcome = outcomeOf(request);
    seconds.set(second, { ...known, [outcome]: known[outcome] + 1 });
  }
  return { region, source: "clients", seconds: [...seconds.values()].sort((a, b) => a.atMs - b.atMs) };
}

function outcomeOf({ outcome, stamps, status }: RequestEntry): "permitted" | "refused" | "unavailable" | "failed" {
  if (outcome === "unknown") return "failed";
  if (stamps !== null) return "permitted";
  return status >= 500 ? "unavailable" : "refused";
}

const tightens: readonly Intent["type"][] = ["revoke-session", "revoke-user", "suspend-user", "remove-member"];

function revocationOf({ intent, begin, end, completeAt, attempts }: Operation, at: At): readonly RevocationMeasure[] {
  if (!tightens.includes(intent.type)) return [];
  const since = (ns: Ns | null): number | null => (ns === null ? null : at(ns) - at(begin));
  return [
    {
      atMs: at(begin),
      what: intent.type,
      region: attempts[0]?.region ?? "",
      acknowledgedMs: since(end),
      enforcedMs: null,
      completeMs: since(completeAt),
    },
  ];
}

function omissionsOf(history: History): RunRecord["facts"] {
  const step = receiptStep(history);
  if (step === 1) return [];
  return [{ name: "Receipts", value: `1 in ${step} of ${history.receipt.length} is in this record` }];
}

function receiptsOf(
  history: History,
  operations: readonly Operation[],
  { topology, at }: Readonly<{ topology: Topology; at: At }>,
): readonly ReceiptMeasure[] {
  const intents = new Map(operations.map(({ op, intent }) => [op, intent.type]));
  const step = receiptStep(history);
  const kept = history.receipt.toSorted(byBegin).filter((_, index) => index % step === 0);
  return kept.map(({ op, region, begin, end, status, nodes }) => ({
    atMs: at(begin),
    what: intents.get(op) ?? op,
    region,
    status,
    afterMs: at(end) - at(begin),
    nodes: nodes.map(({ node, status: state, reason }) => ({
      node,
      region: regionOf(topology, node) ?? "",
      status: state === "applied" || state === "fenced" || state === "unconfirmed" ? state : "not seen",
      afterMs: null,
      reason,
    })),
  }));
}

/** The newest position that any process had reached in each second. */
function headsOf({ sample }: History, at: At): readonly Readonly<{ atMs: number; position: number }>[] {
  const heads = new Map<number, number>();
  for (const { at: seenAt, position } of sample) {
    const second = Math.floor(at(seenAt) / 1_000);
    if (position !== null) heads.set(second, Math.max(position, heads.get(second) ?? 0));
  }
  let newest = 0;
  return [...heads]
    .sort(([a], [b]) => a - b)
    .map(([second, position]) => {
      newest = Math.max(newest, position);
      return { atMs: second * 1_000, position: newest };
    });
}

function seriesOf(
  { name, kind, region }: RecordParts["processes"][number],
  { history, at, heads }: Readonly<{ history: History; at: At; heads: ReturnType<typeof headsOf> }>,
): readonly NodeSeries[] {
  const headAt = new Map(heads.map(({ atMs, position }) => [atMs, position]));
  const samples = history.sample
    .filter(({ node, position }) => node === name && position !== null)
    .map((sample) => {
      const atMs = at(sample.at);
      const head = headAt.get(Math.floor(atMs / 1_000) * 1_000);
      const lag = head === undefined || sample.position === null ? null : Math.max(0, head - sample.position);
      return { atMs, position: sample.position, lag, stalenessMs: sample.leaseAgeMs };
    });
  return samples.length === 0 ? [] : [{ node: name, region, role: kind, samples }];
}

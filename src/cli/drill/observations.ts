/**
 * Observations: what a drill sees, collected for the verdicts and the report. Times are milliseconds of the run.
 *
 * Bounded by the length of a drill: one sample per node and second, and counts per second of each proxy.
 */
import type { Link } from "../../events/index.ts";
import type {
  NodeSample,
  ReceiptMeasure,
  RevocationMeasure,
  RunFault,
  RunRecord,
  TrafficSecond,
} from "./run-record.ts";

export type ProbeAnswer = "permitted" | "refused" | "unavailable" | "failed";

export type CanaryProbe = Readonly<{
  proxy: string;
  sentAt: number;
  endedAt: number;
  answer: ProbeAnswer;
  /** 0: no response. */
  status: number;
  requestId: string;
}>;

const evidenceMax = 40;
const notesMax = 500;

type Counts = { permitted: number; refused: number; unavailable: number; failed: number };

/** A change of the canary's rights while it is in force. */
export type CanaryCut = {
  readonly what: string;
  readonly sentAt: number;
  /** When the complete receipt had arrived; null: not yet. */
  completeAt: number | null;
  /** By proxy: when it was first seen to refuse, after the last permit. */
  readonly refusedAt: Map<string, number>;
};

export class Observations {
  readonly revocations: RevocationMeasure[] = [];
  readonly receipts: ReceiptMeasure[] = [];
  readonly faults: RunFault[] = [];
  /** Of acknowledged changes. */
  readonly links: Link[] = [];
  readonly notes: { atMs: number; text: string }[] = [];
  readonly head: { atMs: number; position: number }[] = [];
  readonly evidence: { title: string; atMs: number | null; lines: readonly string[] }[] = [];
  /** Requests that were sent after a complete receipt and permitted. */
  permittedAfterReceipt = 0;
  /** Requests that were sent after a complete receipt. */
  judgedAfterReceipt = 0;
  /** How long after its complete receipt the last stream ended, in ms; null: no stream was open. */
  streamsLateMs: number | null = null;
  /** Probes of proxies other than the target while a fault lasted. */
  readonly others = { requests: 0, errors: 0 };
  /** The ten seconds with the largest share of errors. */
  peopleWorst: Readonly<{ requests: number; errors: number }> = { requests: 0, errors: 0 };
  readonly people = { requests: 0, errors: 0, measured: false };
  cut: CanaryCut | null = null;
  /** By proxy. */
  readonly lastProbes = new Map<string, CanaryProbe>();
  /** The process that the drill stops is expected to answer badly; null: none. */
  awayTarget: string | null = null;
  faultActive = false;
  readonly #probes = new Map<string, Map<number, Counts>>();
  readonly #people = new Map<string, Map<number, Counts>>();
  readonly #nodes = new Map<string, { region: string; role: string; samples: NodeSample[] }>();

  note(atMs: number, text: string): void {
    if (this.notes.length < notesMax) this.notes.push({ atMs, text });
  }

  addProbe(probe: CanaryProbe, region: string): void {
    this.lastProbes.set(probe.proxy, probe);
    add(this.#probes, region, probe.endedAt, { [probe.answer]: 1 });
    if (this.faultActive && this.cut === null && probe.proxy !== this.awayTarget) {
      this.others.requests++;
      if (probe.answer === "unavailable" || probe.answer === "failed") this.others.errors++;
    }
    const { cut } = this;
    if (cut === null || probe.sentAt < cut.sentAt) return;
    if (probe.answer === "permitted") cut.refusedAt.delete(probe.proxy);
    else if (probe.answer === "refused" && !cut.refusedAt.has(probe.proxy))
      cut.refusedAt.set(probe.proxy, probe.endedAt);
    if (cut.completeAt === null || probe.sentAt < cut.completeAt) return;
    this.judgedAfterReceipt++;
    if (probe.answer !== "permitted") return;
    this.permittedAfterReceipt++;
    this.addEvidence(`${probe.proxy} permitted a request after the complete receipt of ${cut.what}`, probe.sentAt, [
      `the command was sent at ${cut.sentAt.toFixed(1)} ms`,
      `the complete receipt had arrived at ${cut.completeAt.toFixed(1)} ms`,
      `the request was sent at ${probe.sentAt.toFixed(1)} ms and answered with ${probe.status} at ${probe.endedAt.toFixed(1)} ms`,
      `its request id: ${probe.requestId}`,
    ]);
  }

  addEvidence(title: string, atMs: number | null, lines: readonly string[]): void {
    if (this.evidence.length < evidenceMax) this.evidence.push({ title, atMs, lines });
  }

  addPeople(region: string, atMs: number, counts: Readonly<Counts>): void {
    this.people.measured = true;
    this.people.requests += counts.permitted + counts.refused + counts.unavailable;
    this.people.errors += counts.unavailable;
    add(this.#people, region, atMs, counts);
  }

  addSample(node: Readonly<{ node: string; region: string; role: string }>, sample: NodeSample): void {
    const known = this.#nodes.get(node.node) ?? { region: node.region, role: node.role, samples: [] };
    known.samples.push(sample);
    this.#nodes.set(node.node, known);
  }

  traffic(): RunRecord["traffic"] {
    const series = (source: string, all: ReadonlyMap<string, Map<number, Counts>>): RunRecord["traffic"] =>
      [...all].map(([region, seconds]) => ({
        region,
        source,
        seconds: [...seconds]
          .sort(([a], [b]) => a - b)
          .map(([second, counts]): TrafficSecond => ({ atMs: second * 1_000, ...counts })),
      }));
    return [...series("canary", this.#probes), ...series("people", this.#people)];
  }

  nodes(): RunRecord["nodes"] {
    return [...this.#nodes]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([node, { region, role, samples }]) => ({ node, region, role, samples }));
  }
}

function add(
  all: Map<string, Map<number, Counts>>,
  region: string,
  atMs: number,
  more: Readonly<Partial<Counts>>,
): void {
  const seconds = all.get(region) ?? new Map<number, Counts>();
  all.set(region, seconds);
  const second = Math.max(0, Math.floor(atMs / 1_000));
  const counts = seconds.get(second) ?? { permitted: 0, refused: 0, unavailable: 0, failed: 0 };
  counts.permitted += more.permitted ?? 0;
  counts.refused += more.refused ?? 0;
  counts.unavailable += more.unavailable ?? 0;
  counts.failed += more.failed ?? 0;
  seconds.set(second, counts);
}

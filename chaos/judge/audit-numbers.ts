/**
 * Audit numbers: whether every number of every boot is a record or declared lost, in each sink. Pure.
 *
 * Repetitions are the same line. JetStream may lack what it had acknowledged before a fault killed it or deleted its
 * stream: such a hole begins before the fault and ends after it, by the times at which JetStream stored its edges.
 */
import type { AuditCopy, AuditLine, AuditSeen } from "./audit-line.ts";
import { type History, nsPerMs } from "./history.ts";
import type { Findings } from "./violation.ts";

type NumbersCheck = Readonly<{ audit: AuditSeen; found: Findings }>;
type Span = Readonly<{ fromMs: number; toMs: number }>;

/** JetStream's servers write behind what they acknowledge; a hole may end so long before a fault. */
const unwrittenMs = 5_000;
/** The faults that take messages from JetStream. */
const losing: ReadonlySet<string> = new Set([
  "kill-nats",
  "restart-nats",
  "kill-all-nats",
  "delete-stream",
  "delete-mirror",
  "kill-region",
  "lose-home",
]);

export function checkNumbers(history: History, { audit, found }: NumbersCheck): void {
  const { copies, originMs } = audit;
  const wall = (ns: number): number => originMs + ns / nsPerMs;
  const losses = history.fault
    .filter(({ what }) => losing.has(what))
    .map(({ begin, clear }) => ({ fromMs: wall(begin) - unwrittenMs, toMs: wall(clear) }));
  const contents = new Map<string, AuditLine>();
  const lasts = new Map<string, number>();
  for (const { sink, lines } of copies) {
    for (const line of lines) {
      const { node, boot, seq } = line;
      lasts.set(`${node} ${boot}`, Math.max(seq, lasts.get(`${node} ${boot}`) ?? 0));
      if (line.gap !== null) continue;
      const key = `${boot} ${seq}`;
      const known = contents.get(key);
      if (known === undefined) contents.set(key, line);
      else if (known.digest !== line.digest) {
        const what = `${node} ${boot}:${seq} has two contents in ${sink}, or in ${sink} and another sink`;
        found.add({ check: "audit-differs", at: nsOf(line, audit), what, about: { node, boot, seq: String(seq) } });
      }
    }
  }
  for (const copy of copies) {
    const boots = Map.groupBy(copy.lines, ({ node, boot }) => `${node} ${boot}`);
    for (const [boot, last] of lasts) {
      const lines = boots.get(boot) ?? [];
      checkBoot(boot, lines, { copy, last, losses: copy.sink === "JetStream" ? losses : [], audit, found });
    }
  }
  checkGaps(history, { audit, found });
}

const nsOf = ({ atMs }: AuditLine, { originMs }: AuditSeen): number => Math.max(0, (atMs - originMs) * nsPerMs);

type BootCheck = NumbersCheck & Readonly<{ copy: AuditCopy; last: number; losses: readonly Span[] }>;

function checkBoot(name: string, lines: readonly AuditLine[], bootCheck: BootCheck): void {
  const { copy, last, losses, audit, found } = bootCheck;
  const [node = "", boot = ""] = name.split(" ");
  const first = (line: AuditLine): number => line.gap?.first ?? line.seq;
  const inOrder = lines.toSorted((a, b) => first(a) - first(b) || a.seq - b.seq);
  let next = 1;
  let before: AuditLine | undefined;
  const hole = (until: number, after: AuditLine | undefined): void => {
    const edges = { fromMs: before?.storedMs ?? 0, toMs: after?.storedMs ?? Number.POSITIVE_INFINITY };
    if (losses.some(({ fromMs, toMs }) => edges.fromMs <= toMs && edges.toMs >= fromMs)) return;
    const at = nsOf(after ?? before ?? { ...noLine, atMs: audit.originMs }, audit);
    const what = `${copy.sink} has neither records nor a gap for ${next}–${until} of ${node} ${boot}`;
    found.add({ check: "audit-missing", at, what, about: { node, boot, sink: copy.sink, from: String(next) } });
  };
  for (const line of inOrder) {
    const from = first(line);
    if (from > next) hole(from - 1, line);
    const overlaps = from < next && line.seq >= from && before !== undefined && isContradiction(line, before);
    if (overlaps) {
      const what = `${copy.sink} has records of ${node} ${boot} that a gap up to ${Math.max(line.seq, before?.seq ?? 0)} declares lost`;
      found.add({ check: "audit-differs", at: nsOf(line, audit), what, about: { node, boot, sink: copy.sink } });
    }
    if (line.seq < next) continue;
    next = line.seq + 1;
    before = line;
  }
  if (next <= last) hole(last, undefined);
}

const noLine = { node: "", boot: "", seq: 0, storedMs: null, digest: 0, decision: null, act: null, gap: null };

/**
 * A record within a gap. A gap because the spool was full may be delivered after the records themselves, if the process
 * ended before it had noted how far the sink was.
 */
function isContradiction(line: AuditLine, before: AuditLine): boolean {
  const gap = line.gap ?? before.gap;
  return (line.gap === null) !== (before.gap === null) && gap?.reason !== "spool_full";
}

/** In a run no spool is full, no disk is damaged, and no node records faster than its memory takes. */
function checkGaps(history: History, { audit, found }: NumbersCheck): void {
  const killed = Map.groupBy(
    history["process-end"].filter(({ how }) => how === "killed"),
    ({ node }) => node,
  );
  const gaps = audit.copies.flatMap(({ lines }) => lines.filter(({ gap }) => gap !== null));
  for (const line of gaps) {
    const { node, boot, gap } = line;
    if (gap === null || gap.reason === "killed") continue;
    const what = `${node} ${boot} declares ${gap.first}–${gap.last} lost (${gap.reason}), and no fault explains it`;
    found.add({ check: "audit-unexplained", at: nsOf(line, audit), what, about: { node, boot, reason: gap.reason } });
  }
  for (const [node, lines] of Map.groupBy(gaps, (line) => line.node)) {
    const boots = new Set(lines.filter(({ gap }) => gap?.reason === "killed").map(({ boot }) => boot));
    const kills = killed.get(node)?.length ?? 0;
    if (boots.size <= kills) continue;
    const what = `${boots.size} boots of ${node} declare a tail as lost, and ${kills} were killed`;
    found.add({ check: "audit-unexplained", at: 0, what, about: { node } });
  }
}

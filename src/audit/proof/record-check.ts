/**
 * Record check: compares stored records with the seals of the log, line by line, in bounded memory. Pure.
 *
 * - It names what is altered, missing, out of order, repeated with other content, or added, by node, boot and number.
 * - A segment with a fault does not hide the next one: a seal has the peaks of its tree, so checking continues there.
 * - Numbers that a gap record declares are compared with those that the seal declares lost. A sink that lost records
 *   which the node had sealed lacks them.
 */
import { type BootId, CodedError, MerkleTree, type NodeId, treeSizeMax } from "../../events/index.ts";
import type { AuditSeal, SealedRange } from "../../replication/wire/index.ts";
import { withoutEnvelope } from "../audit-record.ts";
import { lostLeaf, recordLeafOf } from "../seal/index.ts";
import type { OpenedEvidence } from "./seal-evidence.ts";
import { presentParts, type SealIndex, unhashedNumbersOf, unhashedParts } from "./seal-index.ts";
import { type AlteredRange, SegmentMarks } from "./segment-marks.ts";

/**
 * `altered`: it has another content than was sealed, or a record of the range has. `missing`: it was sealed, or its
 * number lies between others, and it is not there. `reordered`: it comes after later ones. `repeated`: it comes again,
 * with another content or from long before. `added`: its boot had ended before. `forked`: two seals contradict each
 * other.
 */
export type RecordFindingKind = "altered" | "missing" | "reordered" | "repeated" | "added" | "forked";

export type RecordFinding = Readonly<{
  kind: RecordFindingKind;
  node: string;
  boot: string;
  first: number;
  last: number;
  /** The line of the source, from 1; null: the finding has none. */
  line: number | null;
  detail: string;
}>;

export type BootReport = Readonly<{
  node: string;
  boot: string;
  records: number;
  /** Records and numbers without a record that match a seal. */
  verified: number;
  sealedTo: number;
  /** Numbers that no seal covers; null: none. */
  unsealed: SealedRange | null;
  /** Numbers of this source that gap records declare lost, and that the seals agree with or do not cover. */
  declared: number;
  /** Numbers that a partial source does not have. */
  absent: number;
  /** Records that no seal covers, as the seals say: the node's spool gave them up before they were hashed. */
  unhashed: number;
}>;

export type CheckReport = Readonly<{
  records: number;
  verified: number;
  erased: number;
  repetitions: number;
  /**
   * Lines that are no records; a sink that failed leaves half a line. What they replace is missing. `firstLine`: 0, if
   * there are none.
   */
  unreadable: Readonly<{ lines: number; firstLine: number }>;
  findings: readonly RecordFinding[];
  /** Of those that were found; the list has the first thousand. */
  findingCount: number;
  boots: readonly BootReport[];
}>;

const findingsMax = 1_000;
const bootsMax = 10_000;
/** Repetitions are compared with so many newest records of a boot. A sink repeats its last batches after a crash. */
const recentMax = 8_192;
/** Of other boots, no records are remembered. */
const recentBootsMax = 64;

export class TooManyBootsError extends CodedError<"ERR_AUDIT_TOO_MANY_BOOTS"> {
  override readonly code = "ERR_AUDIT_TOO_MANY_BOOTS";
  constructor() {
    super(`the records are of more than ${bootsMax} boots: check fewer files, or a shorter time`);
  }
}

const hasOther = "another content than was sealed";

type Fields = Readonly<{
  kind: string;
  node: NodeId;
  boot: BootId;
  seq: number;
  first: number;
  /** The record's own line, where another format contains it. */
  text?: string;
}>;

type Segment = { seals: readonly OpenedEvidence[]; next: number };

type BootState = Segment & {
  readonly node: NodeId;
  readonly boot: BootId;
  /** The next number. */
  at: number;
  /** Null: a fault came before, so the tree is known again at the next seal. */
  tree: MerkleTree | null;
  /** Where the present segment began in this tree. */
  from: number;
  /** Finds what was altered in the present segment. */
  marks: SegmentMarks;
  /** Numbers that were passed without a record. */
  holes: { first: number; last: number; finding: number }[];
  recent: Map<number, Buffer>;
  records: number;
  verified: number;
  declared: number;
  absent: number;
  readonly isUnhashed: (number: number) => boolean;
  unhashed: number;
};

export class RecordCheck {
  readonly #index: SealIndex;
  readonly #partial: boolean;
  readonly #boots = new Map<string, BootState>();
  readonly #findings: RecordFinding[] = [];
  #findingCount = 0;
  #line = 0;
  #records = 0;
  #erased = 0;
  #repetitions = 0;
  /** The first such line; 0: none. */
  #unreadable = 0;
  #unreadableCount = 0;
  /** The boots whose newest records are remembered. */
  readonly #recentBoots = new Set<BootState>();
  #newest: BootState | undefined;

  /** @param options.partial the source is known to have a part of each boot only, without holes */
  constructor(index: SealIndex, options: Readonly<{ partial: boolean }>) {
    this.#index = index;
    this.#partial = options.partial;
    for (const { node, boot, size, detail } of index.conflicts())
      this.#find({ kind: "forked", node, boot, first: 1, last: size, line: null, detail });
  }

  get records(): number {
    return this.#records;
  }

  take(line: string): void {
    this.#line++;
    const fields = fieldsIn(line);
    if (fields === undefined) {
      this.#unreadable ||= this.#line;
      this.#unreadableCount++;
      return;
    }
    const state = this.#stateOf(fields);
    if (fields.kind === "gap") this.#takeGap(state, fields);
    else this.#takeRecord(state, fields.seq, recordLeafOf(Buffer.from(fields.text ?? line)));
  }

  #takeRecord(state: BootState, seq: number, leaf: ReturnType<typeof recordLeafOf>): void {
    if (leaf === "not-a-record") {
      this.#altered(state, seq);
      return;
    }
    this.#records++;
    state.records++;
    if (leaf.erased) this.#erased++;
    if (seq < state.at) {
      this.#takeEarlier(state, seq, leaf.leaf);
      return;
    }
    if (seq > state.at) this.#skip(state, seq - 1, { declared: false });
    const isUnhashed = state.isUnhashed(seq);
    if (isUnhashed) state.unhashed++;
    this.#append(state, isUnhashed ? lostLeaf : leaf.leaf, 1);
    this.#remember(state, seq, leaf.leaf);
  }

  #remember(state: BootState, seq: number, leaf: Buffer): void {
    state.recent.set(seq, leaf.subarray(0, 8));
    if (state.recent.size > recentMax) state.recent.delete(state.recent.keys().next().value ?? 0);
    if (this.#newest === state) return;
    this.#newest = state;
    this.#recentBoots.delete(state);
    this.#recentBoots.add(state);
    const [oldest] = this.#recentBoots;
    if (this.#recentBoots.size <= recentBootsMax || oldest === undefined) return;
    oldest.recent.clear();
    this.#recentBoots.delete(oldest);
  }

  finish(): CheckReport {
    for (const { node, boot, seals } of this.#index.boots()) {
      const first = seals[0]?.seal;
      if (first === undefined) continue;
      const state = this.#boots.get(keyOf(node, boot)) ?? this.#newState(node, boot, 1);
      const size = seals.at(-1)?.seal.size ?? 0;
      const detail = state.at === 1 ? "no record of the boot is there" : "the end of the boot is not there";
      if (state.at > size) continue;
      this.#reportAltered(state, state.marks.finish());
      this.#absent(state, { first: state.at, last: size }, detail);
    }
    return {
      records: this.#records,
      verified: [...this.#boots.values()].reduce((sum, { verified }) => sum + verified, 0),
      erased: this.#erased,
      repetitions: this.#repetitions,
      unreadable: { lines: this.#unreadableCount, firstLine: this.#unreadable },
      findings: this.#findings.toSorted(byNumber),
      findingCount: this.#findingCount,
      boots: [...this.#boots.values()].map(reportOf),
    };
  }

  /** @throws TooManyBootsError */
  #stateOf({ node, boot, kind, seq, first }: Fields): BootState {
    const known = this.#boots.get(keyOf(node, boot));
    if (known !== undefined) return known;
    if (this.#boots.size >= bootsMax) throw new TooManyBootsError();
    const begin = kind === "gap" ? first : seq;
    const state = this.#newState(node, boot, 1);
    if (begin > 1) {
      const detail = "the beginning of the boot is not there";
      if (state.seals.length > 0 || !this.#partial) this.#absent(state, { first: 1, last: begin - 1 }, detail);
      this.#jump(state, begin);
    }
    return state;
  }

  #newState(node: NodeId, boot: BootId, at: number): BootState {
    const { seals } = this.#index.of(node, boot);
    const state: BootState = {
      node,
      boot,
      seals,
      next: 0,
      at,
      tree: new MerkleTree(),
      from: 0,
      marks: new SegmentMarks(seals[0]?.seal, at),
      holes: [],
      recent: new Map(),
      records: 0,
      verified: 0,
      declared: 0,
      absent: 0,
      isUnhashed: unhashedNumbersOf(seals),
      unhashed: 0,
    };
    this.#boots.set(keyOf(node, boot), state);
    return state;
  }

  #takeGap(state: BootState, { first, seq: last }: Fields): void {
    if (last < state.at) {
      this.#repetitions++;
      return;
    }
    if (first > state.at) this.#skip(state, first - 1, { declared: false });
    this.#skip(state, last, { declared: true });
  }

  /** Numbers up to this one have no record here. */
  #skip(state: BootState, last: number, { declared }: Readonly<{ declared: boolean }>): void {
    const range = { first: state.at, last };
    for (const part of unhashedParts(state.seals, range))
      if (part.unhashed) this.#skipUnhashed(state, part, { declared });
      else this.#skipSealed(state, part.last, { declared });
  }

  #skipUnhashed(state: BootState, part: SealedRange, { declared }: Readonly<{ declared: boolean }>): void {
    const count = part.last - part.first + 1;
    if (declared) state.declared += count;
    else this.#missing(state, part, "no gap record declares them; no seal covers them");
    this.#append(state, lostLeaf, count);
  }

  #skipSealed(state: BootState, last: number, { declared }: Readonly<{ declared: boolean }>): void {
    const range = { first: state.at, last };
    const sealedTo = state.seals.at(-1)?.seal.size ?? 0;
    const { parts, isCertain } = presentParts(state.seals, range);
    const wanted = declared
      ? parts.flatMap((part) => (part.first > sealedTo ? [] : [{ ...part, last: Math.min(part.last, sealedTo) }]))
      : parts;
    const isDoubtful = !isCertain && declared;
    for (const part of isDoubtful ? [] : wanted) {
      const detail = declared
        ? "a gap record of this source declares them lost, and the node sealed them as recorded: this sink lost them, or they were removed"
        : part.first > sealedTo
          ? "no gap record declares them; they are not sealed yet"
          : "the node sealed them";
      this.#missing(state, part, detail);
    }
    if (declared) state.declared += last - range.first + 1;
    if (wanted.length === 0 || isDoubtful) this.#append(state, lostLeaf, last - range.first + 1);
    else this.#jump(state, last + 1);
  }

  #missing(state: BootState, { first, last }: SealedRange, detail: string): void {
    const { node, boot } = state;
    if (this.#findings.length < findingsMax) state.holes.push({ first, last, finding: this.#findings.length });
    this.#find({ kind: "missing", node, boot, first, last, line: null, detail });
  }

  /** At the ends of a boot, a partial source may lack records. */
  #absent(state: BootState, range: SealedRange, detail: string): void {
    const { parts, isCertain } = presentParts(state.seals, range);
    if (this.#partial) state.absent += parts.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    else for (const part of isCertain ? parts : []) this.#missing(state, part, detail);
    if (!this.#partial && !isCertain) this.#missing(state, range, `${detail}; some of them may be sealed as lost`);
  }

  /** A number that was passed already. */
  #takeEarlier(state: BootState, seq: number, leaf: Buffer): void {
    const { node, boot } = state;
    const line = this.#line;
    const before = state.recent.get(seq);
    if (before !== undefined && leaf.subarray(0, 8).equals(before)) {
      this.#repetitions++;
      return;
    }
    const hole = before === undefined ? state.holes.find(({ first, last }) => first <= seq && seq <= last) : undefined;
    if (hole === undefined) {
      const detail =
        before === undefined
          ? "it comes again, behind many others: no sink repeats records of so long before"
          : "it comes twice, with different contents";
      this.#find({ kind: "repeated", node, boot, first: seq, last: seq, line, detail });
      return;
    }
    const detail = `it comes after the record ${state.at - 1}`;
    const found: RecordFinding = { kind: "reordered", node, boot, first: seq, last: seq, line, detail };
    // What seemed to be missing was out of order.
    const isAll = hole.first === hole.last && this.#findings[hole.finding]?.kind === "missing";
    if (isAll) this.#findings[hole.finding] = found;
    else this.#find(found);
  }

  #altered(state: BootState, seq: number): void {
    const { node, boot } = state;
    const detail = "no version of a node writes a line like this";
    this.#find({ kind: "altered", node, boot, first: seq, last: seq, line: this.#line, detail });
    if (seq === state.at) this.#jump(state, seq + 1);
    else if (seq > state.at) {
      this.#skip(state, seq - 1, { declared: false });
      this.#jump(state, seq + 1);
    }
  }

  /** Continues at a number, without knowing the leaves before it. */
  #jump(state: BootState, at: number): void {
    const seal = state.seals[state.next]?.seal;
    if (seal !== undefined && at - 1 < seal.size) {
      state.marks.skip(at - state.at);
      state.tree = null;
      state.at = at;
      return;
    }
    this.#reportAltered(state, state.marks.finish());
    state.at = at;
    while ((state.seals[state.next]?.seal.size ?? Number.POSITIVE_INFINITY) < at - 1) state.next++;
    this.#restart(state);
  }

  /** The tree is known again if a seal ends right before this number. */
  #restart(state: BootState): void {
    const size = state.at - 1;
    const seal = state.seals[state.next]?.seal;
    state.tree = seal?.size === size ? MerkleTree.from(seal) : null;
    while (state.seals[state.next]?.seal.size === size) state.next++;
    state.from = size;
    state.marks = new SegmentMarks(state.seals[state.next]?.seal, state.at);
  }

  #append(state: BootState, leaf: Buffer, count: number): void {
    for (let left = count; left > 0; ) {
      const seal = state.seals[state.next]?.seal;
      if (seal === undefined) {
        this.#appendUnsealed(state, left);
        return;
      }
      const taken = Math.min(left, seal.size - (state.at - 1));
      state.tree?.appendRun(leaf, taken);
      state.marks.append(leaf, taken);
      state.at += taken;
      left -= taken;
      if (state.at - 1 === seal.size) this.#compare(state);
    }
  }

  #appendUnsealed(state: BootState, count: number): void {
    const { node, boot } = state;
    const isEnded = state.seals.at(-1)?.seal.final === true;
    const range = { first: state.at, last: state.at + count - 1 };
    state.at += count;
    const detail = "the last seal of the boot says that it had ended before";
    if (isEnded) this.#find({ kind: "added", node, boot, ...range, line: this.#line, detail });
  }

  #reportAltered({ node, boot }: BootState, ranges: readonly AlteredRange[]): void {
    for (const range of ranges) {
      const { first, last } = range;
      const many = range.each ? `each of them has ${hasOther}` : `one of these records has ${hasOther}: ${range.why}`;
      const detail = first === last ? `it has ${hasOther}` : many;
      this.#find({ kind: "altered", node, boot, first, last, line: null, detail });
    }
  }

  /** The records reach the end of a seal. */
  #compare(state: BootState): void {
    const seal = state.seals[state.next]?.seal;
    if (seal === undefined) return;
    if (state.tree?.root.equals(seal.root) === true) state.verified += hashedIn(seal, state.from);
    else {
      const ranges = state.marks.finish();
      if (ranges.length > 0 || state.tree === null) this.#reportAltered(state, ranges);
      else this.#mismatch(state, seal);
    }
    this.#restart(state);
  }

  /** Nothing differs by the marks, so all that is known is the segment, or what lies before it without a seal. */
  #mismatch(state: BootState, { previous, size, marks }: AuditSeal): void {
    const first = state.from + 1;
    const isBefore = previous.size >= first && marks.bytes.length > 0;
    const range = isBefore
      ? { first, last: previous.size, why: "their own seal was not given" }
      : { first, last: size, why: "the marks of its seal do not show which" };
    this.#reportAltered(state, [{ ...range, each: false }]);
  }

  #find(finding: RecordFinding): void {
    this.#findingCount++;
    if (this.#findings.length < findingsMax) this.#findings.push(finding);
  }
}

/** How many numbers after `from` the seal covers. */
function hashedIn({ size, unhashed }: AuditSeal, from: number): number {
  const without = unhashed.reduce((sum, { first, last }) => sum + Math.max(0, last - Math.max(first - 1, from)), 0);
  return size - from - without;
}

/** By boot, and the first number of a boot first. */
function byNumber(a: RecordFinding, b: RecordFinding): number {
  if (a.node !== b.node) return a.node < b.node ? -1 : 1;
  if (a.boot !== b.boot) return a.boot < b.boot ? -1 : 1;
  return a.first - b.first;
}

function reportOf(state: BootState): BootReport {
  const { node, boot, records, verified, declared, absent, unhashed, seals, at } = state;
  const sealedTo = seals.at(-1)?.seal.size ?? 0;
  const unsealed = at - 1 > sealedTo && records > 0 ? { first: sealedTo + 1, last: at - 1 } : null;
  return { node, boot, records, verified, sealedTo, unsealed, declared, absent, unhashed };
}

function fieldsIn(line: string): Fields | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const record = withoutEnvelope(value);
  if (typeof record !== "object" || record === null) return undefined;
  const { kind, node, boot, seq, first } = record as Readonly<Record<string, unknown>>;
  if (typeof kind !== "string" || typeof node !== "string" || typeof boot !== "string") return undefined;
  if (!isNumber(seq)) return undefined;
  const begin = kind === "gap" ? first : seq;
  if (!isNumber(begin) || begin > seq) return undefined;
  const fields = { kind, node: node as NodeId, boot: boot as BootId, seq, first: begin };
  return record === value ? fields : { ...fields, text: JSON.stringify(record) };
}

/** A record number: at most 2^48, so that counts stay exact. */
function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 1 && value <= treeSizeMax;
}

function keyOf(node: NodeId, boot: BootId): string {
  return JSON.stringify([node, boot]);
}

/**
 * Seal index: the seals of every boot, in order, and where they contradict each other. Pure.
 *
 * Each seal names the size and root of the one before. So a boot with two histories shows, as far as the seals are
 * complete: two roots for one size, or a seal that continues another root.
 */
import type { BootId, NodeId } from "../../events/index.ts";
import { CodedError } from "../../events/index.ts";
import type { AuditSeal, SealedRange } from "../../replication/wire/index.ts";
import type { OpenedEvidence } from "./seal-evidence.ts";

export type BootSeals = Readonly<{ node: NodeId; boot: BootId; seals: readonly OpenedEvidence[] }>;

/** Two seals of one boot that cannot both be true. */
export type SealConflict = Readonly<{ node: NodeId; boot: BootId; size: number; detail: string }>;

export class TooManySealsError extends CodedError<"ERR_AUDIT_TOO_MANY_SEALS"> {
  override readonly code = "ERR_AUDIT_TOO_MANY_SEALS";
  constructor() {
    super(`more than ${sealsMax} seals: check those of fewer boots at a time`);
  }
}

/** About 2 KB each, without marks. */
const sealsMax = 1_000_000;
/** Marks and codes of later seals are left out. */
const marksBytesMax = 1_024 * 1_024 * 1_024;
const none = { leaves: 1, bytes: Buffer.alloc(0) };

export class SealIndex {
  readonly #boots = new Map<string, { node: NodeId; boot: BootId; seals: OpenedEvidence[]; sorted: boolean }>();
  readonly #marksBytesMax: number;
  #count = 0;
  #marksBytes = 0;
  #unmarked = 0;

  constructor(options: Readonly<{ marksBytesMax?: number }> = {}) {
    this.#marksBytesMax = options.marksBytesMax ?? marksBytesMax;
  }

  /** Seals whose marks had no room in memory: an altered record in them is not named, but its segment is. */
  get unmarked(): number {
    return this.#unmarked;
  }
  get count(): number {
    return this.#count;
  }

  /** @throws TooManySealsError */
  add(opened: OpenedEvidence): void {
    if (this.#count >= sealsMax) throw new TooManySealsError();
    const { node, boot } = opened.seal;
    const key = keyOf(node, boot);
    const known = this.#boots.get(key) ?? { node, boot, seals: [], sorted: true };
    this.#boots.set(key, known);
    known.seals.push(this.#boundMarks(opened));
    known.sorted = false;
    this.#count++;
  }

  #boundMarks(opened: OpenedEvidence): OpenedEvidence {
    const { seal } = opened;
    const bytes = seal.marks.bytes.length + (seal.code?.bytes.length ?? 0);
    if (this.#marksBytes + bytes > this.#marksBytesMax) {
      this.#unmarked++;
      return { ...opened, seal: { ...seal, marks: none, code: seal.code && none } };
    }
    this.#marksBytes += bytes;
    return opened;
  }

  boots(): readonly BootSeals[] {
    return [...this.#boots.values()].map(({ node, boot }) => this.of(node, boot));
  }

  /** Each size once; repetitions of a seal are left out. */
  of(node: NodeId, boot: BootId): BootSeals {
    const known = this.#boots.get(keyOf(node, boot));
    if (known === undefined) return { node, boot, seals: [] };
    if (!known.sorted) {
      known.seals.sort((a, b) => a.seal.size - b.seal.size || Number(a.seal.final) - Number(b.seal.final));
      known.sorted = true;
    }
    return known;
  }

  conflicts(): readonly SealConflict[] {
    return this.boots().flatMap(({ node, boot, seals }) =>
      seals.flatMap(({ seal }, at) => {
        const before = seals[at - 1]?.seal;
        const detail = before === undefined ? undefined : conflictOf(before, seal);
        return detail === undefined ? [] : [{ node, boot, size: seal.size, detail }];
      }),
    );
  }
}

function conflictOf(before: AuditSeal, seal: AuditSeal): string | undefined {
  if (before.size === seal.size)
    return before.root.equals(seal.root) ? undefined : `two roots are sealed for the numbers 1 to ${seal.size}`;
  if (before.final) return `a seal ends the boot at ${before.size}, and another has later numbers`;
  if (seal.previous.size > before.size) return undefined; // the seal between them was not given
  const isContinued = seal.previous.size === before.size && seal.previous.root.equals(before.root);
  return isContinued ? undefined : `the seal of 1 to ${seal.size} does not continue the seal of 1 to ${before.size}`;
}

function keyOf(node: NodeId, boot: BootId): string {
  return JSON.stringify([node, boot]);
}

/** @returns whether a number is one that no seal covers, as they say */
export function unhashedNumbersOf(seals: readonly OpenedEvidence[]): (number: number) => boolean {
  const ranges = seals.flatMap(({ seal }) => seal.unhashed);
  return (number) => ranges.some(({ first, last }) => first <= number && number <= last);
}

/** A range in parts: `unhashed`: the seals say that they cover no record of it, although there may be some. */
export function unhashedParts(
  seals: readonly OpenedEvidence[],
  { first, last }: SealedRange,
): readonly (SealedRange & Readonly<{ unhashed: boolean }>)[] {
  const parts: (SealedRange & Readonly<{ unhashed: boolean }>)[] = [];
  let from = first;
  const add = (to: number, unhashed: boolean): void => {
    if (from <= to) parts.push({ first: from, last: to, unhashed });
    from = Math.max(from, to + 1);
  };
  for (const { seal } of seals) {
    if (seal.size < from || seal.previous.size >= last) continue;
    for (const range of seal.unhashed) {
      if (range.last < from || range.first > last) continue;
      add(range.first - 1, false);
      add(Math.min(last, range.last), true);
    }
  }
  add(last, false);
  return parts;
}

/**
 * The parts of a range that the seals do not declare lost. `isCertain`: false if a seal says that it declares more
 * ranges than it lists.
 */
export function presentParts(
  seals: readonly OpenedEvidence[],
  { first, last }: SealedRange,
): Readonly<{ parts: readonly SealedRange[]; isCertain: boolean }> {
  const parts: SealedRange[] = [];
  let isCertain = true;
  let from = first;
  for (const { seal } of seals) {
    if (seal.size < from || seal.previous.size >= last) continue;
    isCertain &&= !seal.lostMore;
    for (const lost of seal.lost) {
      if (lost.last < from || lost.first > last) continue;
      if (lost.first > from) parts.push({ first: from, last: lost.first - 1 });
      from = Math.max(from, lost.last + 1);
    }
  }
  if (from <= last) parts.push({ first: from, last });
  return { parts, isCertain };
}

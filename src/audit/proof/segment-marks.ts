/**
 * Segment marks: finds which records of one segment were altered, by the marks and the code of its seal. Pure.
 *
 * - They name the record; whether the records are those that were sealed, only the root of the seal says.
 * - Up to 30 altered records in a block of the code are named each, also beside up to 60 missing ones (two of them take
 *   the place of one). If there are more, the range of a mark is named, or the block.
 */
import { MerkleTree } from "../../events/index.ts";
import { type AuditSeal, codeBlockBytes, markBytes, type SealedRange } from "../../replication/wire/index.ts";
import { CodeBlock, erasuresMax, locateErrors } from "../seal/index.ts";

/** `each`: every record of the range was altered; otherwise at least one, and `why` says why it is not named. */
export type AlteredRange = SealedRange & (Readonly<{ each: true }> | Readonly<{ each: false; why: string }>);

const tooMany = "too many records near it are altered or missing to name each one";
const olderSeal = "its seal is of an older version, which names no single record of a large segment";
const noCode = "its seal names no single record";
const sameMarks = "its content was chosen so that the code of the seal does not show it";

export class SegmentMarks {
  readonly #seal: AuditSeal | undefined;
  /** The next number. */
  #at: number;
  /** The first number of the present block of marks. */
  #markFrom: number;
  #markBlock = new MerkleTree();
  /** A record of the present block of marks is not there. */
  #isPartial = false;
  #codeFrom: number;
  #codeBlock = new CodeBlock();
  /** Positions in the present block of the code that have no record, as far as they can be used. */
  #erasures: number[] = [];
  #suspects: SealedRange[] = [];
  #altered: number[] = [];
  /** Blocks of the code with more differences than can be named. */
  #unclear: SealedRange[] = [];

  /** @param from the first number that will be given; those of the segment before it are not known */
  constructor(seal: AuditSeal | undefined, from: number) {
    this.#seal = seal;
    this.#at = (seal?.previous.size ?? 0) + 1;
    this.#markFrom = this.#at;
    this.#codeFrom = this.#at;
    if (from > this.#at) this.skip(from - this.#at);
    else this.#at = from;
  }

  append(leaf: Buffer, count: number): void {
    this.#take(count, leaf);
  }

  /** The next numbers have no record here, or one that is no record. */
  skip(count: number): void {
    this.#take(count, null);
  }

  /** What was altered, by number. Nothing may be added afterwards. */
  finish(): readonly AlteredRange[] {
    const { size } = this.#seal ?? { size: 0 };
    if (this.#seal !== undefined && this.#at <= size) this.skip(size - this.#at + 1);
    const within =
      ({ first, last }: SealedRange) =>
      (number: number) =>
        first <= number && number <= last;
    const blocks = this.#suspects.filter((range) => !this.#altered.some(within(range)));
    const others = this.#unclear.filter(
      ({ first, last }) => !blocks.some((range) => first <= range.last && range.first <= last),
    );
    const single = blocks.flatMap(({ first, last }) => (first === last ? [first] : []));
    const named = [...this.#altered, ...single].sort((a, b) => a - b);
    const ranges: AlteredRange[] = runsOf(named).map((range) => ({ ...range, each: true }));
    for (const range of blocks)
      if (range.first < range.last) ranges.push({ ...range, each: false, why: this.#whyUnclear(range) });
    for (const range of others) ranges.push({ ...range, each: false, why: tooMany });
    return ranges.sort((a, b) => a.first - b.first);
  }

  #whyUnclear({ first }: SealedRange): string {
    const { code } = this.#seal ?? { code: null };
    if (code === null) return olderSeal;
    if (code.bytes.length === 0) return noCode;
    return this.#unclear.some((range) => range.first <= first && first <= range.last) ? tooMany : sameMarks;
  }

  /** @param leaf null: not known */
  #take(count: number, leaf: Buffer | null): void {
    const seal = this.#seal;
    if (seal === undefined) return;
    // A seal between this one and the records before was not given.
    const before = Math.max(0, Math.min(count, seal.previous.size + 1 - this.#at));
    this.#at += before;
    let left = Math.min(count - before, seal.size - this.#at + 1);
    while (left > 0) {
      const taken = Math.min(left, this.#markEnd(seal) - this.#at + 1, this.#codeEnd(seal) - this.#at + 1);
      if (leaf === null) this.#erase(taken);
      else {
        this.#markBlock.appendRun(leaf, taken);
        if (seal.code !== null && seal.code.bytes.length > 0)
          this.#codeBlock.add(leaf, { at: this.#at - this.#codeFrom, count: taken });
      }
      this.#at += taken;
      left -= taken;
      if (this.#at > this.#markEnd(seal)) this.#finishMark(seal);
      if (this.#at > this.#codeEnd(seal)) this.#finishCode(seal);
    }
  }

  #markEnd({ size, marks }: AuditSeal): number {
    return marks.bytes.length === 0 ? size : Math.min(size, this.#markFrom + marks.leaves - 1);
  }
  #codeEnd({ size, code }: AuditSeal): number {
    return code === null || code.bytes.length === 0 ? size : Math.min(size, this.#codeFrom + code.leaves - 1);
  }

  #erase(count: number): void {
    this.#isPartial = true;
    for (let n = 0; n < count && this.#erasures.length <= erasuresMax; n++)
      this.#erasures.push(this.#at + n - this.#codeFrom);
  }

  #finishMark({ previous, marks }: AuditSeal): void {
    const at = ((this.#markFrom - 1 - previous.size) / marks.leaves) * markBytes;
    const mark = marks.bytes.subarray(at, at + markBytes);
    const isKnown = marks.bytes.length > 0 && !this.#isPartial;
    if (isKnown && !this.#markBlock.root.subarray(0, markBytes).equals(mark))
      this.#suspects.push({ first: this.#markFrom, last: this.#at - 1 });
    this.#markFrom = this.#at;
    this.#markBlock = new MerkleTree();
    this.#isPartial = false;
  }

  #finishCode({ previous, code }: AuditSeal): void {
    const [first, last] = [this.#codeFrom, this.#at - 1];
    const erasures = this.#erasures;
    const block = this.#codeBlock;
    this.#codeFrom = this.#at;
    this.#codeBlock = new CodeBlock();
    this.#erasures = [];
    if (code === null || code.bytes.length === 0 || erasures.length > erasuresMax) return;
    const at = ((first - 1 - previous.size) / code.leaves) * codeBlockBytes;
    const sealed = CodeBlock.from(code.bytes.subarray(at, at + codeBlockBytes));
    const found = block
      .differences(sealed)
      .map((sums) => locateErrors(sums, { positions: last - first + 1, erasures }));
    if (found.includes(undefined)) this.#unclear.push({ first, last });
    const positions = new Set(found.flatMap((part) => part ?? []));
    this.#altered.push(...[...positions].sort((a, b) => a - b).map((position) => first + position));
  }
}

/** Numbers that follow each other, as ranges. */
function runsOf(numbers: readonly number[]): readonly SealedRange[] {
  const runs: SealedRange[] = [];
  for (const number of numbers) {
    const before = runs.at(-1);
    if (before?.last === number - 1) runs[runs.length - 1] = { first: before.first, last: number };
    else runs.push({ first: number, last: number });
  }
  return runs;
}

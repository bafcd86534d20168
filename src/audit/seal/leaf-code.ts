/**
 * Leaf code: what a seal says of its leaves, so that each altered record can be named (docs/adr/0064). Pure.
 *
 * - Up to `leafMarksMax` leaves have a mark each: the first bytes of the leaf.
 * - More leaves are in blocks of equal size, at most `codeBlocksMax`. Each block has the sums of a Reed-Solomon code
 *   over the marks, from which up to 30 altered records of the block follow. Of too many blocks, each two become one.
 * - A mark is two symbols of 16 bits, with a code each.
 */
import {
  type AuditSeal,
  codeBlockBytes,
  codeBlocksMax,
  codeLeavesMax,
  leafMarksMax,
  markBytes,
} from "../../replication/wire/index.ts";
import { addShifted, addSymbols, syndromeCount } from "./reed-solomon.ts";

/** `leaves`: in each block; 0: there are marks. `bytes`: the marks or sums. `size` -1: there are too many leaves. */
export type LeafCodeForm = Readonly<{ size: number; leaves: number; bytes: string }>;

const streamCount = 2;

export class LeafCode {
  #size = 0;
  #marks: Buffer | null = Buffer.alloc(0);
  #leaves = leafMarksMax / codeBlocksMax;
  #blocks: CodeBlock[] = [];

  append(leaf: Buffer, count: number): void {
    if (this.#size < 0) return;
    if (this.#size + count > codeLeavesMax) {
      this.#drop();
      return;
    }
    if (this.#marks !== null && this.#size + count <= leafMarksMax) this.#mark(this.#marks, leaf, count);
    else {
      if (this.#marks !== null) this.#begin(this.#marks);
      this.#add(leaf, { at: this.#size, count });
    }
    this.#size += count;
  }

  /** The mark of each leaf; undefined: there are too many. */
  marks(): AuditSeal["marks"] | undefined {
    if (this.#size < 0 || this.#marks === null) return undefined;
    return { leaves: 1, bytes: Buffer.from(this.#marks.subarray(0, this.#size * markBytes)) };
  }

  /** Empty if each leaf has a mark, or if there are too many leaves. */
  code(): NonNullable<AuditSeal["code"]> {
    return { leaves: this.#leaves, bytes: Buffer.concat(this.#blocks.map((block) => block.bytes())) };
  }

  form(): LeafCodeForm {
    const marks = this.marks();
    const { leaves, bytes } = marks === undefined ? this.code() : { ...marks, leaves: 0 };
    return { size: this.#size, leaves, bytes: bytes.toString("base64url") };
  }

  /** @param form undefined: an older build wrote the state; nothing is known up to the next seal */
  static from(form: LeafCodeForm | undefined): LeafCode {
    const code = new LeafCode();
    const bytes = Buffer.from(form?.bytes ?? "", "base64url");
    if (form === undefined || form.size < 0) code.#drop();
    else if (form.leaves === 0) {
      code.#size = form.size;
      code.#marks = bytes;
    } else {
      code.#size = form.size;
      code.#marks = null;
      code.#leaves = form.leaves;
      for (let at = 0; at < bytes.length; at += codeBlockBytes)
        code.#blocks.push(CodeBlock.from(bytes.subarray(at, at + codeBlockBytes)));
    }
    return code;
  }

  #drop(): void {
    this.#size = -1;
    this.#marks = null;
    this.#leaves = 1;
    this.#blocks = [];
  }

  #mark(marks: Buffer, leaf: Buffer, count: number): void {
    const needed = (this.#size + count) * markBytes;
    let room = marks;
    if (needed > marks.length) {
      room = Buffer.alloc(Math.min(leafMarksMax * markBytes, Math.max(256, 2 * needed)));
      marks.copy(room);
    }
    for (let n = 0; n < count; n++) leaf.copy(room, (this.#size + n) * markBytes, 0, markBytes);
    this.#marks = room;
  }

  #begin(marks: Buffer): void {
    this.#marks = null;
    for (let at = 0; at < this.#size; at++) this.#add(marks.subarray(at * markBytes), { at, count: 1 });
  }

  #add(leaf: Buffer, { at, count }: Readonly<{ at: number; count: number }>): void {
    for (let from = at; from < at + count; ) {
      if (from === this.#blocks.length * this.#leaves) this.#open();
      const offset = from % this.#leaves;
      const taken = Math.min(at + count - from, this.#leaves - offset);
      this.#blocks.at(-1)?.add(leaf, { at: offset, count: taken });
      from += taken;
    }
  }

  #open(): void {
    if (this.#blocks.length === codeBlocksMax) {
      const by = this.#leaves;
      this.#blocks = Array.from({ length: codeBlocksMax / 2 }, (_, at) => {
        const [left, right] = this.#blocks.slice(2 * at, 2 * at + 2);
        if (left === undefined || right === undefined) throw new Error("a block is missing");
        return left.join(right, by);
      });
      this.#leaves *= 2;
    }
    this.#blocks.push(new CodeBlock());
  }
}

/** The sums of one block of leaves. */
export class CodeBlock {
  readonly sums = new Uint16Array(streamCount * syndromeCount);

  add(leaf: Buffer, { at, count }: Readonly<{ at: number; count: number }>): void {
    for (let stream = 0; stream < streamCount; stream++) {
      const symbol = leaf.readUInt16BE(2 * stream);
      addSymbols(this.sums, { offset: stream * syndromeCount, symbol, at, count });
    }
  }

  /** Appends a block, after `by` leaves of this one. */
  join(next: CodeBlock, by: number): this {
    for (let stream = 0; stream < streamCount; stream++)
      addShifted(this.sums, next.sums, { offset: stream * syndromeCount, by });
    return this;
  }

  bytes(): Buffer {
    return Buffer.from(Uint16Array.from(this.sums).buffer).swap16();
  }

  /** @param bytes `codeBlockBytes` of them */
  static from(bytes: Buffer): CodeBlock {
    const block = new CodeBlock();
    for (const at of block.sums.keys()) block.sums[at] = bytes.readUInt16BE(2 * at);
    return block;
  }

  /** The sums of the differences between two blocks, for each symbol of a mark. */
  differences(other: CodeBlock): readonly Uint16Array[] {
    const all = this.sums.map((sum, at) => sum ^ (other.sums[at] ?? 0));
    return Array.from({ length: streamCount }, (_, stream) =>
      all.subarray(stream * syndromeCount, (stream + 1) * syndromeCount),
    );
  }
}

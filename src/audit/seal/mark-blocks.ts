/**
 * Mark blocks: the roots of equal blocks of leaves since the last seal, at most `marksMax` of them. Pure.
 *
 * A block is a tree of its own. When there are too many blocks, each two become one of twice the size.
 */
import { type HashText, MerkleTree, nodeHash } from "../../events/index.ts";
import { type AuditSeal, markBytes, marksMax } from "../../replication/wire/index.ts";

export type MarkBlocksForm = Readonly<{ leaves: number; blocks: string; open: number; peaks: string }>;

export class MarkBlocks {
  /** In each block. */
  #leaves = 1;
  #blocks: Buffer[] = [];
  /** The last, unfinished block. */
  #open = new MerkleTree();

  append(leaf: HashText): void {
    this.#open.appendText(leaf);
    if (this.#open.size === this.#leaves) this.#finish();
  }

  /** Appends the same leaf many times. */
  appendRun(leaf: Buffer, count: number): void {
    for (let left = count; left > 0; ) {
      const taken = Math.min(left, this.#leaves - this.#open.size);
      this.#open.appendRun(leaf, taken);
      left -= taken;
      if (this.#open.size === this.#leaves) this.#finish();
    }
  }

  marks(): AuditSeal["marks"] {
    const roots = this.#open.size === 0 ? this.#blocks : this.#blocks.concat(this.#open.root);
    return { leaves: this.#leaves, bytes: Buffer.concat(roots.map((root) => root.subarray(0, markBytes))) };
  }

  form(): MarkBlocksForm {
    const text = (hashes: readonly Buffer[]): string => Buffer.concat(hashes).toString("base64url");
    const { size, peaks } = this.#open;
    return { leaves: this.#leaves, blocks: text(this.#blocks), open: size, peaks: text(peaks) };
  }

  static from({ leaves, blocks, open, peaks }: MarkBlocksForm): MarkBlocks {
    const marks = new MarkBlocks();
    marks.#leaves = leaves;
    marks.#blocks = hashesIn(blocks);
    marks.#open = MerkleTree.from({ size: open, peaks: hashesIn(peaks) });
    return marks;
  }

  #finish(): void {
    this.#blocks.push(this.#open.root);
    this.#open.clear();
    if (this.#blocks.length < marksMax) return;
    this.#blocks = Array.from({ length: marksMax / 2 }, (_, at) => {
      const [left, right] = this.#blocks.slice(2 * at, 2 * at + 2);
      if (left === undefined || right === undefined) throw new Error("a block is missing");
      return nodeHash(left, right);
    });
    this.#leaves *= 2;
  }
}

/** The hashes in a text of base64url. */
export function hashesIn(text: string): Buffer[] {
  const bytes = Buffer.from(text, "base64url");
  return Array.from({ length: Math.floor(bytes.length / 32) }, (_, at) => bytes.subarray(32 * at, 32 * at + 32));
}

/**
 * Mark blocks: the roots of equal blocks of leaves since the last seal, at most `marksMax` of them. Pure.
 *
 * A block is a tree of its own. When there are too many blocks, each two become one of twice the size.
 */
import { type HashText, MerkleTree, nodeHashText } from "../../events/index.ts";
import { type AuditSeal, markBytes, marksMax } from "../../replication/wire/index.ts";

export type MarkBlocksForm = Readonly<{ leaves: number; blocks: string; open: number; peaks: string }>;

export class MarkBlocks {
  /** In each block. */
  #leaves = 1;
  #blocks: HashText[] = [];
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
    const open = this.#open.size === 0 ? [] : [this.#open.root.toString("latin1")];
    const marks = [...this.#blocks, ...open].map((root) => root.slice(0, markBytes));
    return { leaves: this.#leaves, bytes: Buffer.from(marks.join(""), "latin1") };
  }

  form(): MarkBlocksForm {
    const text = (hashes: readonly Buffer[]): string => Buffer.concat(hashes).toString("base64url");
    const { size, peaks } = this.#open;
    const blocks = Buffer.from(this.#blocks.join(""), "latin1").toString("base64url");
    return { leaves: this.#leaves, blocks, open: size, peaks: text(peaks) };
  }

  static from({ leaves, blocks, open, peaks }: MarkBlocksForm): MarkBlocks {
    const marks = new MarkBlocks();
    marks.#leaves = leaves;
    marks.#blocks = hashesIn(blocks).map((hash) => hash.toString("latin1"));
    marks.#open = MerkleTree.from({ size: open, peaks: hashesIn(peaks) });
    return marks;
  }

  #finish(): void {
    this.#blocks.push(this.#open.perfectRoot);
    this.#open.clear();
    if (this.#blocks.length < marksMax) return;
    this.#blocks = Array.from({ length: marksMax / 2 }, (_, at) => {
      const [left, right] = this.#blocks.slice(2 * at, 2 * at + 2);
      if (left === undefined || right === undefined) throw new Error("a block is missing");
      return nodeHashText(left, right);
    });
    this.#leaves *= 2;
  }
}

/** The hashes in a text of base64url. */
export function hashesIn(text: string): Buffer[] {
  const bytes = Buffer.from(text, "base64url");
  return Array.from({ length: Math.floor(bytes.length / 32) }, (_, at) => bytes.subarray(32 * at, 32 * at + 32));
}

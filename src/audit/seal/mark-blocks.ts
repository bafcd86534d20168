/**
 * Mark blocks: the roots of equal blocks of leaves since the last seal, at most `marksMax` of them. Pure.
 *
 * - A block is a tree of its own. When there are too many blocks, each two become one of twice the size.
 * - Where the segment begins at a multiple of the length of a block, its blocks are subtrees of the tree of the boot,
 *   and no node is hashed twice.
 */
import { type HashText, MerkleTree, nodeHashText, rootOfPeaks } from "../../events/index.ts";
import { type AuditSeal, markBytes, marksMax } from "../../replication/wire/index.ts";

export type MarkBlocksForm = Readonly<{ leaves: number; blocks: string; open: number; peaks: string }>;

export class MarkBlocks {
  /** The tree of the boot, and its size where the segment begins. */
  readonly #tree: MerkleTree;
  readonly #start: number;
  /** In each block: `2^level` leaves. */
  #leaves = 1;
  #level = 0;
  #blocks: HashText[] = [];
  /** The last, unfinished block; null: it is a part of the tree of the boot. */
  #open: MerkleTree | null = null;
  /** Leaves of the unfinished block. */
  #count = 0;

  constructor(tree: MerkleTree, start: number) {
    this.#tree = tree;
    this.#start = start;
  }

  /** How many leaves the unfinished block has room for. */
  get room(): number {
    return this.#leaves - this.#count;
  }

  /** Called after the tree of the boot has the leaf. */
  append(leaf: HashText): void {
    this.#open?.appendText(leaf);
    this.#count++;
    if (this.#count === this.#leaves) this.#finish();
  }

  /** The same leaf many times: as many as there is room for. */
  appendRun(leaf: Buffer, count: number): void {
    this.#open?.appendRun(leaf, count);
    this.#count += count;
    if (this.#count === this.#leaves) this.#finish();
  }

  marks(): AuditSeal["marks"] {
    const open = this.#count === 0 ? [] : [rootOfPeaks(this.#openPeaks()).toString("latin1")];
    const marks = [...this.#blocks, ...open].map((root) => root.slice(0, markBytes));
    return { leaves: this.#leaves, bytes: Buffer.from(marks.join(""), "latin1") };
  }

  form(): MarkBlocksForm {
    const blocks = Buffer.from(this.#blocks.join(""), "latin1").toString("base64url");
    const peaks = Buffer.concat(this.#openPeaks()).toString("base64url");
    return { leaves: this.#leaves, blocks, open: this.#count, peaks };
  }

  /** @param of.tree with every leaf that the form covers */
  static from(
    { leaves, blocks, open, peaks }: MarkBlocksForm,
    { tree, start }: Readonly<{ tree: MerkleTree; start: number }>,
  ): MarkBlocks {
    const marks = new MarkBlocks(tree, start);
    marks.#leaves = leaves;
    marks.#level = Math.log2(leaves);
    marks.#blocks = hashesIn(blocks).map((hash) => hash.toString("latin1"));
    marks.#count = open;
    if (!marks.#isAligned) marks.#open = MerkleTree.from({ size: open, peaks: hashesIn(peaks) });
    return marks;
  }

  get #isAligned(): boolean {
    return this.#start % this.#leaves === 0;
  }

  #openPeaks(): readonly Buffer[] {
    return this.#open === null ? this.#tree.peaksBelow(this.#level) : this.#open.peaks;
  }

  #finish(): void {
    this.#blocks.push(this.#open === null ? this.#tree.completedRoot(this.#level) : this.#open.perfectRoot);
    this.#open?.clear();
    this.#count = 0;
    if (this.#blocks.length < marksMax) return;
    this.#blocks = Array.from({ length: marksMax / 2 }, (_, at) => {
      const [left, right] = this.#blocks.slice(2 * at, 2 * at + 2);
      if (left === undefined || right === undefined) throw new Error("a block is missing");
      return nodeHashText(left, right);
    });
    this.#leaves *= 2;
    this.#level++;
    if (!this.#isAligned) this.#open ??= new MerkleTree();
  }
}

/** The hashes in a text of base64url. */
export function hashesIn(text: string): Buffer[] {
  const bytes = Buffer.from(text, "base64url");
  return Array.from({ length: Math.floor(bytes.length / 32) }, (_, at) => bytes.subarray(32 * at, 32 * at + 32));
}

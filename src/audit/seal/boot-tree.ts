/**
 * Boot tree: the hash tree over the records of one boot as far as they were read, and what its next seal says. Pure.
 */
import { type BootId, emptyRoot, type HashText, MerkleTree, type NodeId } from "../../events/index.ts";
import { type AuditSeal, lostRangesMax, markBytes, type SealedRange } from "../../replication/wire/index.ts";
import { LeafCode, type LeafCodeForm } from "./leaf-code.ts";
import { hashesIn, MarkBlocks, type MarkBlocksForm } from "./mark-blocks.ts";
import { lostLeaf } from "./record-leaf.ts";
import { SealedHeads, type SealedHeadsForm, type TreeHead } from "./sealed-heads.ts";

/**
 * `reading`: its records are hashed. `forked`: the log has another root for the same numbers. `stopped`: nothing more
 * of it is sealed, because of a fork that was reported, or because its first records were gone.
 */
export type BootTreeState = "reading" | "forked" | "stopped";

export type BootTreeForm = SealedHeadsForm &
  Readonly<{
    boot: string;
    state: BootTreeState;
    ended: boolean;
    size: number;
    peaks: string;
    made: Readonly<{ size: number; root: string }>;
    expected: Readonly<{ size: number; root: string }> | null;
    lost: readonly SealedRange[];
    lostMore: boolean;
    /** Absent: an older build wrote it. */
    unhashed?: readonly SealedRange[];
    marks: MarkBlocksForm;
    /** Absent: an older build wrote it. */
    code?: LeafCodeForm;
  }>;

export const emptyHead: TreeHead = { size: 0, root: emptyRoot };

export class BootTree {
  readonly boot: BootId;
  state: BootTreeState = "reading";
  /** The newest seal that was made; it may not be in the log yet. */
  made: TreeHead = emptyHead;
  /** The newest seal that was made says that the boot has ended. */
  ended = false;
  /** The log has a seal that this tree has not reached yet; null: none. No seal is made before. */
  expected: TreeHead | null = null;
  #tree = new MerkleTree();
  /** A log that has lost more seals of the boot than these ends its sealing. */
  #heads = new SealedHeads();
  #lost: SealedRange[] = [];
  #lostMore = false;
  /** Of the whole boot. */
  #unhashed: SealedRange[] = [];
  #marks = new MarkBlocks(this.#tree, 0);
  #code = new LeafCode();
  /** The beginning of the newest leaf. */
  readonly #mark = Buffer.alloc(markBytes);

  constructor(boot: BootId) {
    this.boot = boot;
  }

  get size(): number {
    return this.#tree.size;
  }
  /** Whether this tree had this root at this size, as far as it remembers. */
  had(head: TreeHead): boolean {
    return head.size === 0 || this.#heads.has(head);
  }
  /** Numbers that no seal covers yet. */
  get unsealed(): number {
    return this.state === "reading" && this.expected === null ? this.#tree.size - this.made.size : 0;
  }

  append(leaf: Buffer): void {
    this.appendText(leaf.toString("latin1"));
  }

  appendText(leaf: HashText): void {
    this.#tree.appendText(leaf);
    this.#marks.append(leaf);
    this.#mark.write(leaf, 0, markBytes, "latin1");
    this.#code.append(this.#mark, 1);
    if (this.expected !== null) this.#reach();
  }

  /** Numbers without a record, up to this one. */
  appendLost(last: number): void {
    const first = this.#tree.size + 1;
    if (last < first) return;
    const stop = this.expected?.size ?? last;
    if (first <= stop && stop < last) {
      this.appendLost(stop);
      this.appendLost(last);
      return;
    }
    if (!addRange(this.#lost, { first, last })) this.#lostMore = true;
    this.#addLost(last - first + 1);
  }

  /** Numbers up to this one whose records were given up before they could be hashed. @returns how many they are */
  appendUnhashed(last: number): number {
    const first = this.#tree.size + 1;
    if (last < first) return 0;
    const stop = this.expected?.size ?? last;
    if (first <= stop && stop < last) return this.appendUnhashed(stop) + this.appendUnhashed(last);
    if (!addRange(this.#unhashed, { first, last })) this.state = "stopped"; // a seal could not say which
    this.#addLost(last - first + 1);
    return last - first + 1;
  }

  /** Numbers after this size that were given up before they could be hashed. */
  unhashedAfter(size: number): readonly SealedRange[] {
    return this.#unhashed.flatMap(({ first, last }) =>
      last > size ? [{ first: Math.max(first, size + 1), last }] : [],
    );
  }

  /** The log has a newer seal, up to a number that this tree has not passed: what follows is checked against it. */
  expect(head: TreeHead): void {
    this.expected = head;
    this.#reach();
  }

  /** Whether a seal would say something new. @param final the boot has ended */
  hasNews({ final }: Readonly<{ final: boolean }>): boolean {
    const isOpen = this.state === "reading" && this.expected === null && !this.ended;
    return isOpen && (this.unsealed > 0 || (final && this.made.size > 0));
  }

  /** What a seal of everything up to here says; the next one continues it. @param of.coded in version 2 */
  seal(node: NodeId, of: Readonly<{ atMs: number; final: boolean; coded: boolean }>): AuditSeal {
    const { atMs, final, coded } = of;
    const unhashed = this.unhashedAfter(this.made.size);
    const { size, root, peaks } = this.#tree;
    const seal: AuditSeal = {
      node,
      boot: this.boot,
      previous: this.made,
      size,
      root,
      peaks,
      final,
      atMs,
      lost: coded ? this.#lost : inOrder(this.#lost, unhashed).slice(0, lostRangesMax),
      lostMore: this.#lostMore || (!coded && this.#lost.length + unhashed.length > lostRangesMax),
      unhashed: coded ? unhashed : [],
      marks: (coded ? this.#code.marks() : undefined) ?? this.#marks.marks(),
      code: coded ? this.#code.code() : null,
    };
    this.#begin({ size, root });
    this.#heads.add({ size, root });
    this.ended = final;
    return seal;
  }

  form(): BootTreeForm {
    const { boot, state, ended, made, expected } = this;
    return {
      boot,
      state,
      ended,
      size: this.#tree.size,
      peaks: Buffer.concat(this.#tree.peaks).toString("base64url"),
      made: formOf(made),
      expected: expected === null ? null : formOf(expected),
      ...this.#heads.form(),
      lost: this.#lost,
      lostMore: this.#lostMore,
      unhashed: this.#unhashed,
      marks: this.#marks.form(),
      code: this.#code.form(),
    };
  }

  static from(form: BootTreeForm): BootTree {
    const tree = new BootTree(form.boot as BootId);
    tree.state = form.state;
    tree.ended = form.ended;
    tree.made = headIn(form.made);
    tree.expected = form.expected === null ? null : headIn(form.expected);
    tree.#tree = MerkleTree.from({ size: form.size, peaks: hashesIn(form.peaks) });
    tree.#heads = SealedHeads.from(form);
    tree.#lost = [...form.lost];
    tree.#lostMore = form.lostMore;
    tree.#unhashed = [...(form.unhashed ?? [])];
    tree.#marks = MarkBlocks.from(form.marks, { tree: tree.#tree, start: tree.made.size });
    tree.#code = LeafCode.from(form.code);
    return tree;
  }

  #addLost(count: number): void {
    for (let left = count; left > 0; ) {
      const taken = Math.min(left, this.#marks.room);
      this.#tree.appendRun(lostLeaf, taken);
      this.#marks.appendRun(lostLeaf, taken);
      left -= taken;
    }
    this.#code.append(lostLeaf, count);
    if (this.expected !== null) this.#reach();
  }

  #reach(): void {
    const { expected } = this;
    if (expected === null || this.#tree.size < expected.size) return;
    if (this.#tree.size > expected.size || !this.#tree.root.equals(expected.root)) this.state = "forked";
    this.expected = null;
    this.#begin(expected);
  }

  #begin(made: TreeHead): void {
    this.made = made;
    this.#lost = [];
    this.#lostMore = false;
    this.#marks = new MarkBlocks(this.#tree, made.size);
    this.#code = new LeafCode();
  }
}

/** @returns false if there is no room for it */
function addRange(ranges: SealedRange[], { first, last }: SealedRange): boolean {
  const before = ranges.at(-1);
  if (before !== undefined && before.last === first - 1) ranges[ranges.length - 1] = { first: before.first, last };
  else if (ranges.length < lostRangesMax) ranges.push({ first, last });
  else return false;
  return true;
}

function inOrder(a: readonly SealedRange[], b: readonly SealedRange[]): readonly SealedRange[] {
  return [...a, ...b].sort((one, other) => one.first - other.first);
}

function formOf({ size, root }: TreeHead): Readonly<{ size: number; root: string }> {
  return { size, root: root.toString("base64url") };
}
function headIn({ size, root }: Readonly<{ size: number; root: string }>): TreeHead {
  return { size, root: Buffer.from(root, "base64url") };
}

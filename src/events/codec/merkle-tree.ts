/**
 * Merkle tree: the hash tree of RFC 9162 §2.1 over SHA-256, as one that grows. Pure.
 *
 * - A tree is known by its size and its *peaks*: the roots of the perfect subtrees that it consists of, largest first.
 *   They are one hash for each bit of the size that is set, and follow from nothing but the leaves.
 * - A proof needs no stored tree: `InclusionBuilder` and `ConsistencyBuilder` take the leaves that follow known peaks.
 * - Verifiers check bounds before they hash: a hostile proof costs at most one hash per level.
 */
import { hash as digestOf } from "node:crypto";

export const treeHashBytes = 32;
/** Sizes are at most 2^48 - 1, the largest number of a record. */
export const treeSizeMax = 2 ** 48 - 1;
const pathLengthMax = 48;

/** The root of a tree without leaves. */
export const emptyRoot: Buffer = digestOf("sha256", "", "buffer");

const leafPrefix = Buffer.from([0x00]);
const nodeScratch = Buffer.alloc(1 + 2 * treeHashBytes, 0x01);

export function leafHash(data: Uint8Array): Buffer {
  return digestOf("sha256", Buffer.concat([leafPrefix, data]), "buffer");
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  nodeScratch.set(left, 1);
  nodeScratch.set(right, 1 + treeHashBytes);
  return digestOf("sha256", nodeScratch, "buffer");
}

/** @returns how many peaks a tree of this size has */
export function peakCount(size: number): number {
  let count = 0;
  for (let left = size; left > 0; left = Math.floor(left / 2)) count += left % 2;
  return count;
}

export function rootOfPeaks(peaks: readonly Uint8Array[]): Buffer {
  const last = peaks.at(-1);
  if (last === undefined) return emptyRoot;
  return peaks.slice(0, -1).reduceRight<Buffer>((right, left) => nodeHash(left, right), Buffer.from(last));
}

/**
 * A hash as text of one character per byte. `node:crypto` returns it four times as fast as a `Buffer`, which is memory
 * outside the collector's heap.
 */
export type HashText = string;

export function hashTextOf(bytes: Uint8Array): HashText {
  return digestOf("sha256", bytes, "latin1");
}

export function nodeHashText(left: HashText, right: HashText): HashText {
  nodeScratch.write(left, 1, "latin1");
  nodeScratch.write(right, 1 + treeHashBytes, "latin1");
  return hashTextOf(nodeScratch);
}

export class MerkleTree {
  /**
   * For each level the content of an inner node: the prefix, the peak of that level if the size has that bit, and room
   * for its right sibling.
   */
  readonly #nodes: Buffer[] = [];
  #size = 0;

  /** @param peaks those of a tree of this size, largest first */
  static from({ size, peaks }: Readonly<{ size: number; peaks: readonly Uint8Array[] }>): MerkleTree {
    const tree = new MerkleTree();
    tree.#size = size;
    let at = 0;
    for (let level = pathLengthMax; level >= 0; level--)
      if (Math.floor(size / 2 ** level) % 2 === 1) tree.#nodeAt(level).set(peaks[at++] ?? emptyRoot, 1);
    return tree;
  }

  get size(): number {
    return this.#size;
  }
  get peaks(): readonly Buffer[] {
    const peaks: Buffer[] = [];
    for (let level = this.#nodes.length - 1; level >= 0; level--) {
      if (Math.floor(this.#size / 2 ** level) % 2 === 1)
        peaks.push(Buffer.from(this.#nodeAt(level).subarray(1, 1 + treeHashBytes)));
    }
    return peaks;
  }
  get root(): Buffer {
    return rootOfPeaks(this.peaks);
  }

  /** The root of a tree whose size is a power of two. */
  get perfectRoot(): HashText {
    return this.#nodeAt(Math.log2(this.#size)).toString("latin1", 1, 1 + treeHashBytes);
  }

  append(leaf: Buffer): void {
    this.appendText(leaf.toString("latin1"));
  }

  appendText(leaf: HashText): void {
    this.#push(0, leaf);
  }

  /** Appends the same leaf many times, in time logarithmic in the number. */
  appendRun(leaf: Buffer, count: number): void {
    const subtrees = [leaf];
    for (let left = count; left > 0; ) {
      let level = 0;
      while (2 ** (level + 1) <= left && this.#size % 2 ** (level + 1) === 0) level++;
      for (let known = subtrees.length; known <= level; known++) {
        const half = subtrees[known - 1] ?? leaf;
        subtrees.push(nodeHash(half, half));
      }
      this.#push(level, (subtrees[level] ?? leaf).toString("latin1"));
      left -= 2 ** level;
    }
  }

  /** The root of the subtree of this level that the newest leaf has completed. Its size is a multiple of `2^level`. */
  completedRoot(level: number): HashText {
    const isPeak = Math.floor(this.#size / 2 ** level) % 2 === 1;
    const from = isPeak ? 1 : 1 + treeHashBytes; // else it was the right sibling
    return this.#nodeAt(level).toString("latin1", from, from + treeHashBytes);
  }

  /** The peaks of the leaves behind the newest subtree of this level, largest first. */
  peaksBelow(level: number): readonly Buffer[] {
    return this.peaks.slice(peakCount(Math.floor(this.#size / 2 ** level)));
  }

  /** Begins a tree without leaves, in the same memory. */
  clear(): void {
    this.#size = 0;
  }

  #push(from: number, hash: HashText): void {
    const width = 2 ** from;
    let level = from;
    let text = hash;
    for (let left = Math.floor(this.#size / width); left % 2 === 1; left = (left - 1) / 2) {
      const node = this.#nodeAt(level++);
      node.write(text, 1 + treeHashBytes, "latin1");
      text = hashTextOf(node);
    }
    this.#nodeAt(level).write(text, 1, "latin1");
    this.#size += width;
  }

  #nodeAt(level: number): Buffer {
    const known = this.#nodes[level];
    if (known !== undefined) return known;
    const node = Buffer.alloc(1 + 2 * treeHashBytes, 0x01);
    this.#nodes[level] = node;
    return node;
  }
}

/** A subtree of a proof: the leaves from `from` to below `to`. */
type Range = Readonly<{ from: number; to: number }>;

/** The largest power of two that is smaller than this number of at least 2. */
function splitOf(count: number): number {
  let split = 1;
  while (split * 2 < count) split *= 2;
  return split;
}

/** The siblings on the way from a leaf to the root, in that order. */
function inclusionRanges(index: number, size: number): readonly Range[] {
  const ranges: Range[] = [];
  for (let from = 0, to = size; to - from > 1; ) {
    const middle = from + splitOf(to - from);
    if (index < middle) {
      ranges.push({ from: middle, to });
      to = middle;
    } else {
      ranges.push({ from, to: middle });
      from = middle;
    }
  }
  return ranges.reverse();
}

/** The subtrees of a consistency proof (RFC 9162 §2.1.4.1), in its order. */
function consistencyRanges(size: number, later: number): readonly Range[] {
  const ranges: Range[] = [];
  let [from, to, isOld] = [0, later, true];
  while (size < to) {
    const middle = from + splitOf(to - from);
    if (size <= middle) {
      ranges.push({ from: middle, to });
      to = middle;
    } else {
      ranges.push({ from, to: middle });
      from = middle;
      isOld = false;
    }
  }
  if (!isOld) ranges.push({ from, to });
  return ranges.reverse();
}

/** Fills the subtrees of a proof from known peaks and the leaves that follow them. */
class RangeFiller {
  readonly #ranges: readonly Range[];
  readonly #trees = new Map<Range, MerkleTree>();
  readonly #before: MerkleTree;
  readonly #known = new Map<number, Buffer>();
  readonly #pivot: number;
  #at: number;

  /** @param pivot subtrees that end at or before this leaf are peaks of the tree of that size */
  constructor(
    ranges: readonly Range[],
    { start, pivot }: Readonly<{ start: Readonly<{ size: number; peaks: readonly Uint8Array[] }>; pivot: number }>,
  ) {
    this.#ranges = ranges;
    this.#before = MerkleTree.from(start);
    this.#pivot = pivot;
    this.#at = start.size;
    for (const range of ranges) if (range.from >= pivot) this.#trees.set(range, new MerkleTree());
    if (this.#at === pivot) this.#keepPeaks();
  }

  get at(): number {
    return this.#at;
  }

  append(leaf: Buffer, count: number): void {
    for (let left = count; left > 0; ) {
      const range = this.#ranges.find(({ from, to }) => from <= this.#at && this.#at < to);
      const isBefore = this.#at < this.#pivot;
      const end = isBefore ? this.#pivot : (range?.to ?? this.#at + 1);
      const taken = Math.min(left, end - this.#at);
      const tree = isBefore ? this.#before : range === undefined ? undefined : this.#trees.get(range);
      tree?.appendRun(leaf, taken);
      this.#at += taken;
      left -= taken;
      if (this.#at === this.#pivot) this.#keepPeaks();
    }
  }

  hashes(): readonly Buffer[] {
    return this.#ranges.map((range) => this.#trees.get(range)?.root ?? this.#known.get(range.from) ?? emptyRoot);
  }

  #keepPeaks(): void {
    let from = 0;
    const { size, peaks } = this.#before;
    let at = 0;
    for (let level = pathLengthMax; level >= 0; level--) {
      if (Math.floor(size / 2 ** level) % 2 === 0) continue;
      this.#known.set(from, peaks[at++] ?? emptyRoot);
      from += 2 ** level;
    }
  }
}

type Start = Readonly<{ size: number; peaks: readonly Uint8Array[] }>;

/** Builds the proof that a leaf is in a tree, from a start before the leaf and all leaves that follow it. */
export class InclusionBuilder {
  readonly #filler: RangeFiller;
  readonly #index: number;
  leaf: Buffer | undefined;

  constructor({ index, size, start }: Readonly<{ index: number; size: number; start: Start }>) {
    this.#index = index;
    this.#filler = new RangeFiller(inclusionRanges(index, size), { start, pivot: index });
  }

  append(leaf: Buffer, count = 1): void {
    const { at } = this.#filler;
    if (at <= this.#index && this.#index < at + count) this.leaf = leaf;
    this.#filler.append(leaf, count);
  }

  path(): readonly Buffer[] {
    return this.#filler.hashes();
  }
}

/** Builds the proof that a tree is a prefix of a later one, from its peaks and the leaves that follow. */
export class ConsistencyBuilder {
  readonly #filler: RangeFiller;

  constructor({ start, size }: Readonly<{ start: Start; size: number }>) {
    const ranges = start.size === 0 ? [] : consistencyRanges(start.size, size);
    this.#filler = new RangeFiller(ranges, { start, pivot: start.size });
  }

  append(leaf: Buffer, count = 1): void {
    this.#filler.append(leaf, count);
  }

  proof(): readonly Buffer[] {
    return this.#filler.hashes();
  }
}

function areHashes(hashes: readonly Uint8Array[]): boolean {
  return hashes.length <= pathLengthMax && hashes.every(({ length }) => length === treeHashBytes);
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= treeSizeMax;
}

/** RFC 9162 §2.1.3.2. @returns whether the path leads from the leaf to the root */
export function verifyInclusion(
  of: Readonly<{
    leaf: Uint8Array;
    index: number;
    size: number;
    path: readonly Uint8Array[];
    root: Uint8Array;
  }>,
): boolean {
  const { index, size, path } = of;
  if (!isSize(index) || !isSize(size) || index >= size) return false;
  if (!areHashes(path) || !areHashes([of.leaf, of.root])) return false;
  let [fn, sn] = [index, size - 1];
  let hash: Buffer = Buffer.from(of.leaf);
  for (const sibling of path) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(sibling, hash);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else hash = nodeHash(hash, sibling);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && hash.equals(of.root);
}

/** RFC 9162 §2.1.4.2, and for an empty first tree and equal trees, which have an empty proof. */
export function verifyConsistency(
  of: Readonly<{
    size: number;
    root: Uint8Array;
    later: Readonly<{ size: number; root: Uint8Array }>;
    proof: readonly Uint8Array[];
  }>,
): boolean {
  const { size, root, later, proof } = of;
  if (!isSize(size) || !isSize(later.size) || size > later.size) return false;
  if (!areHashes(proof) || !areHashes([root, later.root])) return false;
  if (size === later.size) return proof.length === 0 && Buffer.compare(root, later.root) === 0;
  if (size === 0) return proof.length === 0 && Buffer.compare(root, emptyRoot) === 0;
  const [first, ...rest] = peakCount(size) === 1 ? [root, ...proof] : proof;
  if (first === undefined) return false;
  let [fn, sn] = [size - 1, later.size - 1];
  while (fn % 2 === 1) [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  let [fr, sr]: [Buffer, Buffer] = [Buffer.from(first), Buffer.from(first)];
  for (const hash of rest) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      [fr, sr] = [nodeHash(hash, fr), nodeHash(hash, sr)];
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else sr = nodeHash(sr, hash);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && fr.equals(root) && sr.equals(later.root);
}

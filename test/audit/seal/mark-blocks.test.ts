/** The marks of a seal: roots of equal blocks of leaves, whether they are nodes of the boot's tree or not. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { randomFrom } from "../../../chaos/random.ts";
import { MarkBlocks } from "../../../src/audit/seal/mark-blocks.ts";
import { lostLeaf } from "../../../src/audit/seal/record-leaf.ts";
import { MerkleTree } from "../../../src/events/index.ts";
import { markBytes } from "../../../src/replication/wire/index.ts";

/** The marks of leaves, block by block, each as a tree of its own. */
function marksOf(leaves: readonly Buffer[], inBlock: number): Buffer {
  const marks: Buffer[] = [];
  for (let from = 0; from < leaves.length; from += inBlock) {
    const tree = new MerkleTree();
    for (const leaf of leaves.slice(from, from + inBlock)) tree.append(leaf);
    marks.push(tree.root.subarray(0, markBytes));
  }
  return Buffer.concat(marks);
}

test("marks are the roots of blocks, wherever the segment begins, over restarts and lost records", () => {
  for (const [seed, begin] of [0, 512, 1_024, 3_000, 1, 7, 4, 96].entries()) {
    const random = randomFrom(seed + 1);
    let tree = new MerkleTree();
    for (let n = 0; n < begin; n++) tree.append(randomBytes(32));
    let blocks = new MarkBlocks(tree, begin);
    const leaves: Buffer[] = [];
    for (let step = 0; step < 400; step++) {
      const run = random.next() < 0.1 ? random.between(1, 40) : 0;
      for (let left = run; left > 0; ) {
        const taken = Math.min(left, blocks.room);
        tree.appendRun(lostLeaf, taken);
        blocks.appendRun(lostLeaf, taken);
        left -= taken;
      }
      leaves.push(...Array.from({ length: run }, () => lostLeaf));
      for (let left = random.between(0, 6); left > 0; left--) {
        const leaf = randomBytes(32);
        tree.append(leaf);
        blocks.append(leaf.toString("latin1"));
        leaves.push(leaf);
      }
      if (step % 7 === 0 || step > 395) {
        const marks = blocks.marks();
        assert.deepEqual(
          Buffer.from(marks.bytes),
          marksOf(leaves, marks.leaves),
          `from ${begin}, ${leaves.length} leaves`,
        );
      }
      if (random.next() < 0.1) {
        const form = JSON.parse(JSON.stringify(blocks.form()));
        tree = MerkleTree.from({ size: tree.size, peaks: tree.peaks });
        blocks = MarkBlocks.from(form, { tree, start: begin });
      }
    }
  }
});

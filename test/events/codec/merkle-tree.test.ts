/** The hash tree of audit records, against the published vectors of RFC 6962 and a naive implementation. */
import assert from "node:assert/strict";
import { hash as digestOf } from "node:crypto";
import { describe, test } from "node:test";
import {
  ConsistencyBuilder,
  emptyRoot,
  InclusionBuilder,
  leafHash,
  MerkleTree,
  nodeHash,
  peakCount,
  rootOfPeaks,
  treeSizeMax,
  verifyConsistency,
  verifyInclusion,
} from "../../../src/events/codec/merkle-tree.ts";

const hex = (text: string): Buffer => Buffer.from(text, "hex");

/** The reference leaves and roots of Certificate Transparency (RFC 6962), for trees of 1 to 8 leaves. */
const leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"].map(
  hex,
);
const roots = [
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
/** Published inclusion paths: of the leaf at `index` in the tree of `size`. */
const paths = [
  { index: 0, size: 1, path: [] },
  {
    index: 0,
    size: 8,
    path: [
      "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
      "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
      "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
  },
  {
    index: 5,
    size: 8,
    path: [
      "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
      "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
  },
  { index: 2, size: 3, path: ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"] },
  {
    index: 1,
    size: 5,
    path: [
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
      "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
  },
];
/** Published consistency proofs. */
const consistencies = [
  { size: 1, later: 1, proof: [] },
  {
    size: 1,
    later: 8,
    proof: [
      "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
      "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
      "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
  },
  {
    size: 6,
    later: 8,
    proof: [
      "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
      "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
  },
  {
    size: 2,
    later: 5,
    proof: [
      "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
      "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
  },
];

// --- the definitions of RFC 9162 §2.1, word for word

function naiveRoot(list: readonly Buffer[]): Buffer {
  const [only] = list;
  if (only === undefined) return digestOf("sha256", "", "buffer");
  if (list.length === 1) return only;
  const k = splitOf(list.length);
  return nodeHash(naiveRoot(list.slice(0, k)), naiveRoot(list.slice(k)));
}

function naivePath(m: number, list: readonly Buffer[]): readonly Buffer[] {
  if (list.length <= 1) return [];
  const k = splitOf(list.length);
  return m < k
    ? [...naivePath(m, list.slice(0, k)), naiveRoot(list.slice(k))]
    : [...naivePath(m - k, list.slice(k)), naiveRoot(list.slice(0, k))];
}

function naiveProof(m: number, list: readonly Buffer[], { known }: Readonly<{ known: boolean }>): readonly Buffer[] {
  if (m === list.length) return known ? [] : [naiveRoot(list)];
  const k = splitOf(list.length);
  return m <= k
    ? [...naiveProof(m, list.slice(0, k), { known }), naiveRoot(list.slice(k))]
    : [...naiveProof(m - k, list.slice(k), { known: false }), naiveRoot(list.slice(0, k))];
}

function splitOf(count: number): number {
  let k = 1;
  while (k * 2 < count) k *= 2;
  return k;
}

const hashesOf = (count: number): readonly Buffer[] =>
  Array.from({ length: count }, (_, at) => leafHash(Buffer.from(`record ${at}`)));
const treeOf = (list: readonly Buffer[]): MerkleTree => {
  const tree = new MerkleTree();
  for (const leaf of list) tree.append(leaf);
  return tree;
};
const start = (list: readonly Buffer[], size: number) => ({ size, peaks: treeOf(list.slice(0, size)).peaks });
const texts = (hashes: readonly Buffer[]): readonly string[] => hashes.map((hash) => hash.toString("hex"));

describe("published vectors", () => {
  const list = leaves.map(leafHash);

  test("the roots of trees of 0 to 8 leaves", () => {
    assert.equal(
      new MerkleTree().root.toString("hex"),
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    );
    for (const [at, root] of roots.entries())
      assert.equal(treeOf(list.slice(0, at + 1)).root.toString("hex"), root, `${at + 1} leaves`);
  });

  test("inclusion paths are built and verified", () => {
    for (const { index, size, path } of paths) {
      const builder = new InclusionBuilder({ index, size, start: start(list, 0) });
      for (const leaf of list.slice(0, size)) builder.append(leaf);
      assert.deepEqual(texts(builder.path()), path, `leaf ${index} of ${size}`);
      const leaf = list[index] ?? emptyRoot;
      assert.ok(verifyInclusion({ leaf, index, size, path: path.map(hex), root: hex(roots[size - 1] ?? "") }));
    }
  });

  test("consistency proofs are built and verified", () => {
    for (const { size, later, proof } of consistencies) {
      const builder = new ConsistencyBuilder({ start: start(list, size), size: later });
      for (const leaf of list.slice(size, later)) builder.append(leaf);
      assert.deepEqual(texts(builder.proof()), proof, `${size} to ${later}`);
      const [root, laterRoot] = [hex(roots[size - 1] ?? ""), hex(roots[later - 1] ?? "")];
      assert.ok(verifyConsistency({ size, root, later: { size: later, root: laterRoot }, proof: proof.map(hex) }));
    }
  });
});

describe("against the definitions of RFC 9162", () => {
  const most = 40;
  const list = hashesOf(most);

  test("roots, also from stored peaks, and runs of one leaf", () => {
    for (let size = 0; size <= most; size++) {
      const tree = treeOf(list.slice(0, size));
      assert.deepEqual(tree.root, naiveRoot(list.slice(0, size)));
      assert.equal(tree.peaks.length, peakCount(size));
      assert.deepEqual(rootOfPeaks(tree.peaks), tree.root);
      const lost = leafHash(Buffer.from("lost"));
      for (const count of [0, 1, 2, 3, 7, 8, 13]) {
        const run = MerkleTree.from({ size, peaks: tree.peaks });
        run.appendRun(lost, count);
        const whole = [...list.slice(0, size), ...Array.from({ length: count }, () => lost)];
        assert.deepEqual(run.root, naiveRoot(whole), `${size} and ${count}`);
        assert.equal(run.size, size + count);
      }
    }
  });

  test("every inclusion path, from every start", () => {
    for (let size = 1; size <= most; size++) {
      const part = list.slice(0, size);
      const root = naiveRoot(part);
      for (let index = 0; index < size; index++) {
        const expected = naivePath(index, part);
        const from = (index * 7) % (index + 1);
        for (const begin of new Set([0, from, index])) {
          const builder = new InclusionBuilder({ index, size, start: start(list, begin) });
          for (const leaf of part.slice(begin)) builder.append(leaf);
          assert.deepEqual(builder.path(), expected, `${index} of ${size} from ${begin}`);
          assert.deepEqual(builder.leaf, part[index]);
        }
        const leaf = part[index] ?? emptyRoot;
        assert.ok(verifyInclusion({ leaf, index, size, path: expected, root }));
        const wrong = [
          { leaf, index: index + 1, size, path: expected, root },
          { leaf: leafHash(leaf), index, size, path: expected, root },
          { leaf, index, size, path: [...expected, leaf], root },
          ...(size > 1 ? [{ leaf, index, size, path: expected.slice(1), root }] : []),
        ];
        for (const one of wrong) assert.equal(verifyInclusion(one), false);
      }
    }
  });

  test("every consistency proof", () => {
    for (let later = 0; later <= most; later++) {
      const laterRoot = naiveRoot(list.slice(0, later));
      for (let size = 0; size <= later; size++) {
        const root = naiveRoot(list.slice(0, size));
        const expected = size === 0 ? [] : naiveProof(size, list.slice(0, later), { known: true });
        const builder = new ConsistencyBuilder({ start: start(list, size), size: later });
        for (const leaf of list.slice(size, later)) builder.append(leaf);
        assert.deepEqual(builder.proof(), expected, `${size} to ${later}`);
        const end = { size: later, root: laterRoot };
        assert.ok(verifyConsistency({ size, root, later: end, proof: expected }), `${size} to ${later}`);
        assert.equal(verifyConsistency({ size, root: leafHash(root), later: end, proof: expected }), false);
        assert.equal(verifyConsistency({ size, root, later: end, proof: [...expected, root] }), false);
        if (size > 0 && size < later)
          assert.equal(
            verifyConsistency({ size, root, later: { ...end, root: leafHash(root) }, proof: expected }),
            false,
          );
      }
    }
  });

  test("runs inside a proof", () => {
    const lost = leafHash(Buffer.from("lost"));
    const whole = [...list.slice(0, 5), ...Array.from({ length: 20 }, () => lost), ...list.slice(5, 9)];
    for (const index of [0, 4, 12, 24, 28]) {
      const builder = new InclusionBuilder({ index, size: whole.length, start: start(list, 0) });
      for (const leaf of list.slice(0, 5)) builder.append(leaf);
      builder.append(lost, 20);
      for (const leaf of list.slice(5, 9)) builder.append(leaf);
      assert.deepEqual(builder.path(), naivePath(index, whole));
      assert.deepEqual(builder.leaf, whole[index]);
    }
  });
});

test("hostile counts are refused before any work", () => {
  const root = leafHash(Buffer.from("root"));
  const long = Array.from({ length: 1_000_000 }, () => root);
  for (const size of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, treeSizeMax + 1])
    assert.equal(verifyInclusion({ leaf: root, index: 0, size, path: [], root }), false);
  assert.equal(verifyInclusion({ leaf: root, index: 0, size: treeSizeMax, path: long, root }), false);
  assert.equal(verifyInclusion({ leaf: root, index: 0, size: 2, path: [Buffer.alloc(31)], root }), false);
  const later = { size: treeSizeMax, root };
  assert.equal(verifyConsistency({ size: 3, root, later, proof: long }), false);
  assert.equal(verifyConsistency({ size: 5, root, later: { size: 4, root }, proof: [] }), false);
  const tree = new MerkleTree();
  tree.appendRun(root, treeSizeMax); // one hash for each level
  assert.equal(tree.size, treeSizeMax);
});

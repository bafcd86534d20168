/** The code of a seal: up to 30 altered symbols are located, beside missing ones, and too many are never guessed. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import { randomFrom } from "../../../chaos/random.ts";
import { CodeBlock, LeafCode } from "../../../src/audit/seal/leaf-code.ts";
import {
  addSymbols,
  erasuresMax,
  errorsMax,
  locateErrors,
  positionsMax,
  syndromeCount,
} from "../../../src/audit/seal/reed-solomon.ts";
import { codeBlockBytes, codeBlocksMax, codeLeavesMax, leafMarksMax } from "../../../src/replication/wire/index.ts";

const leafAt = (number: number): Buffer => hash("sha256", `leaf ${number}`, "buffer");

function sumsOf(symbols: ReadonlyMap<number, number>): Uint16Array {
  const sums = new Uint16Array(syndromeCount);
  for (const [at, symbol] of symbols) addSymbols(sums, { offset: 0, symbol, at, count: 1 });
  return sums;
}

describe("located differences", () => {
  test("are those that are there, for every number of them up to the bound, with and without missing symbols", () => {
    const random = randomFrom(7).next;
    const below = (bound: number): number => Math.floor(random() * bound);
    for (let round = 0; round < 300; round++) {
      const positions = [64, 100, 2_048, positionsMax][round % 4] ?? 64;
      const errors = round % (errorsMax + 1);
      const missing = below(erasuresMax - 2 * errors + 1);
      const places = new Set<number>();
      while (places.size < errors + missing && places.size < positions) places.add(below(positions));
      const erasures = [...places].slice(errors);
      const symbols = new Map([...places].map((at) => [at, 1 + below(0xffff)]));
      const found = locateErrors(sumsOf(symbols), { positions, erasures });
      assert.deepEqual(
        found,
        [...places].slice(0, errors).sort((a, b) => a - b),
      );
    }
  });

  test("are not guessed when there are more than can be named", () => {
    const random = randomFrom(8).next;
    for (let round = 0; round < 200; round++) {
      const errors = errorsMax + 1 + Math.floor(random() * 34);
      const positions = 64 + Math.floor(random() * 4_000);
      const symbols = new Map<number, number>();
      while (symbols.size < Math.min(errors, positions))
        symbols.set(Math.floor(random() * positions), 1 + Math.floor(random() * 0xffff));
      assert.equal(locateErrors(sumsOf(symbols), { positions, erasures: [] }), undefined);
    }
    const erasures = Array.from({ length: erasuresMax + 1 }, (_, at) => at);
    assert.equal(locateErrors(new Uint16Array(syndromeCount), { positions: 100, erasures }), undefined);
  });
});

test("sums of a run of equal leaves, and of joined blocks, are those of the leaves one by one", () => {
  const [one, run, left, right] = [new CodeBlock(), new CodeBlock(), new CodeBlock(), new CodeBlock()];
  for (let at = 0; at < 64; at++) (at < 32 ? left : right).add(leafAt(at), { at: at % 32, count: 1 });
  for (let at = 0; at < 64; at++) one.add(leafAt(at), { at, count: 1 });
  assert.deepEqual(left.join(right, 32).sums, one.sums);
  for (let at = 64; at < 1_065; at++) one.add(leafAt(0), { at, count: 1 });
  for (let at = 0; at < 64; at++) run.add(leafAt(at), { at, count: 1 });
  run.add(leafAt(0), { at: 64, count: 1_001 });
  assert.deepEqual(run.sums, one.sums);
  assert.deepEqual(CodeBlock.from(one.bytes()).sums, one.sums);
});

describe("what a seal says of its leaves", () => {
  test("is bounded, and the same whatever restarts are in between", () => {
    for (const size of [1, 1_000, leafMarksMax, leafMarksMax + 1, 3_000, 40_000]) {
      const [whole, restarted] = [new LeafCode(), { code: new LeafCode() }];
      for (let n = 1; n <= size; n++) {
        whole.append(leafAt(n % 50), 1);
        if (n % 777 === 0) restarted.code = LeafCode.from(JSON.parse(JSON.stringify(restarted.code.form())));
        restarted.code.append(leafAt(n % 50), 1);
      }
      assert.deepEqual(restarted.code.code(), whole.code());
      assert.deepEqual(restarted.code.marks(), whole.marks());
      const { leaves, bytes } = whole.code();
      assert.equal(whole.marks() === undefined, size > leafMarksMax);
      if (size > leafMarksMax) assert.equal(bytes.length, codeBlockBytes * Math.ceil(size / leaves));
      else assert.equal(whole.marks()?.bytes.length, 4 * size);
      assert.ok(bytes.length <= codeBlocksMax * codeBlockBytes);
    }
  });

  test("is nothing for more leaves than it has room for, or after an older build has written the state", () => {
    const code = new LeafCode();
    code.append(leafAt(1), 10);
    code.append(leafAt(2), codeLeavesMax - 10);
    assert.equal(code.code().bytes.length, codeBlocksMax * codeBlockBytes);
    code.append(leafAt(3), 1);
    for (const none of [code, LeafCode.from(code.form()), LeafCode.from(undefined)]) {
      none.append(leafAt(4), 5);
      assert.deepEqual([none.marks(), none.code().bytes.length], [undefined, 0]);
    }
  });
});

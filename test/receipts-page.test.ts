/**
 * Proofs of docs/receipts.md: every sentence on what a receipt states, or does not state, has a test, or is listed as
 * one that promises nothing.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type SentenceProof, sentenceProofs } from "./support/receipt-sentences.ts";

const root = join(import.meta.dirname, "..");
const sections = ["## What it says", "## What it does not say", "## What a cut-off region knows"];

function sentences(): readonly string[] {
  const page = readFileSync(join(root, "docs/receipts.md"), "utf8");
  return sections.flatMap((heading) => {
    const begin = page.indexOf(`\n${heading}\n`);
    assert.notEqual(begin, -1, `the page has no section "${heading}"`);
    const end = page.indexOf("\n## ", begin + 1);
    return sentencesOf(page.slice(begin + heading.length + 2, end));
  });
}

function sentencesOf(section: string): readonly string[] {
  const blocks = section.split(/\n\n|\n(?=- |\| )/).filter((block) => !/^\|(?:[ |-]*)\|?$/.test(block.trim()));
  return blocks
    .filter((block) => block.trim() !== "")
    .flatMap((block) =>
      block
        .replace(/\s+/g, " ")
        .trim()
        .split(/(?<=\w{2}[`*)]*\.(?:\*\*)?|\)\.)\s+(?=[A-Z`*])/),
    );
}

test("every sentence of the page has a proof, and every proof belongs to a sentence", () => {
  const pageSentences = sentences();
  const unproven = pageSentences.filter((sentence) => !sentenceProofs.some(({ says }) => sentence.includes(says)));
  assert.deepEqual(unproven, []);
  const unused = sentenceProofs.filter(({ says }) => !pageSentences.some((sentence) => sentence.includes(says)));
  assert.deepEqual(unused, []);
});

for (const { says, tests } of sentenceProofs.filter(
  (proof): proof is SentenceProof & { tests: readonly string[] } => "tests" in proof,
)) {
  test(`has its tests: ${says}`, () => {
    for (const named of tests) {
      const [file = "", name = ""] = named.split(" › ");
      assert.ok(readFileSync(join(root, file), "utf8").includes(name), `${file} has no test "${name}"`);
    }
  });
}

/** Segments of 20,000 records: what was done to stored records is named by its number, also when much was done. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import {
  type CheckReport,
  openEvidence,
  RecordCheck,
  type RecordFinding,
  SealIndex,
} from "../../../src/audit/proof/index.ts";
import { SealLog } from "../seal/seal-support.ts";
import { evidenceOf, indexOf, sealBoot } from "./proof-support.ts";

const size = 20_000;
/** Leaves in a block of the code of such a segment. */
const blockLeaves = 2_048;

let lines: readonly string[] = [];
let index: SealIndex;

before(() => {
  const log = new SealLog();
  lines = sealBoot(log, { segments: [size, 300], lost: [[9_001, 9_010]] }).lines;
  index = indexOf(evidenceOf(log));
});

/** The line of a number: 9 of the 10 lost ones have none. */
const lineOf = (seq: number): number => (seq < 9_001 ? seq - 1 : seq - 10);
const put = (line: string): string => line.replace("GET", "PUT");

function check(changed: readonly string[], partial = false): CheckReport {
  const all = new RecordCheck(index, { partial });
  for (const line of changed) all.take(line);
  return all.finish();
}

const short = ({ kind, first, last }: RecordFinding): string => `${kind} ${first}${first === last ? "" : `-${last}`}`;
const found = (report: CheckReport): readonly string[] => report.findings.map(short);

const alter = (all: string[], ...numbers: readonly number[]): void => {
  for (const seq of numbers) all[lineOf(seq)] = put(all[lineOf(seq)] ?? "");
};

describe("in a large segment", () => {
  test("unchanged records are verified", () => {
    const report = check(lines);
    assert.deepEqual([found(report), report.verified], [[], size + 300]);
  });

  const spread = Array.from({ length: 60 }, (_, at) => 5 + 331 * at).filter((seq) => seq < 9_001 || seq > 9_010);
  const changes: readonly [string, (all: string[]) => unknown, readonly string[]][] = [
    ["one altered record", (all) => alter(all, 13_579), ["altered 13579"]],
    [
      "the first one, the last one, and those at the edges of blocks",
      (all) => alter(all, 1, blockLeaves, blockLeaves + 1, size, size + 1),
      ["altered 1", `altered ${blockLeaves}-${blockLeaves + 1}`, `altered ${size}`, `altered ${size + 1}`],
    ],
    ["sixty over the whole segment", (all) => alter(all, ...spread), spread.map((seq) => `altered ${seq}`)],
    ["thirty in a row", (all) => alter(all, ...Array.from({ length: 30 }, (_, at) => 700 + at)), ["altered 700-729"]],
    [
      "one removed, and one altered near it",
      (all) => [alter(all, 5_002), all.splice(lineOf(5_000), 1)],
      ["missing 5000", "altered 5002"],
    ],
    [
      "forty removed, and ten altered around them",
      (all) => [
        alter(all, 5_100, 5_102, 5_104, 5_106, 5_108, 5_170, 5_172, 5_174, 5_176, 5_178),
        all.splice(lineOf(5_120), 40),
      ],
      [
        "altered 5100",
        "altered 5102",
        "altered 5104",
        "altered 5106",
        "altered 5108",
        "missing 5120-5159",
        "altered 5170",
        "altered 5172",
        "altered 5174",
        "altered 5176",
        "altered 5178",
      ],
    ],
    [
      "two lines exchanged",
      (all) => all.splice(lineOf(8_000), 2, all[lineOf(8_001)] ?? "", all[lineOf(8_000)] ?? ""),
      ["reordered 8000"],
    ],
    [
      "the contents of two exchanged",
      (all) => {
        const [a, b] = [all[lineOf(300)] ?? "", all[lineOf(15_000)] ?? ""];
        all[lineOf(300)] = b.replace('"seq":15000', '"seq":300');
        all[lineOf(15_000)] = a.replace('"seq":300', '"seq":15000');
      },
      ["altered 300", "altered 15000"],
    ],
    ["one removed", (all) => all.splice(lineOf(4_000), 1), ["missing 4000"]],
    [
      "one removed, and the later ones renumbered",
      (all) => {
        all.splice(lineOf(19_995), 1);
        for (let seq = 19_995; seq < size; seq++)
          all[lineOf(seq)] = (all[lineOf(seq)] ?? "").replace(`"seq":${seq + 1}`, `"seq":${seq}`);
      },
      ["altered 19995-19999", "missing 20000"],
    ],
    [
      "one a second time with other content",
      (all) => all.splice(lineOf(6_001), 0, put(all[lineOf(6_000)] ?? "")),
      ["repeated 6000"],
    ],
    [
      "the end cut off, and one altered before",
      (all) => [alter(all, 12), all.splice(lineOf(15_001))],
      ["altered 12", `missing 15001-${size + 300}`],
    ],
    [
      "a number that was lost given a record",
      (all) => all.splice(lineOf(9_010), 1, ...lostOnes(all)),
      ["altered 9001-9010"],
    ],
    [
      "a record replaced by a gap record",
      (all) => (all[lineOf(777)] = gapAt(all[lineOf(777)] ?? "", 777)),
      ["missing 777"],
    ],
    [
      "a line that is no record",
      (all) => (all[lineOf(888)] = `${(all[lineOf(888)] ?? "").slice(0, -1)} }`),
      ["altered 888"],
    ],
  ];
  for (const [what, change, expected] of changes)
    test(what, () => {
      const changed = [...lines];
      change(changed);
      assert.deepEqual(found(check(changed)), expected);
    });

  test("more altered records than can be named are not guessed: the range of a mark is, and why", () => {
    const changed = [...lines];
    alter(changed, ...Array.from({ length: 100 }, (_, at) => 200 + at), 12_345);
    const report = check(changed);
    const [first] = report.findings;
    assert.ok(first !== undefined && first.first <= 200 && first.last >= 200 && first.last - first.first < 128);
    assert.match(first.detail, /one of these records .* too many records near it/);
    assert.equal(report.findings.at(-1)?.first, 12_345, "another block names its own");
  });

  test("a part of the boot is checked as far as it goes", () => {
    const changed = [...lines];
    alter(changed, 7_000, 15_000);
    assert.deepEqual(found(check(changed.slice(lineOf(2_500), lineOf(19_500)), true)), [
      "altered 7000",
      "altered 15000",
    ]);
  });
});

function lostOnes(all: readonly string[]): readonly string[] {
  const model = all[lineOf(9_000)] ?? "";
  return Array.from({ length: 10 }, (_, at) => model.replace('"seq":9000', `"seq":${9_001 + at}`));
}

function gapAt(line: string, seq: number): string {
  const { node, boot } = JSON.parse(line) as { node: string; boot: string };
  return JSON.stringify({ kind: "gap", seq, node, boot, at: 1, first: seq, last: seq, reason: "spool_full", why: "" });
}

test("seals whose marks have no room in memory are counted, and an altered record is named by its segment", () => {
  const log = new SealLog();
  const boot = sealBoot(log, { segments: [100, 200] });
  const small = new SealIndex({ marksBytesMax: 500 });
  for (const evidence of evidenceOf(log)) {
    const opened = openEvidence(evidence);
    assert.ok(typeof opened !== "string");
    small.add(opened);
  }
  const all = new RecordCheck(small, { partial: false });
  for (const [at, line] of boot.lines.entries()) all.take(at === 9 || at === 150 ? put(line) : line);
  assert.equal(small.unmarked, 1);
  assert.deepEqual(found(all.finish()), ["altered 10", "altered 101-300"]);
});

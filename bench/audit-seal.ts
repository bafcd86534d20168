/**
 * Bench: the processor time that sealing takes per audit record, beside a bare SHA-256 of the same lines.
 *
 *   node bench/audit-seal.ts [--records 50000] [--rounds 5] [--every 5000]
 *
 * Sealing is the leaf of each line, with the places of its members from the formatter, its place in the tree and in the
 * marks of its boot, and a seal, as the log gets it, for each 5,000 records, or `--every` so many. Reading the spool
 * and sending are left out. Rounds alternate; the result is the median of the ratios of neighbours.
 */
import { hash as digestOf, randomBytes, randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { createLineFormatter } from "../src/audit/decision-line.ts";
import { BootTree } from "../src/audit/seal/boot-tree.ts";
import { leafTextByRuns, leafTextOf } from "../src/audit/seal/record-leaf.ts";
import { encodeAuditSeal } from "../src/replication/wire/index.ts";
import { signerOfNode } from "../test/audit/seal/seal-support.ts";
import { decision, node } from "../test/audit/support.ts";
import { reportBudgets, whole } from "./support/budget.ts";

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "50000" },
    rounds: { type: "string", default: "5" },
    every: { type: "string", default: "5000" },
  },
});
const [records, rounds] = [Number(values.records), Number(values.rounds)];
const sealEvery = Number(values.every);

const userAgent =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
const { boot, sign } = signerOfNode();
const format = createLineFormatter();
const lines = Array.from({ length: records }, (_, i) => {
  const more = { boot, requestId: randomUUID(), sessionId: randomUUID() as never, userId: randomUUID() as never };
  const traceId = randomBytes(16).toString("hex");
  const record = decision(`/reports/${i * 7}/pages/${i % 13}`, { ...more, userAgent, traceId, latencyMs: 0.4 });
  const { text, runs } = format(i + 1, record);
  if (runs === undefined) throw new Error("a line of the bench is not ASCII");
  return { bytes: Buffer.from(text), runs: runs.slice() };
});

let seals = 0;
let sealBytes = 0;
function sealAll(isSearched = false): void {
  const tree = new BootTree(boot);
  for (const { bytes, runs } of lines) {
    const leaf = isSearched ? leafTextOf(bytes) : leafTextByRuns(bytes, { from: 0, runs, line: 0 });
    if (leaf === "not-a-record") throw new Error("a line of the bench is no record");
    tree.appendText(leaf);
    if (tree.size % sealEvery !== 0 && tree.size !== records) continue;
    sealBytes += sign(encodeAuditSeal(tree.seal(node, { atMs: 1, final: tree.size === records, coded: true }))).length;
    seals++;
  }
}

let digested = 0;
function digestAll(): void {
  for (const { bytes } of lines) digested += digestOf("sha256", bytes, "buffer").length;
}

/** Microseconds of processor time per record. */
function cpuUsOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / records;
}

const median = (figures: readonly number[]): number =>
  figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)] ?? Number.NaN;

const searchAll = (): void => sealAll(true);
for (const work of [sealAll, searchAll, digestAll]) cpuUsOf(work); // compiled from here on
const pairs = Array.from({ length: rounds }, () => ({
  sealing: cpuUsOf(sealAll),
  searching: cpuUsOf(searchAll),
  bare: cpuUsOf(digestAll),
}));
const bytes = lines.reduce((sum, line) => sum + line.bytes.length, 0) / records;
const ratios = pairs.map(({ sealing, bare }) => sealing / bare);
console.log(
  `${whole(records)} records of ${whole(bytes)} bytes, ${rounds} rounds, ${whole(seals)} seals of ${whole(sealBytes / seals)} bytes, ${digested} bytes of digests`,
);
console.log(`ratios ${ratios.map((ratio) => ratio.toFixed(2)).join(", ")}`);
const [sealing, bare] = [median(pairs.map((pair) => pair.sealing)), median(pairs.map((pair) => pair.bare))];
const searching = median(pairs.map((pair) => pair.searching));
console.log(`with a search for the members of each line, as after a restart: ${searching.toFixed(1)} µs`);
reportBudgets([
  {
    what: "processor time of sealing a record, beside a bare SHA-256 of its line",
    result: `${median(ratios).toFixed(2)} × (${sealing.toFixed(1)} µs beside ${bare.toFixed(1)} µs)`,
    budget: "",
    met: null,
  },
]);

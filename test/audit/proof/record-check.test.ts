/** The check of stored records: whatever was done to them after they were sealed is found, and named. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { cloudEventOf } from "../../../src/audit/cloud-event.ts";
import { eraseLine, parseLine, recordLeafOf } from "../../../src/audit/index.ts";
import {
  type CheckReport,
  openEvidence,
  RecordCheck,
  type RecordFinding,
  type SealIndex,
} from "../../../src/audit/proof/index.ts";
import { type Epoch, MerkleTree } from "../../../src/events/index.ts";
import {
  encodeAuditSeal,
  enrolKey,
  enrolmentRoot,
  nodeKeyFrom,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { cluster, SealLog, signerOfNode } from "../seal/seal-support.ts";
import { evidenceOf, indexOf, seal, sealBoot } from "./proof-support.ts";

function check(lines: readonly string[], index: SealIndex, partial = false): CheckReport {
  const all = new RecordCheck(index, { partial });
  for (const line of lines) all.take(line);
  return all.finish();
}

const short = ({ kind, first, last }: RecordFinding): string => `${kind} ${first}${first === last ? "" : `-${last}`}`;
const found = (report: CheckReport): readonly string[] => report.findings.map(short);

/** One boot: 100 numbers in three segments, 41 to 45 lost, and ten records that are not sealed yet. */
const plan = { segments: [30, 40, 30], lost: [[41, 45]], unsealed: 10 } as const;
const world = () => {
  const log = new SealLog();
  const boot = sealBoot(log, plan);
  /** The line with a number. */
  const at = (seq: number): number => boot.lines.findIndex((line) => (JSON.parse(line) as { seq: number }).seq === seq);
  return { log, ...boot, at, index: indexOf(evidenceOf(log)) };
};

test("the leaf of a record is the hash that docs/audit-proofs.md gives", () => {
  const page = readFileSync(join(import.meta.dirname, "../../../docs/audit-proofs.md"), "utf8");
  const [listed = ""] = /(?<=only the members ).*?(?=, byte for byte)/s.exec(page) ?? [];
  const shown = new Set([...listed.matchAll(/`(\w+)`/g)].map(([, name]) => name));
  assert.equal(shown.size, 27);
  const sha256 = (...parts: readonly (string | Buffer)[]): Buffer =>
    createHash("sha256")
      .update(Buffer.concat(parts.map((part) => Buffer.from(part as string))))
      .digest();
  for (const line of world().lines) {
    const entries = Object.entries(JSON.parse(line) as object);
    const part = (isShown: boolean): string =>
      JSON.stringify(Object.fromEntries(entries.filter(([name]) => shown.has(name) === isShown)));
    const leaf = recordLeafOf(Buffer.from(line));
    assert.ok(leaf !== "not-a-record");
    assert.deepEqual(leaf.leaf, sha256(Buffer.from([0]), part(true), sha256(part(false))));
  }
});

describe("records as they were sealed", () => {
  test("are verified, also of several boots, mixed, and repeated as a sink repeats them", () => {
    const log = new SealLog();
    const [a, b] = [sealBoot(log, plan), sealBoot(log, { node: "node-2", segments: [7, 1, 300], final: true })];
    const mixed: string[] = [];
    for (let n = 0; n < 320; n++)
      for (const { lines } of [a, b]) if (lines[n] !== undefined) mixed.push(lines[n] ?? "");
    const lines = [...mixed, ...mixed.slice(-20)];
    const report = check(lines, indexOf(evidenceOf(log)));
    assert.deepEqual(found(report), []);
    assert.equal(report.verified, 100 + 308);
    assert.equal(report.records, lines.length - 1, "a gap record is none");
    assert.equal(report.repetitions, 20);
    assert.deepEqual(
      report.boots.map(({ unsealed }) => unsealed),
      [{ first: 101, last: 110 }, null],
    );
    assert.equal(report.boots[0]?.declared, 5);
  });

  test("may be erased, or in CloudEvents, line by line", () => {
    const { lines, index } = world();
    const changed = lines.map((line, n) => (n % 3 === 0 ? (eraseLine(Buffer.from(line))?.toString() ?? "") : line));
    const report = check(changed, index);
    assert.deepEqual(found(report), []);
    assert.equal(report.verified, 100);
    assert.ok(report.erased > 30);
    assert.ok(
      changed.filter((_, n) => n % 3 === 0).every((line) => !line.includes("/people/") && !line.includes("192.0")),
    );
    const events = lines.map((line) => {
      const record = parseLine(line);
      return record === undefined ? "" : JSON.stringify(cloudEventOf(record, "prod"));
    });
    assert.deepEqual(found(check(events, index)), []);
    assert.equal(check(events, index).verified, 100);
  });

  test("of a part of a boot are verified from the next seal on, if the caller knows that it is a part", () => {
    const { lines, index, at } = world();
    const part = lines.slice(at(20), at(90));
    assert.deepEqual(found(check(part, index)), ["missing 1-19", "missing 90-100"]);
    const report = check(part, index, true);
    assert.deepEqual(found(report), []);
    assert.equal(report.verified, 40, "only the segment that is whole");
    assert.equal(report.boots[0]?.absent, 19 + 11);
    assert.deepEqual(found(check([...part.slice(0, 30), ...part.slice(31)], index, true)), ["missing 54"]);
  });

  test("half a line, as a failed sink leaves it, is counted and hides nothing", () => {
    const { lines, index } = world();
    const torn = [...lines.slice(0, 50), (lines[50] ?? "").slice(0, 40), ...lines.slice(50)];
    const report = check(torn, index);
    assert.deepEqual(found(report), []);
    assert.deepEqual(report.unreadable, { lines: 1, firstLine: 51 });
  });
});

describe("what was done to stored records is found", () => {
  const changes: readonly [string, (lines: string[], at: (seq: number) => number) => unknown, readonly string[]][] = [
    ["a result altered", (l, at) => (l[at(50)] = (l[at(50)] ?? "").replace('"permit"', '"deny"')), ["altered 50"]],
    ["an address altered", (l, at) => (l[at(1)] = (l[at(1)] ?? "").replace("192.0.2.1", "192.0.2.2")), ["altered 1"]],
    ["one byte of a space", (l, at) => (l[at(100)] = (l[at(100)] ?? "").replace('"seq":', '"seq": ')), ["altered 100"]],
    [
      "two in two segments",
      (l, at) => [5, 80].map((n) => (l[at(n)] = (l[at(n)] ?? "").replace("GET", "PUT"))),
      ["altered 5", "altered 80"],
    ],
    [
      "one altered before and one after a removed one",
      (l, at) => {
        for (const n of [10, 25]) l[at(n)] = (l[at(n)] ?? "").replace("GET", "PUT");
        l.splice(at(20), 1);
      },
      ["altered 10", "missing 20", "altered 25"],
    ],
    ["one removed", (l, at) => l.splice(at(60), 1), ["missing 60"]],
    ["the first removed", (l) => l.splice(0, 1), ["missing 1"]],
    ["a run over two seals removed", (l, at) => l.splice(at(25), 10), ["missing 25-34"]],
    ["the whole tail cut", (l, at) => l.splice(at(71)), ["missing 71-100"]],
    ["a hole in what is not sealed yet", (l, at) => l.splice(at(105), 1), ["missing 105"]],
    ["everything removed", (l) => l.splice(0), ["missing 1-40", "missing 46-100"]],
    ["two exchanged", (l, at) => l.splice(at(20), 2, l[at(21)] ?? "", l[at(20)] ?? ""), ["reordered 20"]],
    ["one moved far back", (l, at) => l.push(...l.splice(at(3), 1)), ["reordered 3"]],
    [
      "one inserted again with other content",
      (l, at) => l.splice(at(31), 0, (l[at(30)] ?? "").replace("GET", "PUT")),
      ["repeated 30"],
    ],
    ["one replaced by a gap record", (l, at) => l.splice(at(60), 1, gap(l[at(60)] ?? "", 60, 60)), ["missing 60"]],
    [
      "a lost number given a record",
      (l, at) => l.splice(at(45), 1, ...[41, 42, 43, 44, 45].map((n) => renumber(l[at(40)] ?? "", n))),
      ["altered 41-45"],
    ],
    [
      "erased, and then altered",
      (l, at) =>
        (l[at(50)] = (eraseLine(Buffer.from(l[at(50)] ?? ""))?.toString() ?? "").replace('"permit"', '"deny"')),
      ["altered 50"],
    ],
    [
      "erased, with personal parts added",
      (l, at) =>
        (l[at(50)] = (eraseLine(Buffer.from(l[at(50)] ?? ""))?.toString() ?? "").replace("{", '{"userId":"eve",')),
      ["altered 50"],
    ],
  ];
  for (const [what, change, expected] of changes)
    test(what, () => {
      const { lines, index, at } = world();
      change(lines, at);
      const report = check(lines, index);
      assert.deepEqual(found(report), expected);
      assert.ok(report.findings.every(({ node, boot }) => node === "node-1" && boot.startsWith("key-")));
    });

  test("records added after the end of a boot, and records of a boot that was never sealed", () => {
    const log = new SealLog();
    const { lines } = sealBoot(log, { segments: [10], final: true });
    const index = indexOf(evidenceOf(log));
    assert.deepEqual(found(check([...lines, renumber(lines[9] ?? "", 11)], index)), ["added 11"]);
    const other = lines.map((line) => line.replaceAll(/"boot":"[^"]*"/g, '"boot":"key-unknown"'));
    const report = check([...lines, ...other], index);
    assert.deepEqual(found(report), []);
    assert.deepEqual(report.boots[1]?.unsealed, { first: 1, last: 10 });
  });

  test("in a large segment that was sealed below level 7, the block of the altered record is named", () => {
    const log = new SealLog(6);
    const { lines } = sealBoot(log, { segments: [1_000] });
    const altered = lines.map((line, n) => (n === 700 ? line.replace("GET", "PUT") : line));
    const report = check(altered, indexOf(evidenceOf(log)));
    assert.deepEqual(found(report), ["altered 701-704"]);
    assert.match(report.findings[0]?.detail ?? "", /one of these records .* older version/);
  });

  test("where the seal of an altered record was not given, the records up to the next seal are named", () => {
    const log = new SealLog();
    const { lines } = sealBoot(log, { segments: [30, 2_000] });
    const altered = lines.map((line, n) => (n === 9 ? line.replace("GET", "PUT") : line));
    const report = check(altered, indexOf(evidenceOf(log).slice(1)));
    assert.deepEqual(found(report), ["altered 1-30"]);
    assert.match(report.findings[0]?.detail ?? "", /their own seal was not given/);
    const both = altered.map((line, n) => (n === 1_500 ? line.replace("GET", "PUT") : line));
    assert.deepEqual(found(check(both, indexOf(evidenceOf(log).slice(1)))), ["altered 1501"]);
  });

  test("a boot with two histories, each of which the records may match", () => {
    const log = new SealLog();
    const boot = sealBoot(log, { segments: [20] });
    const fork = new SealLog();
    const { node, boot: id, sign } = boot.signer;
    const other = new MerkleTree();
    other.appendRun(Buffer.alloc(32, 1), 20);
    const head = { root: other.root, peaks: other.peaks, size: 20, previous: { size: 0, root: new MerkleTree().root } };
    const rest = {
      final: false,
      atMs: 1,
      lost: [],
      lostMore: false,
      unhashed: [],
      marks: { leaves: 1, bytes: Buffer.alloc(0) },
      code: null,
    };
    assert.equal(fork.submit(sign(encodeAuditSeal({ node, boot: id, ...head, ...rest }))), "done");
    const report = check(boot.lines, indexOf([...evidenceOf(log), ...evidenceOf(fork)]));
    assert.ok(found(report).includes("forked 1-20"));
    assert.match(report.findings[0]?.detail ?? "", /two roots/);
    for (let n = 0; n < 5; n++) boot.tree.append(Buffer.alloc(32, n));
    seal(log, boot, { final: false });
    const later = indexOf([...evidenceOf(log).slice(1), ...evidenceOf(fork)]);
    assert.match(check([], later).findings[0]?.detail ?? "", /does not continue/);
  });
});

describe("records that no seal covers, as the seals say", () => {
  const log = new SealLog();
  const { lines } = sealBoot(log, {
    segments: [30, 40],
    unhashed: [
      [11, 20],
      [25, 25],
    ],
    lost: [[41, 45]],
  });
  const index = indexOf(evidenceOf(log));
  const at = (seq: number): number => lines.findIndex((line) => (JSON.parse(line) as { seq: number }).seq === seq);

  test("are counted, and no fault, whether a sink has them or declares them lost", () => {
    const report = check(lines, index);
    assert.deepEqual(found(report), []);
    assert.deepEqual([report.verified, report.boots[0]?.unhashed], [59, 11]);
    const declared = [...lines];
    declared.splice(at(11), 10, gap(lines[at(11)] ?? "", 11, 20));
    assert.deepEqual(found(check(declared, index)), []);
    const altered = lines.map((line, n) => (n === at(15) ? line.replace("GET", "PUT") : line));
    assert.deepEqual(found(check(altered, index)), [], "nothing protects them");
  });

  test("do not hide what is altered or removed beside them, and are missed if no gap record declares them", () => {
    const changed = lines.map((line, n) => ([at(10), at(21), at(26)].includes(n) ? line.replace("GET", "PUT") : line));
    assert.deepEqual(found(check(changed, index)), ["altered 10", "altered 21", "altered 26"]);
    const removed = lines.filter((_, n) => n < at(9) || n > at(22));
    assert.deepEqual(found(check(removed, index)), ["missing 9-10", "missing 11-20", "missing 21-22"]);
  });
});

describe("the evidence of a seal", () => {
  test("is refused when it was altered, or was signed for another node or boot", () => {
    const log = new SealLog();
    sealBoot(log, { segments: [3] });
    const [evidence] = evidenceOf(log);
    assert.ok(evidence !== undefined && typeof openEvidence(evidence) !== "string");
    for (let at = 0; at < evidence.bytes.length; at += 7) {
      const bytes = Uint8Array.from(evidence.bytes, (byte, index) => (index === at ? byte ^ 1 : byte));
      const opened = openEvidence({ ...evidence, bytes });
      const isSame: boolean = typeof opened !== "string" && opened.link.hash === linkHash(evidence);
      assert.equal(isSame, false, `byte ${at}: it is refused, or has another link`);
    }
    const stranger = signerOfNode("node-1", { secret: Buffer.alloc(32, 1) });
    const own = sealBoot(new SealLog(), { segments: [1] });
    const bytes = stranger.sign(
      encodeAuditSeal(own.tree.seal("node-2" as never, { atMs: 1, final: true, coded: true })),
    );
    const entry = new SealLog();
    const sealed = {
      nodeId: "node-2",
      bootId: own.signer.boot,
      first: 2,
      last: 1,
      root: own.tree.made.root.toString("hex"),
    };
    entry.record({ type: "AuditSegmentSealed", ...sealed, final: true, seal: bytes } as never, null);
    assert.match(String(openEvidence(evidenceOf(entry)[0] as never)), /another node signed it/);
  });

  test("is refused when the log has a root without the node's signature, or by a key that the boot does not name", () => {
    const { tree, signer } = sealBoot(new SealLog(), { segments: [3], unsealed: 1 });
    const payload = encodeAuditSeal(tree.seal(signer.node, { atMs: 1, final: true, coded: true }));
    const opened = (envelope: Uint8Array): ReturnType<typeof openEvidence> => {
      const entry = new SealLog();
      const of = { nodeId: signer.node, bootId: signer.boot, first: 4, last: 4, root: tree.made.root.toString("hex") };
      entry.record({ type: "AuditSegmentSealed", ...of, final: true, seal: envelope } as never, null);
      return openEvidence(evidenceOf(entry)[0] as never);
    };
    const envelope = signer.sign(payload);
    assert.ok(typeof opened(envelope) !== "string");
    const end = envelope.length - 1;
    assert.equal(opened(envelope.with(end, (envelope[end] ?? 0) ^ 1)), "bad signature");
    const name = { cluster, role: "proxy", name: signer.node } as const;
    const other = nodeKeyFrom(Buffer.alloc(32, "another seed"), name);
    const certificate = { ...name, boot: signer.boot, epoch: 0 as Epoch, incarnation: "" } as const;
    const impostor = enrolKey(certificate, other.pair, enrolmentRoot(Buffer.alloc(32, 1), "proxy"));
    assert.match(String(opened(Uint8Array.from(sealEnvelope(impostor, "audit-seal", payload)))), /names no key/);
  });
});

function linkHash(evidence: ReturnType<typeof evidenceOf>[number]): string {
  const opened = openEvidence(evidence);
  return typeof opened === "string" ? "" : opened.link.hash;
}

function renumber(line: string, seq: number): string {
  return line.replace(/"seq":\d+/, `"seq":${seq}`);
}

function gap(line: string, first: number, last: number): string {
  const { node, boot } = JSON.parse(line) as { node: string; boot: string };
  return JSON.stringify({ kind: "gap", seq: last, node, boot, at: 1, first, last, reason: "spool_full", why: "" });
}

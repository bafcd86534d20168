/** Proofs about single records and about two seals: genuine ones are accepted, and nothing that was changed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { eraseLine } from "../../../src/audit/index.ts";
import {
  CannotProveError,
  checkProof,
  type InclusionProof,
  type KeptSeal,
  openEvidence,
  proveConsistency,
  proveInclusion,
} from "../../../src/audit/proof/index.ts";
import { SealLog } from "../seal/seal-support.ts";
import { evidenceOf, sealBoot } from "./proof-support.ts";

const world = (plan = { segments: [30, 40, 30], lost: [[41, 45]], unsealed: 10 } as const) => {
  const log = new SealLog();
  const boot = sealBoot(log, plan);
  const seals = evidenceOf(log).map((evidence): KeptSeal => {
    const opened = openEvidence(evidence);
    assert.ok(typeof opened !== "string");
    return { opened, evidence };
  });
  const { node, boot: id } = boot.signer;
  return { ...boot, log, seals, of: { node, boot: id, seals } };
};

describe("a record", () => {
  test("is proven by its path, from the lines of its segment alone, and erased ones too", async () => {
    const { lines, of } = world();
    for (const seq of [1, 30, 31, 40, 46, 70, 71, 100]) {
      const proof = await proveInclusion(lines, { ...of, seq });
      const checked = checkProof(JSON.parse(JSON.stringify(proof)));
      assert.ok(typeof checked !== "string", String(checked));
      assert.match(checked.says, new RegExp(`is number ${seq} of the boot`));
      assert.match(checked.record ?? "", new RegExp(`/people/${seq}"`));
    }
    const part = lines.slice(30, 66); // numbers 31 to 70
    const erased = part.map((line) => eraseLine(Buffer.from(line))?.toString() ?? line);
    const proof = await proveInclusion(erased, { ...of, seq: 50 });
    const checked = checkProof(proof);
    assert.ok(typeof checked !== "string" && checked.erased);
    assert.doesNotMatch(JSON.stringify(proof), /people|192\.0/);
    const whole = await proveInclusion(part, { ...of, seq: 50 });
    assert.deepEqual(proof.path, whole.path);
    assert.equal(proof.leaf, whole.leaf);
    const withoutLine = checkProof({ ...whole, record: null });
    assert.ok(typeof withoutLine !== "string" && withoutLine.record === null, "the leaf alone can be proven, too");
    const earlier = checkProof({ ...whole, record: proof.record });
    assert.ok(typeof earlier !== "string" && earlier.erased, "a proof from before the erasure fits the erased line");
  });

  test("is not proven if it, or another of its segment, is not what was sealed", async () => {
    const { lines, of } = world();
    const refuses = (text: readonly string[], seq: number, why: RegExp) =>
      assert.rejects(
        proveInclusion(text, { ...of, seq }),
        (error) => error instanceof CannotProveError && why.test(error.message),
      );
    await refuses(lines.with(9, (lines[9] ?? "").replace("GET", "PUT")), 10, /are not those that were sealed/);
    await refuses(lines.with(9, (lines[9] ?? "").replace("GET", "PUT")), 11, /are not those that were sealed/);
    await refuses(lines.toSpliced(9, 1), 12, /records 10 to 10 .* are not in this source/);
    await refuses(lines, 105, /no seal covers/);
    await refuses(lines, 43, /without a record/);
    await refuses([], 5, /not in this source/);
  });

  test("is proven beside records that no seal covers, and those are not", async () => {
    const plan = { segments: [30], unhashed: [[5, 9]], lost: [] };
    const { lines, of } = world(plan as never);
    for (const source of [lines, lines.toSpliced(4, 5)]) {
      const checked = checkProof(await proveInclusion(source, { ...of, seq: 10 }));
      assert.ok(typeof checked !== "string", String(checked));
    }
    await assert.rejects(proveInclusion(lines, { ...of, seq: 7 }), /sealed as one without a record/);
  });

  test("has no proof for another content, number, boot, path, root or seal", async () => {
    const { lines, of, log } = world();
    const proof = await proveInclusion(lines, { ...of, seq: 50 });
    const other = await proveInclusion(lines, { ...of, seq: 51 });
    const text = (value: object): InclusionProof => JSON.parse(JSON.stringify(value)) as InclusionProof;
    const fork = new SealLog();
    const stranger = sealBoot(fork, { node: "node-2", segments: [100] });
    const [foreign] = evidenceOf(fork);
    assert.ok(foreign !== undefined && stranger.lines.length === 100);
    const { formatEvidence } = await import("../../../src/audit/proof/index.ts");
    const bytes = Buffer.from(proof.seal.event, "base64");
    const altered = Buffer.from(bytes);
    altered[altered.length - 70] = (altered.at(-70) ?? 0) ^ 1;
    const forgeries: readonly [string, object][] = [
      ["content", { ...proof, record: (proof.record ?? "").replace("permit", "deny") }],
      ["personal content", { ...proof, record: (proof.record ?? "").replace("192.0.2.1", "192.0.2.9") }],
      ["another record", { ...proof, record: other.record }],
      ["leaf", { ...proof, leaf: other.leaf }],
      ["number", { ...proof, index: 50 }],
      ["id", { ...proof, id: other.id }],
      ["size", { ...proof, size: 71 }],
      ["path", { ...proof, path: other.path }],
      ["a shorter path", { ...proof, path: proof.path.slice(1) }],
      ["a longer path", { ...proof, path: [...proof.path, proof.leaf] }],
      ["seal of another boot", { ...proof, seal: formatEvidence(foreign) }],
      ["signature", { ...proof, seal: { ...proof.seal, event: altered.toString("base64") } }],
      ["place in the log", { ...proof, seal: { ...proof.seal, previous: log.entries[0]?.previous } }],
      ["hostile size", { ...proof, size: 2 ** 60 }],
      ["hostile index", { ...proof, index: -1 }],
      ["hostile path", { ...proof, path: Array.from({ length: 1_000_000 }, () => proof.leaf) }],
      ["hostile hash", { ...proof, path: ["A".repeat(1_000_000)] }],
      ["hostile event", { ...proof, seal: { ...proof.seal, event: "A".repeat(10_000_000) } }],
      ["hostile record", { ...proof, record: "x".repeat(2_000_000) }],
      ["no version", { ...proof, version: 2 }],
      ["nothing", {}],
    ];
    for (const [what, value] of forgeries) assert.equal(typeof checkProof(text(value)), "string", what);
    for (const value of [null, 1, "", []]) assert.equal(typeof checkProof(value), "string");
  });
});

test("two seals of a boot have a consistency proof, and no others", async () => {
  const { lines, of } = world();
  for (const sizes of [
    [30, 70],
    [30, 100],
    [70, 100],
    [100, 100],
  ] as const) {
    const proof = await proveConsistency(lines, { ...of, sizes });
    const checked = checkProof(JSON.parse(JSON.stringify(proof)));
    assert.ok(typeof checked !== "string", String(checked));
    assert.match(checked.says, new RegExp(`1 to ${sizes[1]} .* 1 to ${sizes[0]} unchanged`));
    assert.equal(
      typeof checkProof({ ...proof, first: proof.second, second: proof.first }),
      sizes[0] === sizes[1] ? "object" : "string",
    );
    assert.equal(typeof checkProof({ ...proof, proof: [...proof.proof, proof.proof[0] ?? ""] }), "string");
  }
  const altered = lines.with(50, (lines[50] ?? "").replace("GET", "PUT"));
  await assert.rejects(proveConsistency(altered, { ...of, sizes: [30, 70] }), CannotProveError);
  await assert.rejects(proveConsistency(lines, { ...of, sizes: [31, 70] }), /name two sealed sizes/);
  await assert.rejects(proveConsistency(lines, { ...of, sizes: [70, 30] }), /name two sealed sizes/);
  const other = world({ segments: [30, 40, 30], lost: [[41, 45]], unsealed: 10 });
  const foreign = await proveConsistency(other.lines, { ...other.of, sizes: [30, 70] });
  const own = await proveConsistency(lines, { ...of, sizes: [30, 70] });
  assert.equal(checkProof({ ...own, second: foreign.second }), "its seals are of different boots");
});

/** `cardea audit verify`, `prove`, `prove-consistency` and `verify-proof` over files, with public keys alone. */
import assert from "node:assert/strict";
import { readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { formatEvidence, openEvidence } from "../../../src/audit/index.ts";
import { auditErase } from "../../../src/cli/commands/audit/audit-erase.ts";
import { auditProve, auditProveConsistency, auditVerifyProof } from "../../../src/cli/commands/audit/audit-prove.ts";
import { auditVerify } from "../../../src/cli/commands/audit/audit-verify.ts";
import type { CliCommand } from "../../../src/cli/terminal/command.ts";
import { formatLink } from "../../../src/events/index.ts";
import { createReceiptSigner, receiptKeys } from "../../../src/replication/wire/index.ts";
import { evidenceOf, sealBoot } from "../../audit/proof/proof-support.ts";
import { cluster, SealLog, signerOfNode } from "../../audit/seal/seal-support.ts";
import { secret } from "../../audit/support.ts";
import { TemporaryFolder } from "../../support/child.ts";

async function run(command: CliCommand, ...args: readonly string[]) {
  let [out, err] = ["", ""];
  const code = await command.run(args, {
    out: (text) => (out += text),
    err: (text) => (err += text),
    interactive: false,
    env: {},
  });
  return { code, out, err };
}

/** A folder with an audit file, a rotated and a compressed one, seals with a receipt, and the keys. */
async function world(
  folder: TemporaryFolder,
  of: Readonly<{ keySecret?: Uint8Array; status?: "complete" | "lost"; userId?: string }> = {},
) {
  const path = (name: string): string => join(folder.path, name);
  const log = new SealLog();
  const boot = sealBoot(log, { segments: [30, 40, 30], lost: [[41, 45]], unsealed: 4, userId: of.userId });
  const { lines } = boot;
  const text = (from: number, to?: number): string => `${lines.slice(from, to).join("\n")}\n`;
  writeFileSync(path("decisions.jsonl-20260101.gz"), gzipSync(text(0, 20)));
  writeFileSync(path("decisions.jsonl.1"), text(20, 60));
  writeFileSync(path("decisions.jsonl"), text(60));
  utimesSync(path("decisions.jsonl-20260101.gz"), 1_000, 1_000);
  utimesSync(path("decisions.jsonl.1"), 2_000, 2_000);
  const sign = createReceiptSigner(secret);
  const evidence = await Promise.all(
    evidenceOf(log).map(async (one) => {
      const opened = openEvidence(one);
      assert.ok(typeof opened !== "string");
      const receipt = await sign({
        ...{ version: 1, cluster, broker: "broker-1", epoch: 1, at: "2026-11-30T00:00:00.000Z", wait: "none" },
        ...{ status: of.status ?? "complete", complete: of.status !== "lost", region: null, command: null },
        ...{ link: formatLink(opened.link), changes: null, promise: "", nodes: [] },
      });
      return formatEvidence({ ...one, receipt });
    }),
  );
  writeFileSync(path("seals.jsonl"), evidence.map((one) => `${JSON.stringify(one)}\n`).join(""));
  writeFileSync(path("keys.json"), JSON.stringify(await receiptKeys({ cluster, secrets: [of.keySecret ?? secret] })));
  return { ...boot, log, path, seals: ["--seals", path("seals.jsonl")], jwks: ["--jwks", path("keys.json")], evidence };
}

describe("audit verify", () => {
  test("accepts a file with its rotated ones, and names the first bad record", async () => {
    using folder = new TemporaryFolder("audit-verify");
    const { path, seals, jwks, lines } = await world(folder);
    const good = await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks);
    assert.equal(good.code, 0, good.out + good.err);
    assert.match(good.out, /nothing is wrong: 99 records; 100 numbers match the 3 seals/);
    assert.match(good.out, /not sealed: node-1 key-\S+ records 101 to 104: the newest seal ends at 100/);
    assert.equal((await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks, "--require-sealed")).code, 1);
    const altered = lines.with(25, (lines[25] ?? "").replace("GET", "PUT"));
    writeFileSync(path("decisions.jsonl.1"), `${altered.slice(20, 60).join("\n")}\n`);
    utimesSync(path("decisions.jsonl.1"), 2_000, 2_000);
    const bad = await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks);
    assert.equal(bad.code, 1);
    assert.match(bad.out, /^ALTERED: node-1 key-\S+ record 26: it has another content/m);
    const json = JSON.parse((await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks, "--json")).out);
    assert.equal(json.findings[0].first, 26);
    assert.equal((await run(auditVerify, path("decisions.jsonl.1"), ...seals, ...jwks, "--partial")).code, 1);
  });

  test("reads exported seals line by line, and refuses a line that no seal can have", async () => {
    using folder = new TemporaryFolder("audit-seals");
    const { path, seals, jwks, evidence } = await world(folder);
    const padding = `${" ".repeat(1_000_000)}\n`.repeat(3);
    writeFileSync(path("seals.jsonl"), `${padding}${evidence.map((one) => JSON.stringify(one)).join(`\n${padding}`)}`);
    const checked = await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks);
    assert.equal(checked.code, 0, checked.out + checked.err);
    writeFileSync(path("seals.jsonl"), "x".repeat(17_000_000));
    await assert.rejects(run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks), /has a line of more than/);
  });

  test("does not use a seal that a stranger could have made, and refuses receipts of other keys", async () => {
    using folder = new TemporaryFolder("audit-seals");
    const { path, seals, jwks, evidence, signer, tree } = await world(folder);
    const { encodeAuditSeal } = await import("../../../src/replication/wire/index.ts");
    const fake = new SealLog();
    const stranger = signerOfNode("node-1", { secret: Buffer.alloc(32, 1) });
    const seal = stranger.sign(encodeAuditSeal(tree.seal(signer.node, { atMs: 1, final: true, coded: true })));
    const root = tree.made.root.toString("hex");
    const event = { type: "AuditSegmentSealed", nodeId: signer.node, bootId: signer.boot, first: 101, last: 104, root };
    fake.record({ ...event, final: true, seal } as never, null);
    const forged = formatEvidence(evidenceOf(fake)[0] as never);
    writeFileSync(path("seals.jsonl"), [...evidence, forged].map((one) => `${JSON.stringify(one)}\n`).join(""));
    const checked = await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks);
    assert.equal(checked.code, 0, checked.out);
    assert.match(checked.out, /1 seals are by a later boot of their node, without a receipt: they are not used/);
    assert.match(checked.out, /not sealed: .* records 101 to 104/);
    using other = new TemporaryFolder("audit-keys");
    const { path: there, ...rest } = await world(other, { keySecret: Buffer.alloc(32, 2) });
    await assert.rejects(run(auditVerify, there("decisions.jsonl"), ...rest.seals, ...rest.jwks), /receipt is refused/);
    await assert.rejects(run(auditVerify, path("nothing.jsonl"), ...seals), /cannot be read/);
    await assert.rejects(run(auditVerify, ...seals), /name the files/);
  });
});

describe("a proof", () => {
  test("of a record is made from files, and checked with the receipts' keys", async () => {
    using folder = new TemporaryFolder("audit-prove");
    const { path, seals, jwks, signer } = await world(folder);
    const input = ["--input", path("decisions.jsonl"), ...seals, "--no-receipt"];
    const made = await run(auditProve, `${signer.boot}:50`, ...input, "--output", path("proof.json"));
    assert.equal(made.code, 0, made.err);
    const checked = await run(auditVerifyProof, path("proof.json"), ...jwks);
    assert.equal(checked.code, 0, checked.err);
    assert.match(checked.out, /^genuine: the record is number 50 of the boot key-/);
    const text = readFileSync(path("proof.json"), "utf8");
    writeFileSync(path("forged.json"), text.replace("permit", "deny"));
    assert.equal((await run(auditVerifyProof, path("forged.json"), ...jwks)).code, 1);
    const bare = JSON.parse(text);
    delete bare.seal.receipt;
    writeFileSync(path("bare.json"), JSON.stringify(bare));
    const unconfirmed = await run(auditVerifyProof, path("bare.json"), ...jwks);
    assert.deepEqual([unconfirmed.code, /no receipt/.test(unconfirmed.err)], [1, true]);
    assert.equal((await run(auditVerifyProof, path("bare.json"), "--no-receipt")).code, 0);
    assert.equal((await run(auditProve, `${signer.boot}:43`, ...input)).code, 1);
    assert.equal((await run(auditProve, "key-unknown:1", ...input)).code, 1);
    await assert.rejects(run(auditProve, "nothing", ...input), /not the id of a record/);
  });

  test("that two seals are consistent is made and checked likewise; a receipt that says lost is refused", async () => {
    using folder = new TemporaryFolder("audit-consistency");
    const { path, seals, jwks, signer } = await world(folder);
    const input = ["--input", path("decisions.jsonl"), ...seals, "--no-receipt"];
    const made = await run(auditProveConsistency, signer.boot, "30", "100", ...input, "--output", path("c.json"));
    assert.equal(made.code, 0, made.err);
    const checked = await run(auditVerifyProof, path("c.json"), ...jwks);
    assert.match(checked.out, /the numbers 1 to 100 .* has the numbers 1 to 30 unchanged/);
    assert.equal((await run(auditProveConsistency, signer.boot, "31", "100", ...input)).code, 1);
    using lost = new TemporaryFolder("audit-lost");
    const there = await world(lost, { status: "lost" });
    const proof = [
      "--input",
      there.path("decisions.jsonl"),
      ...there.seals,
      "--no-receipt",
      "--output",
      there.path("p.json"),
    ];
    await run(auditProve, `${there.signer.boot}:50`, ...proof);
    const refused = await run(auditVerifyProof, there.path("p.json"), ...there.jwks);
    assert.equal(refused.code, 1, refused.out);
  });
});

test("audit erase keeps what audit verify checks, in plain and compressed files", async () => {
  using folder = new TemporaryFolder("audit-erase");
  const { path, seals, jwks } = await world(folder, { userId: "user-7" });
  for (const [name, size] of [
    ["decisions.jsonl", 900],
    ["decisions.jsonl-20260101.gz", 40],
  ] as const)
    writeFileSync(path(`${name}.erasing`), readFileSync(path(name)).subarray(0, size)); // of a killed process
  const before = await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks);
  assert.equal(before.code, 0, before.out);
  const strange =
    '{"kind":"operator","seq":1,"actor":"user-7"}\n{"kind":"operator","seq":1,"actor":7,"targets":["user-7"]}\n';
  writeFileSync(path("strange.jsonl"), strange);
  assert.equal((await run(auditErase, path("strange.jsonl"), "--user", "user-7")).code, 0);
  const erased = await run(auditErase, path("decisions.jsonl"), "--user", "user-7");
  assert.deepEqual([erased.code, erased.out], [0, "32 records erased in 3 files\n"]);
  const text = [
    gunzipSync(readFileSync(path("decisions.jsonl-20260101.gz"))).toString(),
    readFileSync(path("decisions.jsonl.1"), "utf8"),
    readFileSync(path("decisions.jsonl"), "utf8"),
  ].join("");
  assert.doesNotMatch(text, /user-7/);
  assert.match(text, /user-8/);
  const checked = await run(auditVerify, path("decisions.jsonl"), ...seals, ...jwks);
  assert.equal(checked.code, 0, checked.out);
  assert.match(checked.out, /32 records have been erased/);
  const again = await run(auditErase, path("decisions.jsonl"), "--user", "user-7");
  assert.equal(again.out, "0 records erased in 3 files\n");
  await assert.rejects(run(auditErase, path("decisions.jsonl")), /--user/);
});

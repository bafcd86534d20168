/** Co-signing by an outside witness over HTTP. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  cosignedAt,
  formatEvidence,
  formatNoteKey,
  type KeptSeal,
  type OpenedEvidence,
  openEvidence,
  originOf,
  parseCheckpoint,
  parseNoteKey,
  signCheckpoint,
  treeOver,
} from "../../../src/audit/index.ts";
import { auditVerify } from "../../../src/cli/commands/audit/audit-verify.ts";
import { leavesOfSeals, requestCosignature } from "../../../src/cli/commands/audit/witness-checkpoint.ts";
import { auditCheckpointPair } from "../../../src/replication/wire/index.ts";
import { evidenceOf, type SealedBoot, seal, sealBoot } from "../../audit/proof/proof-support.ts";
import { cluster, SealLog } from "../../audit/seal/seal-support.ts";
import { secret } from "../../audit/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { startWitness, witnessName } from "../../support/witness.ts";

const keptOf = (log: SealLog): readonly KeptSeal[] =>
  evidenceOf(log).map((evidence) => {
    const opened = openEvidence(evidence);
    assert.ok(typeof opened !== "string");
    return { opened, evidence };
  });

const openedOf = (log: SealLog): readonly OpenedEvidence[] => keptOf(log).map(({ opened }) => opened);

const grow = (log: SealLog, boot: SealedBoot): void => {
  boot.tree.append(createHash("sha256").update(String(boot.tree.size)).digest());
  seal(log, boot, { final: false });
};

test("a witness co-signs each state of the seals that continues the last, and nothing else", async (t) => {
  const pair = auditCheckpointPair(secret);
  const origin = originOf(cluster);
  const witness = await startWitness(t, formatNoteKey(origin, pair));
  const key = parseNoteKey(witness.key);
  assert.ok(typeof key !== "string");
  const cosign = (log: SealLog): Promise<string> => {
    const leaves = leavesOfSeals(openedOf(log));
    const { size, root } = treeOver(leaves);
    return requestCosignature({ url: witness.url, key, leaves, note: signCheckpoint({ origin, size, root }, pair) });
  };
  const log = new SealLog();
  const boot = sealBoot(log, { segments: [3] });
  for (let count = 1; count <= 12; count++) {
    const note = await cosign(log);
    const checkpoint = parseCheckpoint(note);
    assert.equal(checkpoint?.size, count);
    assert.equal(checkpoint && cosignedAt(checkpoint, key), 1_796_000_000);
    assert.deepEqual(checkpoint?.root, log.projection.auditSeals.tree.root, "it is the tree of the projection");
    for (let more = 0; more < (count === 4 ? 5 : 1); more++) grow(log, boot);
    if (count === 4) count += 4;
  }
  assert.equal(await cosign(log), await cosign(log), "the same state again");

  const fork = new SealLog();
  sealBoot(fork, { segments: Array.from({ length: 20 }, () => 1) });
  await assert.rejects(cosign(fork), /the witness answers 422: not consistent/);
  const shorter = new SealLog();
  sealBoot(shorter, { segments: [1] });
  await assert.rejects(cosign(shorter), /has signed a tree of 13 seals, and there are 1/);
  const equal = new SealLog();
  sealBoot(equal, { segments: Array.from({ length: 13 }, () => 1) });
  await assert.rejects(cosign(equal), /has signed another tree/);
  witness.state.mode = "wrong-key";
  await assert.rejects(cosign(log), /no signature by its key/);
  witness.state.mode = "broken";
  await assert.rejects(cosign(log), /does not answer/);
});

test("audit verify refuses seals that are not those that a witness has co-signed", async (t) => {
  using folder = new TemporaryFolder("audit-witness");
  const path = (file: string): string => join(folder.path, file);
  const pair = auditCheckpointPair(secret);
  const origin = originOf(cluster);
  const witness = await startWitness(t, formatNoteKey(origin, pair));
  const key = parseNoteKey(witness.key);
  assert.ok(typeof key !== "string");
  const log = new SealLog();
  const { lines } = sealBoot(log, { segments: [4, 4, 4] });
  const leaves = leavesOfSeals(openedOf(log));
  const { size, root } = treeOver(leaves);
  const note = await requestCosignature({
    url: witness.url,
    key,
    leaves,
    note: signCheckpoint({ origin, size, root }, pair),
  });
  writeFileSync(path("witness.note"), note);
  writeFileSync(path("records.jsonl"), `${lines.join("\n")}\n`);
  const verifies = async (seals: readonly KeptSeal[], text = note): Promise<readonly [number, string]> => {
    const evidence = seals.map((one) => `${JSON.stringify(formatEvidence(one.evidence))}\n`).join("");
    writeFileSync(path("seals.jsonl"), evidence);
    writeFileSync(path("witness.note"), text);
    let out = "";
    const args = ["--seals", path("seals.jsonl"), "--witness", path("witness.note"), "--witness-key", witness.key];
    const terminal = { out: (part: string) => (out += part), err: () => undefined, interactive: false, env: {} };
    return [await auditVerify.run([path("records.jsonl"), ...args, "--partial"], terminal), out];
  };
  const kept = keptOf(log);
  const [code, out] = await verifies(kept);
  assert.equal(code, 0, out);
  assert.match(out, /witness\.example\/w1 has co-signed the first 3 of 3 seals/);
  assert.match((await verifies(kept.slice(0, 2)))[1], /has co-signed 3 seals .*, and there are 2/);
  const other = new SealLog();
  sealBoot(other, { segments: [4, 4, 4] });
  assert.deepEqual((await verifies(keptOf(other)))[0], 1);
  for (const forged of [
    note.replace("\n3\n", "\n2\n"),
    note.split("\n\n")[0] ?? "",
    "",
    note.replace(witnessName, "other"),
  ])
    assert.deepEqual((await verifies(kept, forged))[0], 1);
  assert.equal(typeof parseNoteKey(witness.key.replace("+", "x+")), "string", "the hash binds the name");
  for (const bad of ["", "a+b+c", `${witness.key}=`]) assert.equal(typeof parseNoteKey(bad), "string");
  assert.equal(parseCheckpoint(`${note}${"— a b\n".repeat(100)}`), undefined);
});

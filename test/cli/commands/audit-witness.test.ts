/**
 * Co-signing by an outside witness over HTTP. The witness here follows C2SP tlog-witness by itself: its own parser, its
 * own hash tree, and its own state.
 */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  cosignedAt,
  formatEvidence,
  formatNoteKey,
  type KeptSeal,
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

const sha256 = (...parts: readonly Uint8Array[]): Buffer => createHash("sha256").update(Buffer.concat(parts)).digest();
const rawKey = (key: KeyObject): Buffer => key.export({ format: "der", type: "spki" }).subarray(12);
const name = "witness.example/w1";

type Seen = { size: number; root: string };

/** RFC 6962 §2.1.2, read from the proof's end, as recursion. */
function rootsOf(m: number, n: number, proof: Buffer[], known: Buffer | null): readonly [Buffer, Buffer] {
  if (m === n) {
    const hash = known ?? proof.shift();
    assert.ok(hash !== undefined);
    return [hash, hash];
  }
  let k = 1;
  while (k * 2 < n) k *= 2;
  const node = (left: Buffer, right: Buffer): Buffer => sha256(Buffer.from([1]), left, right);
  if (m <= k) {
    const [before, after] = rootsOf(m, k, proof, known);
    const right = proof.shift();
    assert.ok(right !== undefined);
    return [before, node(after, right)];
  }
  const [before, after] = rootsOf(m - k, n - k, proof, null);
  const left = proof.shift();
  assert.ok(left !== undefined);
  return [node(left, before), node(left, after)];
}

/** A witness that trusts one log. */
async function startWitness(t: TestContext, logKey: string) {
  const pair = generateKeyPairSync("ed25519");
  const raw = rawKey(pair.publicKey);
  const id = sha256(Buffer.from(`${name}\n`), Buffer.from([4]), raw).subarray(0, 4);
  const [, origin = "", material = ""] = /^([^+]+)\+[0-9a-f]{8}\+(.+)$/.exec(logKey) ?? [];
  const logPublic = Buffer.from(material, "base64").subarray(1);
  const seen = new Map<string, Seen>();
  const state = { mode: "good" as "good" | "broken" | "wrong-key" };

  function answer(body: string): readonly [number, string, string?] {
    const [head = "", ...rest] = body.split("\n\n");
    const note = rest.join("\n\n");
    const [oldLine = "", ...proofLines] = head.split("\n");
    const old = Number(/^old (0|[1-9]\d*)$/.exec(oldLine)?.[1] ?? Number.NaN);
    const text = note.slice(0, note.lastIndexOf("\n\n") + 1);
    const [from = "", sizeText = "", root = ""] = text.split("\n");
    const size = Number(sizeText);
    if (from !== origin) return [404, "unknown log\n"];
    const signature = /\n\n— (\S+) (\S+)\n$/.exec(note);
    const bytes = Buffer.from(signature?.[2] ?? "", "base64").subarray(4);
    const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), logPublic]);
    const key = { key: spki, format: "der", type: "spki" } as const;
    if (signature?.[1] !== origin || !verify(null, Buffer.from(text), key, bytes)) return [403, "bad signature\n"];
    if (!(old <= size)) return [400, "bad sizes\n"];
    const known = seen.get(origin) ?? { size: 0, root: "" };
    if (known.size !== old) return [409, `${known.size}\n`, "text/x.tlog.size"];
    if (old === size && known.root !== root) return [409, "another root\n"];
    if (old > 0 && old < size) {
      try {
        const proof = proofLines.map((line) => Buffer.from(line, "base64"));
        const isPower = (old & (old - 1)) === 0;
        const start = isPower ? Buffer.from(known.root, "base64") : null;
        const [before, after] = rootsOf(old, size, proof, start);
        assert.equal(before.toString("base64"), known.root);
        assert.equal(after.toString("base64"), root);
        assert.equal(proof.length, 0);
      } catch {
        return [422, "not consistent\n"];
      }
    }
    seen.set(origin, { size, root });
    const at = 1_796_000_000;
    const message = Buffer.from(`cosignature/v1\ntime ${at}\n${text}`);
    const time = Buffer.alloc(8);
    time.writeBigUInt64BE(BigInt(at));
    const other = generateKeyPairSync("ed25519").privateKey;
    const signed = sign(null, message, state.mode === "wrong-key" ? other : pair.privateKey);
    return [200, `— ${name} ${Buffer.concat([id, time, signed]).toString("base64")}\n`];
  }

  const server = createServer((request, response) => {
    if (state.mode === "broken") return void response.destroy();
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const [status, text, type = "text/plain"] =
        request.url === "/add-checkpoint" ? answer(body) : ([404, ""] as const);
      response.writeHead(status, { "content-type": type }).end(text);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const key = `${name}+${id.toString("hex")}+${Buffer.concat([Buffer.from([4]), raw]).toString("base64")}`;
  const { port } = server.address() as AddressInfo;
  return { url: new URL(`http://127.0.0.1:${port}/add-checkpoint`), key, seen, state };
}

const keptOf = (log: SealLog): readonly KeptSeal[] =>
  evidenceOf(log).map((evidence) => {
    const opened = openEvidence(evidence);
    assert.ok(typeof opened !== "string");
    return { opened, evidence };
  });

const grow = (log: SealLog, boot: SealedBoot): void => {
  boot.tree.append(sha256(Buffer.from(String(boot.tree.size))));
  seal(log, boot, { final: false });
};

test("a witness co-signs each state of the seals that continues the last, and nothing else", async (t) => {
  const pair = auditCheckpointPair(secret);
  const origin = originOf(cluster);
  const witness = await startWitness(t, formatNoteKey(origin, pair));
  const key = parseNoteKey(witness.key);
  assert.ok(typeof key !== "string");
  const cosign = (log: SealLog): Promise<string> => {
    const leaves = leavesOfSeals(keptOf(log));
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
  const leaves = leavesOfSeals(keptOf(log));
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
  for (const forged of [note.replace("\n3\n", "\n2\n"), note.split("\n\n")[0] ?? "", "", note.replace(name, "other")])
    assert.deepEqual((await verifies(kept, forged))[0], 1);
  assert.equal(typeof parseNoteKey(witness.key.replace("+", "x+")), "string", "the hash binds the name");
  for (const bad of ["", "a+b+c", `${witness.key}=`]) assert.equal(typeof parseNoteKey(bad), "string");
  assert.equal(parseCheckpoint(`${note}${"— a b\n".repeat(100)}`), undefined);
});

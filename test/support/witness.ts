/**
 * Witness: an outside witness over HTTP for the tests. It follows C2SP tlog-witness by itself: its own parser, its own
 * hash tree, and its own state.
 */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

const sha256 = (...parts: readonly Uint8Array[]): Buffer => createHash("sha256").update(Buffer.concat(parts)).digest();
const rawKey = (key: KeyObject): Buffer => key.export({ format: "der", type: "spki" }).subarray(12);
export const witnessName = "witness.example/w1";

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
export async function startWitness(t: TestContext, logKey: string) {
  const pair = generateKeyPairSync("ed25519");
  const raw = rawKey(pair.publicKey);
  const id = sha256(Buffer.from(`${witnessName}\n`), Buffer.from([4]), raw).subarray(0, 4);
  const [, origin = "", material = ""] = /^([^+]+)\+[0-9a-f]{8}\+(.+)$/.exec(logKey) ?? [];
  const logPublic = Buffer.from(material, "base64").subarray(1);
  const seen = new Map<string, Seen>();
  /** The status of each answer. */
  const answers: number[] = [];
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
    return [200, `— ${witnessName} ${Buffer.concat([id, time, signed]).toString("base64")}\n`];
  }

  const server = createServer((request, response) => {
    if (state.mode === "broken") return void response.destroy();
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const [status, text, type = "text/plain"] =
        request.url === "/add-checkpoint" ? answer(body) : ([404, ""] as const);
      answers.push(status);
      response.writeHead(status, { "content-type": type }).end(text);
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const key = `${witnessName}+${id.toString("hex")}+${Buffer.concat([Buffer.from([4]), raw]).toString("base64")}`;
  const { port } = server.address() as AddressInfo;
  return { url: new URL(`http://127.0.0.1:${port}/add-checkpoint`), key, answers, state };
}

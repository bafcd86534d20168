/**
 * The life of a receipt on a real cluster: watched on a terminal while one node is silent and the leader dies, saved to
 * a file, and verified by an auditor.
 *
 * The auditor has only that file and the public keys, and verifies after the whole cluster has stopped.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createPublicKey, verify } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import type { Receipt } from "../../../src/replication/index.ts";
import { receiptKeysPath } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, runCardea, startCluster } from "./cluster.ts";
import { fasterStart } from "./cluster-process.ts";

let cluster: Cluster;
const folder = new TemporaryFolder("auditor");
const receiptFile = join(folder.path, "receipt.jws");
const keysFile = join(folder.path, "keys.json");
before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "south"] });
  },
  { timeout: 400_000 },
);
after(async () => {
  await cluster?.stop();
  folder.remove();
});

test("a watched receipt names the missing node, survives the loss of the leader, and is signed by the next leader", async (t) => {
  const session = await cluster.session("alice");
  const [leader, next, silent] = [await cluster.leader(), await cluster.follower(), cluster.proxy(2)];
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  silent.pause();
  const watching = spawn(
    process.execPath,
    [
      ...["--no-warnings", mainFile, "sessions", "revoke", session.id, "--wait", "--timeout", "60s", "--json"],
      ...["--output", receiptFile, "-c", cluster.authenticate.configFile],
    ],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...fasterStart } },
  );
  const receipts: Receipt[] = [];
  createInterface({ input: watching.stdout }).on("line", (line) => receipts.push(JSON.parse(line).receipt));
  let err = "";
  watching.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  const ended = once(watching, "close");
  try {
    await waitFor("a receipt that lacks a node", () => receipts.length > 0 || watching.exitCode !== null, {
      withinMs: 30_000,
    });
    await leader.kill();
    await waitFor("the follower to lead", async () => (await cluster.leader()).name === next.name, {
      withinMs: 30_000,
    });
  } finally {
    silent.resume();
    cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
  }
  const [code] = await ended;
  assert.equal(code, 0, err);
  t.diagnostic(
    `${receipts.length} changes: ${receipts.map(({ epoch, complete }) => `epoch ${epoch} ${complete}`).join(", ")}`,
  );
  const [first, last] = [receipts[0], receipts.at(-1)];
  const missing = first?.nodes.find(({ node }) => node === silent.name);
  assert.equal(first?.complete, false);
  assert.equal(missing?.status, "unconfirmed");
  assert.ok(
    missing.reason !== "" && (missing.fencedInMs ?? 0) > 0,
    "the receipt names the node, the reason, and the time until it is fenced",
  );
  assert.ok(receipts.slice(0, -1).every(({ signed }) => signed === null));
  assert.equal(last?.complete, true);
  assert.ok((last?.epoch ?? 0) > (first?.epoch ?? 0), "the last receipt is from the new leader's epoch");
});

test("every proxy serves the receipt keys on the authenticate host, without credentials", async () => {
  const bodies = new Set<string>();
  for (const proxy of cluster.proxies) {
    const answer = await cluster.get(proxy, "authenticate", null, receiptKeysPath);
    assert.equal(answer.status, 200, answer.body);
    assert.match(String(answer.headers["content-type"]), /application\/jwk-set\+json/);
    bodies.add(answer.body);
  }
  const [text = "", another] = [...bodies];
  assert.equal(another, undefined);
  assert.deepEqual(
    Object.keys(JSON.parse(text).keys[0]).sort(),
    ["alg", "crv", "kid", "kty", "use", "x"],
    "only the public part of the key",
  );
  writeFileSync(keysFile, text);
});

test("with the cluster stopped, the saved receipt and keys verify, with `cardea receipts verify` and with a plain crypto library", async () => {
  await cluster.stop();
  const verified = await runCardea(["receipts", "verify", receiptFile, "--jwks", keysFile]);
  assert.equal(verified.code, 0, verified.err);
  assert.match(
    verified.out,
    /^genuine: [\s\S]*SessionRevoked: 1 session[\s\S]*proxy-2 .*(applied|fenced)[\s\S]*\ncomplete: /,
  );

  // The recipe of docs/receipts.md, without any code of Cardea.
  const [head = "", body = "", signature = ""] = readFileSync(receiptFile, "utf8").trim().split(".");
  const header = JSON.parse(Buffer.from(head, "base64url").toString());
  const set = JSON.parse(readFileSync(keysFile, "utf8")) as {
    keys: (import("node:crypto").webcrypto.JsonWebKey & { kid: string })[];
  };
  const key = set.keys.find(({ kid }) => kid === header.kid);
  assert.ok(key !== undefined);
  assert.deepEqual([header.alg, header.typ], ["EdDSA", "cardea-receipt+jwt"]);
  const data = Buffer.from(`${head}.${body}`);
  assert.ok(verify(null, data, createPublicKey({ key, format: "jwk" }), Buffer.from(signature, "base64url")));
  const claims = JSON.parse(Buffer.from(body, "base64url").toString());
  assert.deepEqual([claims.status, claims.complete], ["complete", true]);
  assert.ok(!JSON.stringify(claims).includes("@"), "the receipt holds no e-mail address");
});

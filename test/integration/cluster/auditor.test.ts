/**
 * What an auditor relies on, on a real cluster: how many audit records the sinks of each node do not have, and the life
 * of a receipt: watched on a terminal while one node is silent and the leader dies, saved to a file, and verified.
 *
 * The auditor has only that file and the public keys, and verifies after the whole cluster has stopped.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createPublicKey, verify } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import type { HeardStatus } from "../../../src/audit/index.ts";
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
/** The node whose records the webhook refuses now. */
let refusedNode: string | null = null;
const webhook = createServer(async (request, response) => {
  const records = await text(request);
  const isRefused = refusedNode !== null && records.includes(`"node":"${refusedNode}"`);
  response.writeHead(isRefused ? 503 : 204).end();
});

before(
  async () => {
    await once(webhook.listen(0, "127.0.0.1"), "listening");
    const { port } = webhook.address() as AddressInfo;
    const sink = { webhook: `http://127.0.0.1:${port}/`, name: "hook", bearer_token: "test", batch_wait: "100ms" };
    cluster = await startCluster({
      ...{ timing: "default", regions: ["north", "south"] },
      settings: { audit: { sinks: [sink, { nats: true }] } },
    });
  },
  { timeout: 400_000 },
);
after(async () => {
  await cluster?.stop();
  webhook.closeAllConnections();
  webhook.close();
  folder.remove();
});

type SinkStatus = HeardStatus["sinks"][number];
type AuditStatus = Readonly<{
  blind: number;
  nodes: readonly Readonly<{ node: string; silent: boolean; sinks: readonly SinkStatus[] }>[];
  unheard: readonly string[] | null;
}>;

async function auditStatus(): Promise<AuditStatus> {
  const { status, body } = await cluster.operator.get("/audit/status");
  assert.equal(status, 200, body);
  return JSON.parse(body) as AuditStatus;
}

const sinksOf = ({ nodes }: AuditStatus, name: string): Readonly<Record<string, SinkStatus>> =>
  Object.fromEntries(nodes.find(({ node }) => node === name)?.sinks.map((sink) => [sink.name, sink]) ?? []);

/** Until each node has reported and no sink lacks a record. */
const untilAllHaveAll = (): Promise<AuditStatus> =>
  waitFor(
    "every sink of every node to have every record",
    async () => {
      const status = await auditStatus();
      const isWhole = status.nodes.length === 3 && status.nodes.every(({ silent }) => !silent);
      return isWhole && status.blind === 0 && status.unheard?.length === 0 ? status : undefined;
    },
    { withinMs: 60_000, everyMs: 500 },
  );

test("the authenticate node knows what each sink of each node lacks: while a sink is down, a node is dead, and after both", {
  timeout: 400_000,
}, async () => {
  const [north, south] = [cluster.proxy(1), cluster.proxy(2)];
  const session = await cluster.session("kim");
  for (const proxy of [north, south]) assert.equal((await cluster.get(proxy, "app", session)).status, 200);
  await untilAllHaveAll();

  refusedNode = south.name;
  for (let i = 0; i < 5; i++) {
    for (const proxy of [north, south]) assert.equal((await cluster.get(proxy, "app", session)).status, 200);
  }
  const during = await waitFor(
    "the number of the node whose sink is down",
    async () => {
      const status = await auditStatus();
      return (sinksOf(status, south.name)["webhook hook"]?.blind ?? 0) >= 5 ? status : undefined;
    },
    { withinMs: 60_000, everyMs: 500 },
  );
  const { "webhook hook": refused, nats } = sinksOf(during, south.name);
  assert.deepEqual([refused?.failing, refused?.lost, nats?.blind], [true, 0, 0]);
  assert.equal(during.blind, refused?.blind, "no other sink lacks records");
  assert.equal(await south.metric("cardea_audit_blind_records", { sink: "webhook hook" }), refused?.blind);
  assert.equal(await north.metric("cardea_audit_blind_records", { sink: "webhook hook" }), 0);
  const shown = await cluster.cardea("audit", "status");
  assert.equal(shown.code, 1, shown.err);
  assert.match(shown.out, new RegExp(`^${south.name} +south +webhook hook +${refused?.blind} .* failing$`, "m"));
  assert.match(shown.out, new RegExp(`^${north.name} +north +webhook hook +0 .* ok$`, "m"));

  cluster.front.setTargets([north.ports.address]);
  await south.kill();
  const dead = await waitFor(
    "the dead node to count as silent",
    async () => {
      const status = await auditStatus();
      return status.nodes.find(({ node }) => node === south.name)?.silent ? status : undefined;
    },
    { withinMs: 90_000, everyMs: 1_000 },
  );
  assert.equal(sinksOf(dead, south.name)["webhook hook"]?.blind, refused?.blind, "its last number stays");
  const silent = await cluster.cardea("audit", "status");
  assert.equal(silent.code, 1, silent.err);
  assert.match(silent.out, new RegExp(`^${south.name} .* silent for \\d+ s$`, "m"));

  // What it heard is in memory only: after a restart nothing is known of the dead node, which is not 0.
  await cluster.authenticate.restart();
  const unknown = await waitFor("the restarted node to name the dead one", async () => {
    const status = await auditStatus();
    return status.unheard?.includes(south.name) ? status : undefined;
  });
  assert.deepEqual(sinksOf(unknown, south.name), {});

  refusedNode = null;
  await south.start();
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
  await untilAllHaveAll();
  const whole = await cluster.cardea("audit", "status");
  assert.equal(whole.code, 0, whole.out + whole.err);
  assert.match(whole.out, /^blind: 0 records$/m);
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

/**
 * Bad batches and pages: signed with the cluster's own key, but with wrong hashes, over real NATS and HTTP.
 *
 * A faulty broker sends them, or an attacker who has `shared_secret`. A node applies nothing of them and logs each
 * refusal. It keeps its projection and continues with valid batches. The signature alone is not enough: the batch must
 * also link.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { request } from "undici";
import { type Broker, startDatabrokerServer } from "../../src/broker/index.ts";
import { decode, encode, type Link, type NodeId, parseBootId, sameLink } from "../../src/events/index.ts";
import { connectNatsFanout, type Fanout } from "../../src/replication/fanout/index.ts";
import { openPostgresLog, verifyLog } from "../../src/replication/log/index.ts";
import { type ReplicaProcess, startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import {
  answererOf,
  answerHeader,
  type Batch,
  createBrokerClient,
  sealAnswer,
} from "../../src/replication/wire/index.ts";
import {
  asked,
  brokerOn,
  cluster,
  createSession,
  quiet,
  random,
  revoke,
  secret,
  session,
  user,
} from "../broker/support.ts";
import { startNats } from "../support/nats.ts";
import { startPostgres } from "../support/postgres.ts";
import { waitFor } from "../support/wait-for.ts";
import { batchAfter, enrolSigner, listenOnNats, sealBatch } from "./cluster/eavesdropper.ts";

const endings: (() => Promise<unknown>)[] = [];
let broker: Broker;
/**
 * `listening` has NATS and reads from the broker itself. `polling` has no NATS and reads through the tampering proxy.
 */
let listening: ReplicaProcess;
let polling: ReplicaProcess;
let nats: Awaited<ReturnType<typeof listenOnNats>>;
let proxy: Awaited<ReturnType<typeof startTamperingProxy>>;
let log: Awaited<ReturnType<typeof openPostgresLog>>;
const logged: string[] = [];

before(async () => {
  const [postgres, servers] = await Promise.all([startPostgres(), startNats()]);
  endings.push(
    () => postgres.stop(),
    () => servers.stop(),
  );
  log = await openPostgresLog({ connectionString: await postgres.newDatabase(), cluster });
  endings.push(() => log.close());
  const fanoutOf = (name: string) => {
    const fanout = connectNatsFanout({
      ...{ servers: servers.urls, cluster, name, secrets: [secret], logger: quiet, randomBytes: random },
    });
    endings.push(() => fanout.close());
    return fanout;
  };
  broker = brokerOn(log, { fanout: fanoutOf("broker-1") });
  endings.push(() => broker.stop());
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port: 0 } },
  });
  endings.push(() => server.close());
  proxy = await startTamperingProxy(server.url);
  endings.push(() => proxy.close());
  await waitFor("a leader", () => broker.leading());
  const note = (facts: object, text: string): void => {
    const { err } = facts as { err?: unknown };
    logged.push(`${text} ${JSON.stringify(facts)} ${err instanceof Error ? `${err.message} ${err.cause ?? ""}` : ""}`);
  };
  const aNode = (name: string, url: string, fanout: Fanout | null): ReplicaProcess => {
    const client = createBrokerClient({
      ...{ urls: [new URL(url)], cluster, role: "proxy", name, secret },
      ...{ clock: systemClock, randomBytes: random, logger: quiet },
    });
    endings.push(() => client.close());
    const node = startReplica({
      ...{ name: name as NodeId, role: "proxy", region: "eu", version: "test" },
      ...{ configHash: () => "c", cluster, secret, databroker: client, fanout, clock: systemClock },
      ...{ randomBytes: random, logger: { debug: note, info: note, warn: note, error: note } },
      ...{ windowMs: () => 60_000, dataDir: null, renewMs: 200, pollMs: 200 },
    });
    endings.push(() => node.stop());
    return node;
  };
  listening = aNode("listening", server.url, fanoutOf("listening"));
  polling = aNode("polling", proxy.url, null);
  for (const node of [listening, polling]) assert.ok(await node.whenReady(60_000));
  nats = await listenOnNats(servers.urls[0] ?? "", cluster);
  endings.push(() => nats.close());
});
after(async () => {
  for (const end of endings.reverse()) await end();
});

type Page = { entries: Uint8Array[]; previous: unknown; last: unknown; head: unknown };
type Tamper = (page: Page) => Page;

/** A proxy that forwards every call and tampers with the pages. It signs its answers with the cluster's own key. */
async function startTamperingProxy(base: string) {
  const signer = answererOf({ cluster, name: "broker-9", boot: parseBootId(randomUUID()), secret, seed: random(32) });
  let tamper: Tamper | null = null;
  let tampered = 0;
  const server = createServer(async (incoming, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const {
      host: _,
      connection: __,
      "transfer-encoding": ___,
      "content-length": ____,
      ...headers
    } = incoming.headers as IncomingHttpHeaders;
    const body = Buffer.concat(chunks);
    try {
      const answer = await request(`${base}${incoming.url}`, {
        ...{ method: incoming.method as "GET", headers: headers as Record<string, string> },
        body: body.length > 0 ? body : null,
      });
      let bytes: Uint8Array = await answer.body.bytes();
      const outcome =
        incoming.url?.startsWith("/v1/events") === true ? (decode(bytes) as { type: string; page: Page }) : null;
      if (tamper !== null && outcome?.type === "page" && outcome.page.entries.length > 0) {
        bytes = encode({ ...outcome, page: tamper(outcome.page) });
        tampered += 1;
      }
      const { jti: callId = "" } = decodeJwt((incoming.headers.authorization ?? "").slice("Bearer ".length));
      const status = answer.statusCode;
      response
        .writeHead(status, {
          "content-type": String(answer.headers["content-type"] ?? ""),
          [answerHeader]: sealAnswer(signer, { callId, status, body: bytes }),
        })
        .end(bytes);
    } catch {
      response.destroy();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tampered: () => tampered,
    tamperWith(next: Tamper | null): void {
      tamper = next;
      tampered = 0;
    },
    async close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const flipped = (bytes: Uint8Array, at: number): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
const anotherHash = (link: Link): Link => ({
  ...link,
  hash: link.hash.replace(/^./, (c) => (c === "0" ? "1" : "0")) as Link["hash"],
});

async function done(role: "authenticate" | "operator", command: Parameters<typeof asked>[0]): Promise<Link> {
  const result = await broker.databroker(role).submit(asked(command));
  return result.type === "done" ? result.link : assert.fail(JSON.stringify(result));
}

const batches: readonly (readonly [string, (batch: Batch) => Batch])[] = [
  ["with a changed event", (b) => ({ ...b, entries: b.entries.map((bytes) => flipped(bytes, 40)) })],
  ["that ends at another hash", (b) => ({ ...b, last: anotherHash(b.last) })],
  ["that begins at another hash", (b) => ({ ...b, previous: anotherHash(b.previous) })],
  ["without its event", (b) => ({ ...b, entries: [] })],
];
for (const [what, alter] of batches) {
  test(`a batch over NATS ${what}, under the cluster's own key, is refused and counted; the genuine one is applied`, async () => {
    const id = `batch-${what.replaceAll(" ", "-")}`;
    const created = await done("authenticate", createSession(id, "alice"));
    await waitFor("the node to apply the session", () => sameLink(listening.applied, created));
    const refusals = (): number => {
      const { refused } = listening.metrics() as { refused: Record<string, number> };
      return (refused["delivery: does-not-chain"] ?? 0) + (refused["delivery: malformed"] ?? 0);
    };
    const { batch } = await nats.batchEndingAt(created);
    const { epoch, incarnation } = batch;
    const signer = enrolSigner({ cluster, secret, role: "broker", name: "broker-1", epoch, incarnation });
    const revocation = batchAfter(
      created,
      { type: "SessionRevoked", sessionId: session(id), userId: user("alice"), reason: "operator" },
      { epoch, incarnation },
    );
    const before = refusals();
    await nats.send(sealBatch(signer, alter(revocation)), sealBatch(signer, alter(revocation)));
    await waitFor("the refusal to be counted", () => refusals() > before);
    assert.ok(sameLink(listening.applied, created), "nothing was applied");
    assert.equal(listening.projection.sessionStatus(session(id)).status, "active");
    assert.ok(logged.some((line) => /a delivery was refused.*(does-not-chain|malformed)/.test(line)));

    const revoked = await done("operator", revoke(id));
    await waitFor("the genuine batch to be applied", () => sameLink(listening.applied, revoked));
    await waitFor("the node to be fresh", () => listening.ready().ready);
  });
}

const pages: readonly (readonly [string, Tamper])[] = [
  ["with a changed event", (page) => ({ ...page, entries: page.entries.map((bytes) => flipped(bytes, 40)) })],
  ["with a truncated event", (page) => ({ ...page, entries: page.entries.map((bytes) => bytes.subarray(0, 20)) })],
  ["without its event", (page) => ({ ...page, entries: [] })],
  ["with bytes that are no event", (page) => ({ ...page, entries: page.entries.map(() => random(64)) })],
];
for (const [n, [what, tamper]] of pages.entries()) {
  test(`a page over HTTP ${what}, signed with the cluster's own key, is refused and logged; nothing of it is applied, and the projection stays`, async (t) => {
    const id = `page-${n}`;
    const created = await done("authenticate", createSession(id, "alice"));
    await waitFor("the node to apply the session", () => sameLink(polling.applied, created));
    const from = logged.length;
    proxy.tamperWith(tamper);
    const revoked = await done("operator", revoke(id));
    try {
      await waitFor("bad pages to be sent", () => proxy.tampered() >= 3, { withinMs: 20_000 });
      assert.ok(sameLink(polling.applied, created), "nothing was applied");
      assert.equal(polling.projection.sessionStatus(session(id)).status, "active", "the projection is unchanged");
      await waitFor("the other node to continue", () => sameLink(listening.applied, revoked));
      const statuses = await waitFor("the other node's confirmation", async () => {
        const receipt = await broker
          .databroker("operator")
          .receipt({ type: "link", link: revoked }, { wait: "all", timeoutMs: 0 });
        assert.equal(receipt.complete, false, "and the receipt does not claim that it is in force there");
        const all = receipt.nodes.map(({ node, status }) => `${node} ${status}`).sort();
        return all.includes("listening applied") && all;
      });
      assert.deepEqual(statuses, ["listening applied", "polling unconfirmed"]);
      const refusal = /a read from the brokers failed.*(chain|malformed|does not match its API)/;
      const reason = (): string | undefined => logged.slice(from).find((line) => refusal.test(line));
      await waitFor("the node to log why", () => reason() !== undefined, { withinMs: 20_000 }).catch(() => {});
      t.diagnostic(reason()?.slice(0, 400) ?? logged.slice(from).join("\n").slice(0, 1_000));
      assert.ok(reason() !== undefined);
    } finally {
      proxy.tamperWith(null);
    }
    await waitFor("the genuine batch to be applied", () => sameLink(polling.applied, revoked), { withinMs: 20_000 });
    assert.equal((await verifyLog(log)).type, "intact");
  });
}

/**
 * Batches and pages that are signed by the cluster's own key and whose hashes are wrong, over real NATS and HTTP: a
 * broker gone mad, or one who reads `shared_secret`. Not who says it, but that it chains, is what a node goes by: it
 * applies nothing of it, says what it refused, keeps what it had, and goes on with what is sound.
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
import {
  answererOf,
  answerHeader,
  type Batch,
  connectNatsFanout,
  createBrokerClient,
  type Fanout,
  openPostgresLog,
  type ReplicaProcess,
  sealAnswer,
  startReplica,
  systemClock,
  verifyLog,
} from "../../src/replication/index.ts";
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
/** One hears NATS and asks the broker itself; one has no NATS and asks through what bends pages. */
let hearing: ReplicaProcess;
let polling: ReplicaProcess;
let nats: Awaited<ReturnType<typeof listenOnNats>>;
let mad: Awaited<ReturnType<typeof startMadBroker>>;
let log: Awaited<ReturnType<typeof openPostgresLog>>;
const said: string[] = [];

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
  mad = await startMadBroker(server.url);
  endings.push(() => mad.close());
  await waitFor("a leader", () => broker.leading());
  const note = (facts: object, text: string): void => {
    const { err } = facts as { err?: unknown };
    said.push(`${text} ${JSON.stringify(facts)} ${err instanceof Error ? `${err.message} ${err.cause ?? ""}` : ""}`);
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
  hearing = aNode("hearing", server.url, fanoutOf("hearing"));
  polling = aNode("polling", mad.url, null);
  for (const node of [hearing, polling]) assert.ok(await node.whenReady(60_000));
  nats = await listenOnNats(servers.urls[0] ?? "", cluster);
  endings.push(() => nats.close());
});
after(async () => {
  for (const end of endings.reverse()) await end();
});

type Page = { entries: Uint8Array[]; previous: unknown; last: unknown; head: unknown };
type Bend = (page: Page) => Page;

/** Hands everything on, and bends the pages on their way; what it says is sealed with the cluster's own key. */
async function startMadBroker(base: string) {
  const speaker = answererOf({ cluster, name: "broker-9", boot: parseBootId(randomUUID()), secret, seed: random(32) });
  let bend: Bend | null = null;
  let bent = 0;
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
      if (bend !== null && outcome?.type === "page" && outcome.page.entries.length > 0) {
        bytes = encode({ ...outcome, page: bend(outcome.page) });
        bent += 1;
      }
      const { jti: callId = "" } = decodeJwt((incoming.headers.authorization ?? "").slice("Bearer ".length));
      const status = answer.statusCode;
      response
        .writeHead(status, {
          "content-type": String(answer.headers["content-type"] ?? ""),
          [answerHeader]: sealAnswer(speaker, { callId, status, body: bytes }),
        })
        .end(bytes);
    } catch {
      response.destroy();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bent: () => bent,
    bendWith(next: Bend | null): void {
      bend = next;
      bent = 0;
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
  ["whose event was changed", (b) => ({ ...b, entries: b.entries.map((bytes) => flipped(bytes, 40)) })],
  ["that ends at another hash", (b) => ({ ...b, last: anotherHash(b.last) })],
  ["that begins at another hash", (b) => ({ ...b, previous: anotherHash(b.previous) })],
  ["that leaves its event out", (b) => ({ ...b, entries: [] })],
];
for (const [what, alter] of batches) {
  test(`a batch over NATS ${what}, under the cluster's own key, is refused and counted; the genuine one is applied`, async () => {
    const id = `batch-${what.replaceAll(" ", "-")}`;
    const created = await done("authenticate", createSession(id, "alice"));
    await waitFor("the node to have it", () => sameLink(hearing.applied, created));
    const refusals = (): number => {
      const { refused } = hearing.metrics() as { refused: Record<string, number> };
      return (refused["delivery: does-not-chain"] ?? 0) + (refused["delivery: malformed"] ?? 0);
    };
    const { batch } = await nats.batchEndingAt(created);
    const { epoch, incarnation } = batch;
    const speaker = enrolSigner({ cluster, secret, role: "broker", name: "broker-1", epoch, incarnation });
    const ends = batchAfter(
      created,
      { type: "SessionRevoked", sessionId: session(id), userId: user("alice"), reason: "operator" },
      { epoch, incarnation },
    );
    const before = refusals();
    await nats.send(sealBatch(speaker, alter(ends)), sealBatch(speaker, alter(ends)));
    await waitFor("it to be counted", () => refusals() > before);
    assert.ok(sameLink(hearing.applied, created), "nothing was applied");
    assert.equal(hearing.projection.sessionStatus(session(id)).status, "active");
    assert.ok(said.some((line) => /a delivery was refused.*(does-not-chain|malformed)/.test(line)));

    const revoked = await done("operator", revoke(id));
    await waitFor("what is sound to be applied", () => sameLink(hearing.applied, revoked));
    await waitFor("the node to be fresh", () => hearing.ready().ready);
  });
}

const pages: readonly (readonly [string, Bend])[] = [
  ["whose event was changed", (page) => ({ ...page, entries: page.entries.map((bytes) => flipped(bytes, 40)) })],
  ["whose event was cut short", (page) => ({ ...page, entries: page.entries.map((bytes) => bytes.subarray(0, 20)) })],
  ["that leaves its event out", (page) => ({ ...page, entries: [] })],
  ["of bytes that are no event", (page) => ({ ...page, entries: page.entries.map(() => random(64)) })],
];
for (const [n, [what, bend]] of pages.entries()) {
  test(`a page over HTTP ${what}, sealed by the cluster's own key: nothing is applied, what was is kept, and the node says why`, async (t) => {
    const id = `page-${n}`;
    const created = await done("authenticate", createSession(id, "alice"));
    await waitFor("the node to have it", () => sameLink(polling.applied, created));
    const from = said.length;
    mad.bendWith(bend);
    const revoked = await done("operator", revoke(id));
    try {
      await waitFor("bad pages to be given out", () => mad.bent() >= 3, { withinMs: 20_000 });
      assert.ok(sameLink(polling.applied, created), "nothing was applied");
      assert.equal(polling.projection.sessionStatus(session(id)).status, "active", "what was applied is kept");
      await waitFor("the other node to go on", () => sameLink(hearing.applied, revoked));
      const standings = await waitFor("its confirmation", async () => {
        const receipt = await broker
          .databroker("operator")
          .receipt({ type: "link", link: revoked }, { wait: "all", timeoutMs: 0 });
        assert.equal(receipt.complete, false, "and nobody is told that it is in force there");
        const all = receipt.nodes.map(({ node, status }) => `${node} ${status}`).sort();
        return all.includes("hearing applied") && all;
      });
      assert.deepEqual(standings, ["hearing applied", "polling unconfirmed"]);
      const named = /a read from the brokers failed.*(chain|malformed|not what its API promises)/;
      const why = (): string | undefined => said.slice(from).find((line) => named.test(line));
      await waitFor("the node to say why", () => why() !== undefined, { withinMs: 20_000 }).catch(() => {});
      t.diagnostic(why()?.slice(0, 400) ?? said.slice(from).join("\n").slice(0, 1_000));
      assert.ok(why() !== undefined);
    } finally {
      mad.bendWith(null);
    }
    await waitFor("what is sound to be applied", () => sameLink(polling.applied, revoked), { withinMs: 20_000 });
    assert.equal((await verifyLog(log)).type, "intact");
  });
}

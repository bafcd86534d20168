/** Broker client: how a node calls brokers over HTTP, which answers it accepts, and when it tries the next broker. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, test } from "node:test";
import { decodeJwt, jwtVerify } from "jose";
import {
  type BootId,
  type CommandId,
  type CommandRequest,
  decode,
  encode,
  formatLink,
  genesis,
  type SessionId,
} from "../../../src/events/index.ts";
import { LeaseRefusedError } from "../../../src/replication/lease/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  type AnswerRefusal,
  answererOf,
  answerHeader,
  type BrokerClient,
  type BrokerClientOptions,
  BrokerUnavailableError,
  createBrokerClient,
  type GivenAnswer,
  sealAnswer,
  serviceTokenKey,
} from "../../../src/replication/wire/index.ts";
import { aConfiguration } from "../../contract/configurations.ts";
import { history, quiet, secret, sessionId } from "../support.ts";

type Handler = (request: IncomingMessage, body: Buffer, response: ServerResponse) => void | Promise<void>;
type Broker = Readonly<{ url: URL; requests: string[]; server: Server }> & { handler: Handler };

const servers: Server[] = [];
const clients: BrokerClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

async function aBroker(handler: Handler): Promise<Broker> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      requests.push(`${request.method} ${request.url}`);
      void broker.handler(request, Buffer.concat(chunks), response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  const { port } = server.address() as AddressInfo;
  const broker: Broker = { url: new URL(`http://127.0.0.1:${port}`), requests, server, handler };
  return broker;
}

function aClient(brokers: readonly Pick<Broker, "url">[], parts: Partial<BrokerClientOptions> = {}): BrokerClient {
  const client = createBrokerClient({
    urls: brokers.map(({ url }) => url),
    cluster: "test",
    role: "proxy",
    name: "proxy-1",
    secret,
    clock: systemClock,
    randomBytes: (size) => randomBytes(size),
    logger: quiet,
    ...parts,
  });
  clients.push(client);
  return client;
}

const answer =
  (status: number, body: unknown): Handler =>
  (request, _, response) =>
    answerWith(request, response, { status, body: encode(body) });
/** Signs answers as a broker of the cluster. */
const newSigner = (parts: Readonly<{ secret?: Uint8Array; cluster?: string }> = {}) =>
  answererOf({
    ...{ cluster: "test", name: "broker-1", boot: "boot-1" as BootId, secret },
    ...{ seed: Uint8Array.from(randomBytes(32)) },
    ...parts,
  });
const signer = newSigner();
const callIdOf = ({ headers }: IncomingMessage): string =>
  decodeJwt(headers.authorization?.replace(/^Bearer /, "") ?? "").jti ?? "";

function answerWith(
  request: IncomingMessage,
  response: ServerResponse,
  reply: Readonly<{ status?: number; body?: Uint8Array; seal?: (real: GivenAnswer) => string | undefined }>,
): void {
  const { status = 200, body = new Uint8Array(), seal = (real) => sealAnswer(signer, real) } = reply;
  const sealed = seal({ callId: callIdOf(request), status, body });
  response
    .writeHead(status, {
      "content-type": "application/msgpack",
      ...(sealed === undefined ? {} : { [answerHeader]: sealed }),
    })
    .end(body);
}
const silence: Handler = () => {};
/** An address where nothing listens. */
const unreachable = { url: new URL("http://127.0.0.1:1") };

const log = history(5);
const page = {
  type: "page",
  page: { previous: genesis, entries: log.entries.map(({ bytes }) => bytes), last: log.head, head: log.head, keys: [] },
};
const options = { limit: 10, waitMs: 0 };
const commandId = "11111111-1111-4111-8111-111111111111" as CommandId;
const command: CommandRequest = {
  commandId,
  actor: "service:test",
  command: { type: "revokeSession", sessionId: sessionId(1), reason: "operator" },
};
const done = { type: "done", commandId, link: log.head, changed: true };

test("a client authenticates with a short-lived token of its role", async () => {
  const broker = await aBroker(async (request, _, response) => {
    const token = request.headers.authorization?.replace(/^Bearer /, "") ?? "";
    const key = serviceTokenKey(secret, "proxy");
    const { payload, protectedHeader } = await jwtVerify(token, key, {
      audience: "cardea:test",
      issuer: "proxy-1",
      algorithms: ["HS256"],
    });
    assert.equal(protectedHeader.kid, "proxy");
    assert.equal((payload.exp ?? 0) - (payload.iat ?? 0), 60);
    assert.equal(payload["call"], `GET ${request.url}`, "and names this one call");
    answerWith(request, response, { body: encode(page) });
  });
  assert.equal((await aClient([broker]).read(genesis, options)).type, "page");
});

test("a read requests the events after a link, and tells pages, forks and truncations apart", async () => {
  const broker = await aBroker(answer(200, page));
  const client = aClient([broker]);
  const outcome = await client.read(log.linkAt(3), { limit: 7, waitMs: 250 });
  assert.equal(broker.requests[0], `GET /v1/events?after=${formatLink(log.linkAt(3))}&limit=7&wait=250`);
  assert.ok(outcome.type === "page");
  assert.deepEqual(outcome.page.last, log.head);
  assert.equal(Buffer.compare(outcome.page.entries[4] ?? Buffer.of(), log.entries[4]?.bytes ?? Buffer.of()), 0);
  broker.handler = answer(409, { type: "forked", head: log.head });
  assert.deepEqual(await client.read(genesis, options), { type: "forked", head: log.head });
  broker.handler = answer(410, { type: "truncated", first: 100 });
  assert.deepEqual(await client.read(genesis, options), { type: "truncated", first: 100 });
});

test("an answer that violates the API counts as no answer", async () => {
  const broker = await aBroker(answer(200, { type: "page", page: { ...page.page, head: "?" } }));
  const client = aClient([broker]);
  await assert.rejects(client.read(genesis, options), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  broker.handler = (request, __, response) => answerWith(request, response, { body: Buffer.from("<html>") });
  await assert.rejects(client.read(genesis, options), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  broker.handler = answer(302, {});
  await assert.rejects(client.read(genesis, options), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
});

test("an answer to a command may name the incarnation of its link's epoch, and a malformed one counts as no answer", async () => {
  const named = { ...done, incarnation: "incarnation-1" };
  const broker = await aBroker(answer(200, named));
  assert.deepEqual(await aClient([broker]).submit(command), named);
  broker.handler = answer(200, { ...done, incarnation: "a b" });
  const malformed = await aClient([broker], { submitMs: 200 })
    .submit(command)
    .catch(() => ({ type: "unavailable" }));
  assert.equal(malformed.type, "unavailable");
});

test("a client tries the next broker when one is unreachable, and remembers the one that answered", async () => {
  const good = await aBroker(answer(200, page));
  const client = aClient([unreachable, good]);
  await client.read(genesis, options);
  await client.read(genesis, options);
  assert.equal(good.requests.length, 2);
});

test("a broker that hangs delays a lease by less than the time left of it", async (t) => {
  const hangs = await aBroker(silence);
  const good = await aBroker((request, body, response) =>
    answerWith(request, response, { body: Buffer.concat([Buffer.from("granted:"), body]) }),
  );
  const client = aClient([hangs, good]);
  const startedAt = performance.now();
  const [first] = await Promise.all([client.lease(Buffer.from("renew"))]);
  assert.equal(Buffer.from(first ?? []).toString(), "granted:renew");
  t.diagnostic(`granted after ${Math.round(performance.now() - startedAt)} ms`);
  await client.lease(Buffer.from("renew"));
  assert.equal(hangs.requests.length, 1, "it is no longer tried first");
});

test("clients that share what they know try the broker first that answered another of them", async () => {
  const hangs = await aBroker(silence);
  const good = await aBroker((request, _, response) =>
    answerWith(request, response, request.url?.startsWith("/v1/leases") === true ? {} : { body: encode(page) }),
  );
  const lastGood = { index: 0 };
  const renews = aClient([hangs, good], { role: "broker", lastGood });
  const reads = aClient([hangs, good], { role: "operator", lastGood });
  await renews.lease(Buffer.from("renew"));
  await reads.read(genesis, options);
  assert.equal(hangs.requests.length, 1, "a lost home region may hang, and only the renews wait for it");
});

test("a confirmation and a goodbye are answered only by their acceptance", async () => {
  const broker = await aBroker((request, __, response) => answerWith(request, response, { status: 204 }));
  assert.equal(await aClient([broker]).lease(Buffer.from("confirm")), null);
});

test("without any broker every call fails as unavailable, and can be retried", async () => {
  const client = aClient([unreachable, unreachable]);
  for (const call of [() => client.read(genesis, options), () => client.lease(Buffer.of(1)), () => client.status()]) {
    await assert.rejects(call, { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  }
  await assert.rejects(aClient([]).status(), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
});

test("a refused token is distinguished from unreachable brokers, and each broker is tried once", async () => {
  const broker = await aBroker(answer(401, {}));
  const client = aClient([broker, unreachable, broker]);
  await assert.rejects(client.read(genesis, options), { code: "ERR_REPLICATION_BROKER_REFUSED", status: 401 });
  await assert.rejects(client.submit(command), { code: "ERR_REPLICATION_BROKER_REFUSED" });
  assert.equal(broker.requests.length, 4);
});

test("an unsigned 401 from one address does not stop a node from using the other brokers", async () => {
  const impostor = await aBroker((_, __, response) => void response.writeHead(401).end());
  const good = await aBroker(answer(200, page));
  const client = aClient([impostor, good]);
  assert.equal((await client.read(genesis, options)).type, "page");
  await client.read(genesis, options);
  assert.equal(impostor.requests.length, 1, "and it is no longer tried first");
  let answers = 0;
  good.handler = (request, body, response) => {
    const busy = { type: "unavailable", commandId, message: "no leader", retryAfterMs: 10 };
    answers += 1;
    return answers < 3 ? answer(503, busy)(request, body, response) : answer(200, done)(request, body, response);
  };
  assert.deepEqual(await client.submit(command), done, "and does not turn a delay into a failure");
});

test("a command is sent again with the same id until its outcome is known", async () => {
  const ids: unknown[] = [];
  const answers: Handler[] = [
    (request) => void request.socket.destroy(),
    answer(503, { type: "unavailable", commandId, message: "no leader", retryAfterMs: 10 }),
    answer(500, {}),
    answer(200, done),
  ];
  const broker = await aBroker((request, body, response) => {
    ids.push((decode(body) as CommandRequest).commandId);
    return (answers.shift() ?? silence)(request, body, response);
  });
  const result = await aClient([broker]).submit(command);
  assert.deepEqual(result, done);
  assert.ok(ids.length >= 4 && ids.every((id) => id === commandId));
});

test("a refusal is an answer, so the command is not sent again", async () => {
  const refused = { type: "refused", commandId, code: "not-found", message: "no such session" };
  const broker = await aBroker(answer(200, refused));
  const client = aClient([broker]);
  assert.deepEqual(await client.submit(command), refused);
  broker.handler = answer(403, {});
  assert.equal(((await client.submit(command)) as { code: string }).code, "forbidden");
  broker.handler = answer(400, {});
  assert.equal(((await client.submit(command)) as { code: string }).code, "invalid");
  assert.equal(broker.requests.length, 3);
});

test("a command without a leader in time is reported as unavailable, never as done or refused", async () => {
  const broker = await aBroker(answer(503, { type: "unavailable", commandId, message: "no leader", retryAfterMs: 10 }));
  const result = await aClient([broker], { submitMs: 400 }).submit(command);
  assert.deepEqual(result, { type: "unavailable", commandId, message: "no leader", retryAfterMs: 1_000 });
  assert.ok(broker.requests.length >= 3);
});

test("a long read ends when the caller aborts it", async () => {
  const broker = await aBroker(silence);
  const giveUp = new AbortController();
  const reading = aClient([broker, broker]).read(genesis, { limit: 1, waitMs: 60_000, signal: giveUp.signal });
  setTimeout(() => giveUp.abort(), 50);
  const startedAt = performance.now();
  await assert.rejects(reading);
  assert.ok(performance.now() - startedAt < 30_000, "without waiting to the end");
  assert.equal(broker.requests.length, 1, "and the next broker is not tried");
});

test("receipts, status and tokens are requested and parsed as the API defines them", async () => {
  const receipt = {
    status: "incomplete",
    complete: false,
    wait: "region",
    link: log.head,
    commandId,
    epoch: 1,
    completeInMs: 900,
    nodes: [
      { node: "n", boot: "b", region: "eu", role: "proxy", status: "unconfirmed", fencedInMs: 900, reason: "silent" },
    ],
  };
  const broker = await aBroker(answer(200, receipt));
  const client = aClient([broker]);
  assert.deepEqual(
    await client.receipt({ type: "command", commandId }, { wait: "region", timeoutMs: 10, region: "eu west" }),
    {
      ...receipt,
      ...{ region: null, at: null, signed: null },
      nodes: receipt.nodes.map((node) => ({ ...node, enforced: null })),
    },
    "a receipt of an older broker, which did not sign it",
  );
  await client.receipt({ type: "link", link: log.head }, { wait: "all", timeoutMs: 10, seen: "abc" });
  assert.deepEqual(broker.requests, [
    `GET /v1/receipts/command%3A${commandId}?wait=region&timeout=10&region=eu+west`,
    `GET /v1/receipts/link%3A${formatLink(log.head)}?wait=all&timeout=10&seen=abc`,
  ]);
  const status = {
    cluster: "test",
    leader: { brokerId: "broker-1", url: null, epoch: 1, head: log.head, digest: "d" },
    broker: { brokerId: "broker-1", leading: true, applied: log.head, store: "memory" },
    nodes: [
      {
        node: "n",
        boot: "b",
        region: "eu",
        role: "proxy",
        version: "1",
        applied: log.head,
        enforced: null,
        lag: 0,
        digest: null,
        configHash: null,
        lastGrantAgoMs: 1,
        fencedInMs: null,
        digestMismatch: false,
      },
    ],
  };
  broker.handler = answer(200, status);
  assert.deepEqual(
    await client.status(),
    {
      ...{ ...status, level: 1, brokers: [], leader: { ...status.leader, version: "", reads: 1, durability: null } },
      nodes: status.nodes.map((node) => ({ ...node, reads: null, twin: null, heardAgoMs: null, refusal: null })),
    },
    "the status of an older broker, which did not name the level it reads",
  );
  const tokens = { accessToken: "a", refreshToken: null, idToken: null, accessTokenExpiresAt: 5 };
  broker.handler = answer(200, tokens);
  assert.deepEqual(await client.tokens("s/1" as SessionId), tokens);
  assert.equal(broker.requests.at(-1), "GET /v1/sessions/s%2F1/tokens");
  broker.handler = answer(404, {});
  assert.equal(await client.tokens("s" as SessionId), undefined);
});

test("a stored configuration is accepted only if it matches its hash; the previous version's brokers store none and say so", async () => {
  const broker = await aBroker(answer(404, {}));
  const client = aClient([broker]);
  const { configHash, body, recordedAt } = aConfiguration('{"a":1}');
  broker.handler = answer(200, { configHash, body, recordedAt });
  assert.deepEqual(await client.configuration(configHash), { configHash, body: new Uint8Array(body), recordedAt });
  broker.handler = answer(200, { ...aConfiguration('{"a":2}') });
  assert.equal(await client.configuration(configHash), undefined, "another configuration");
  broker.handler = answer(200, { ...aConfiguration('{"a":2}'), configHash });
  await assert.rejects(client.configuration(configHash), /does not match its API/);
  broker.handler = answer(200, { configurations: [{ configHash, recordedAt, bytes: 9 }] });
  assert.deepEqual(await client.configurations(), [{ configHash, recordedAt, bytes: 9 }]);
  broker.handler = answer(200, { held: true });
  assert.equal(await client.holdsConfiguration(configHash), true);
  assert.equal(broker.requests.at(-1), `GET /v1/configurations/${configHash}/held`);

  broker.handler = answer(404, {});
  assert.equal(await client.configuration(configHash), undefined);
  for (const startedAt of [client.configurations(), client.holdsConfiguration(configHash)])
    await assert.rejects(startedAt, /a version that stores no configurations/);
});

test("plain HTTP is used only to loopback addresses, unless it is allowed", () => {
  const to = (url: string, allowPlaintext = false) => aClient([{ url: new URL(url) }], { allowPlaintext });
  for (const url of [
    "http://127.0.0.1:1",
    "http://127.9.9.9:1",
    "http://[::1]:1",
    "http://localhost:1",
    "https://broker:1",
  ])
    to(url);
  to("http://broker:1", true);
  for (const url of [
    "http://broker:1",
    "http://127.0.0.1.example.com",
    "http://10.0.0.1",
    "http://localhost.example.com",
    "ftp://localhost",
  ]) {
    assert.throws(() => to(url), { code: "ERR_REPLICATION_INSECURE_BROKER_URL" }, url);
  }
});

test("HTTP proxies of the environment are not used", async () => {
  const proxy = await aBroker(silence);
  const broker = await aBroker(answer(200, page));
  const saved = { ...process.env };
  for (const name of ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
    process.env[name] = proxy.url.href;
  process.env["NODE_USE_ENV_PROXY"] = "1";
  try {
    await aClient([broker]).read(genesis, options);
  } finally {
    process.env = saved;
  }
  assert.equal(proxy.requests.length, 0);
});

/** A signed answer to an earlier request, recorded for replay. */
let recordedSeal = "";
const replaySeal = (real: GivenAnswer): string => {
  recordedSeal ||= sealAnswer(signer, real);
  return recordedSeal;
};
const refusals: readonly (readonly [string, AnswerRefusal, (real: GivenAnswer) => string | undefined])[] = [
  ["without a seal", "unsigned", () => undefined],
  ["with a malformed seal", "not-authentic", () => "abc"],
  ["sealed without the secret", "not-authentic", (real) => sealAnswer(newSigner({ secret: randomBytes(32) }), real)],
  ["sealed by another cluster's broker", "not-authentic", (real) => sealAnswer(newSigner({ cluster: "other" }), real)],
  ["for another call", "another-call", (real) => sealAnswer(signer, { ...real, callId: "x".repeat(22) })],
  ["with another status", "altered", (real) => sealAnswer(signer, { ...real, status: 409 })],
  ["with another body", "altered", (real) => sealAnswer(signer, { ...real, body: encode({ type: "forked" }) })],
];
for (const [what, refusal, seal] of refusals) {
  test(`an answer ${what} is counted and not accepted; the client tries the next broker`, async () => {
    const forger = await aBroker((request, _, response) => answerWith(request, response, { body: encode(page), seal }));
    const good = await aBroker(answer(200, page));
    const client = aClient([forger, good]);
    assert.equal((await client.read(genesis, options)).type, "page");
    assert.equal(good.requests.length, 1);
    assert.equal(client.refused()[refusal], 1);
    const alone = aClient([forger]);
    await assert.rejects(alone.read(genesis, options), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  });
}

test("an answer replayed to a later request is not accepted", async () => {
  const replayer = await aBroker((request, _, response) =>
    answerWith(request, response, { body: encode(page), seal: replaySeal }),
  );
  const client = aClient([replayer]);
  assert.equal((await client.read(genesis, options)).type, "page", "the first time it is a valid answer");
  await assert.rejects(client.read(genesis, options), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  assert.equal(client.refused()["another-call"], 1);
});

test("during a change of the secret, answers under the previous secret are accepted", async () => {
  const previousSecret = randomBytes(32);
  const older = newSigner({ secret: previousSecret });
  const broker = await aBroker((request, _, response) =>
    answerWith(request, response, { body: encode(page), seal: (real) => sealAnswer(older, real) }),
  );
  assert.equal((await aClient([broker], { previousSecret }).read(genesis, options)).type, "page");
  await assert.rejects(aClient([broker]).read(genesis, options));
});

const cutOff = {
  type: "unavailable",
  commandId,
  message: "the home region is unreachable",
  retryAfterMs: 5_000,
  code: "home-unreachable",
  outcome: "none",
};
const noLeader = { type: "unavailable", commandId, message: "no leading broker can be reached", retryAfterMs: 1_000 };

test("a command in a region that is cut off is sent once, and was certainly not accepted", async () => {
  const broker = await aBroker(answer(503, cutOff));
  assert.deepEqual(await aClient([broker], { submitMs: 60_000 }).submit(command), cutOff);
  assert.equal(broker.requests.length, 1);
});

test("a broker that reaches the home region is preferred to one that is cut off", async () => {
  const replies = [noLeader, done];
  const lost = await aBroker(answer(503, cutOff));
  const near = await aBroker((request, body, response) => {
    const reply = replies.shift() ?? done;
    return answer(reply.type === "done" ? 200 : 503, reply)(request, body, response);
  });
  assert.equal((await aClient([lost, near], { submitMs: 60_000 }).submit(command)).type, "done");
  assert.equal(replies.length, 0, "the one without a leader was called again");
});

test("once an attempt may have been accepted, the command is never reported as not accepted", async () => {
  const replies = [noLeader, cutOff];
  const broker = await aBroker((request, body, response) => answer(503, replies.shift())(request, body, response));
  const result = await aClient([broker], { submitMs: 60_000 }).submit(command);
  assert.deepEqual(result, { ...cutOff, outcome: "unknown" });
  assert.equal(broker.requests.length, 2);
});

test("a broker that took the call and did not answer leaves the outcome unknown; one that refused the connection does not", async () => {
  const cut = await aBroker(answer(503, cutOff));
  const dropped = await aBroker((request) => void request.socket.destroy());
  const uncertain = await aClient([dropped, cut], { submitMs: 60_000 }).submit(command);
  assert.deepEqual(uncertain, { ...cutOff, outcome: "unknown" });
  assert.deepEqual(await aClient([unreachable, cut], { submitMs: 60_000 }).submit(command), cutOff);
});

test("an answer that no broker signed does not end the attempts", async () => {
  const replies: readonly Handler[] = [
    (request, _, response) =>
      answerWith(request, response, { status: 503, body: encode(cutOff), seal: () => undefined }),
    answer(200, done),
  ];
  let calls = 0;
  const broker = await aBroker((request, body, response) => {
    calls += 1;
    return (replies[calls - 1] ?? answer(500, {}))(request, body, response);
  });
  assert.equal((await aClient([broker], { submitMs: 60_000 }).submit(command)).type, "done");
  assert.equal(calls, 2);
});

test("a receipt in a region that is cut off fails with the reason, whatever the form of the answer", async () => {
  for (const body of [
    encode(cutOff),
    Buffer.from(JSON.stringify({ error: "unavailable", code: "home-unreachable" })),
  ]) {
    const broker = await aBroker((request, _, response) => answerWith(request, response, { status: 503, body }));
    const asks = aClient([broker]).receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 0 });
    await assert.rejects(
      asks,
      (error) => error instanceof BrokerUnavailableError && error.reason === "home-unreachable",
    );
  }
  const notHome = await aBroker(answer(503, { error: "unavailable", code: "not-home" }));
  const elsewhere = aClient([notHome, unreachable]).receipt(
    { type: "command", commandId },
    { wait: "all", timeoutMs: 0 },
  );
  await assert.rejects(elsewhere, (error) => error instanceof BrokerUnavailableError && error.reason === "not-home");
  const leaderless = await aBroker(answer(503, { error: "unavailable" }));
  const there = aClient([notHome, leaderless]).receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 0 });
  await assert.rejects(there, (error) => error instanceof BrokerUnavailableError && error.reason === "no-leader");
  const plain = await aBroker(answer(503, { error: "unavailable", code: "something-newer" }));
  const asks = aClient([plain]).receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 0 });
  await assert.rejects(asks, (error) => error instanceof BrokerUnavailableError && error.reason === "no-leader");
  const none = aClient([unreachable]).receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 0 });
  await assert.rejects(none, (error) => error instanceof BrokerUnavailableError && error.reason === "no-answer");
});

test("a node whose `broker.urls` name a home broker first gets its lease from the next one, with the same renew", async () => {
  const reason = "nodes of region west get leases through its own brokers";
  const home = await aBroker((request, _, response) => {
    const body = Buffer.from(JSON.stringify({ error: "no-lease", code: "past-region", reason }));
    answerWith(request, response, { status: 403, body });
  });
  const west = await aBroker((request, _, response) => answerWith(request, response, { body: Buffer.from("a grant") }));
  const client = aClient([home, west]);
  for (let n = 0; n < 2; n++) assert.equal((await client.lease(new Uint8Array(3)))?.length, "a grant".length);
  assert.deepEqual([home.requests.length, west.requests.length], [1, 2], "it stays with the broker that grants");

  const alone = aClient([home]);
  await assert.rejects(
    alone.lease(new Uint8Array(3)),
    (error) => error instanceof LeaseRefusedError && error.refusal.code === "past-region",
  );
});

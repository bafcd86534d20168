/**
 * The broker's HTTP API on a real listener: tokens and roles, proofs bound to one call, commands, and reads.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { request as httpRequest } from "node:http";
import { after, before, describe, test } from "node:test";
import { SignJWT } from "jose";
import { forwardedHeader } from "../../../src/broker/api/leader-router.ts";
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../../src/broker/index.ts";
import {
  type CommandRequest,
  decode,
  decodeEvent,
  encode,
  formatLink,
  genesis,
  sessionStream,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import { createMemoryLog, type HistoryRequest } from "../../../src/replication/log/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  answerHeader,
  bodyDigest,
  callText,
  createBrokerClient,
  createBrokerOpener,
  createCallSigner,
  type Role,
  refuseAnswer,
  type ServiceCall,
  serviceTokenKey,
} from "../../../src/replication/wire/index.ts";
import {
  aCommandId,
  asked,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  quiet,
  random,
  revoke,
  secret,
  session,
} from "../support.ts";

const previousSecret = new Uint8Array(32).fill(3);
let broker: Broker;
let server: DatabrokerServer;
const written: string[] = [];
const note = (fields: object, message: string): void => {
  written.push(`${message} ${JSON.stringify(fields)}`);
};
const noting: Logger = { debug: note, info: note, warn: note, error: note };

before(async () => {
  broker = brokerOn(createMemoryLog(), { logger: noting, previousSecret });
  server = await startDatabrokerServer({
    ...{ broker, cluster, secret, previousSecret, clock: systemClock, logger: noting },
    listen: { host: "127.0.0.1", port: 0 },
  });
});
after(async () => {
  await server.close();
  await broker.stop();
});

type TokenParts = Readonly<{
  role: Role;
  key: Uint8Array;
  kid: string;
  audience: string | string[];
  issuedAt: number;
  expiresAt: number;
  issuer: string;
  algorithm: string;
  /** The call that the token names; the default is what a process would name. */
  claims: Record<string, unknown>;
}>;

/** A token that is valid for one call, unless its parts say otherwise. */
type TokenOf = (call: ServiceCall) => Promise<string>;

const token =
  (parts: Partial<TokenParts> = {}): TokenOf =>
  async (call) => {
    const role = parts.role ?? "authenticate";
    const now = Math.floor(Date.now() / 1_000);
    const claims = { jti: randomUUID(), call: callText(call), body: bodyDigest(call.body), ...parts.claims };
    return new SignJWT(claims)
      .setProtectedHeader({ alg: parts.algorithm ?? "HS256", kid: parts.kid ?? role })
      .setIssuer(parts.issuer ?? "test")
      .setAudience(parts.audience ?? `cardea:${cluster}`)
      .setIssuedAt(parts.issuedAt ?? now)
      .setExpirationTime(parts.expiresAt ?? now + 60)
      .sign(parts.key ?? serviceTokenKey(secret, role));
  };

type Asked = Readonly<{
  role?: Role;
  authorization?: string | TokenOf | null;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
}>;

async function ask(method: "GET" | "POST", path: string, parts: Asked = {}): Promise<Response> {
  const body = parts.body === undefined ? undefined : Buffer.from(parts.body);
  const { authorization = token({ role: parts.role ?? "authenticate" }) } = parts;
  const given =
    typeof authorization === "function" ? `Bearer ${await authorization({ method, path, body })}` : authorization;
  return fetch(`${server.url}${path}`, {
    method,
    headers: { ...(given === null ? {} : { authorization: given }), ...parts.headers },
    ...(body === undefined ? {} : { body }),
  });
}
const command = (request: CommandRequest, role: Role = "authenticate") =>
  ask("POST", "/v1/commands", { role, body: encode(request), headers: { "content-type": "application/msgpack" } });
const unpacked = async (response: Response): Promise<Record<string, unknown>> =>
  decode(new Uint8Array(await response.arrayBuffer())) as Record<string, unknown>;

test("only operators read the history of streams, in which each event has the link before it", async () => {
  const made = await broker.databroker("authenticate").submit(asked(createSession("history-1", "bob")));
  if (made.type !== "done") return assert.fail();
  const client = createBrokerClient({
    ...{ urls: [new URL(server.url)], cluster, role: "operator", name: "test", secret, clock: systemClock },
    ...{ logger: quiet, randomBytes: random },
  });
  const request: HistoryRequest = { streams: [], upTo: made.link.position, depth: 100 };
  const nothing = await client.history(request);
  assert.deepEqual([nothing.at, nothing.found], [made.link, []]);
  const [began] = (await client.history({ ...request, streams: [sessionStream(session("history-1"))] })).found;
  assert.ok(began !== undefined);
  assert.equal(decodeEvent(began.bytes, began.previous).type, "SessionCreated");
  await client.close();
  const body = encode(request);
  const headers = { "content-type": "application/msgpack" };
  assert.equal((await ask("POST", "/v1/history", { role: "proxy", body, headers })).status, 403);
  const wrong = encode({ ...request, depth: 10_000_000 });
  assert.equal((await ask("POST", "/v1/history", { role: "operator", body: wrong, headers })).status, 400);
});

describe("authentication and roles", () => {
  const now = Math.floor(Date.now() / 1_000);
  const withoutSignature: TokenOf = async (call) => {
    const [, payload] = (await token()(call)).split(".");
    const header = Buffer.from(JSON.stringify({ alg: "none", kid: "authenticate" })).toString("base64url");
    return `${header}.${payload}.`;
  };
  const refused: readonly (readonly [string, TokenOf | string | null])[] = [
    ["no token", null],
    ["no bearer", "Basic dXNlcjpwYXNz"],
    ["nonsense", "Bearer nonsense"],
    ["an expired token", token({ issuedAt: now - 120, expiresAt: now - 60 })],
    ["a token that lives too long", token({ expiresAt: now + 3_600 })],
    ["a token issued in the future", token({ issuedAt: now + 86_400, expiresAt: now + 86_430 })],
    ["another cluster's token", token({ audience: "cardea:other" })],
    ["a token for two clusters", token({ audience: [`cardea:${cluster}`, "cardea:other"] })],
    ["a token that is not valid yet", token({ claims: { nbf: Math.floor(Date.now() / 1_000) + 60 } })],
    ["a token that never ends", token({ expiresAt: 1e15 })],
    ["a token signed with another secret", token({ key: serviceTokenKey(random(32), "authenticate") })],
    ["a role's token signed with another role's key", token({ kid: "operator" })],
    ["a role that does not exist", token({ kid: "root" })],
    ["a token signed with another algorithm", token({ algorithm: "HS384" })],
    ["a token without a signature", withoutSignature],
    ["a token that names no call", token({ claims: { call: undefined } })],
    ["a token that names no body", token({ claims: { body: undefined } })],
    ["a token without an id", token({ claims: { jti: undefined } })],
    ["a token whose id is too short to be unique", token({ claims: { jti: "1" } })],
    ["a token whose id is too long", token({ claims: { jti: "x".repeat(2_000) } })],
  ];
  const calls = [
    ["POST", "/v1/commands"],
    ["GET", `/v1/events?after=${formatLink(genesis)}`],
    ["POST", "/v1/leases"],
    ["GET", `/v1/receipts/command:${aCommandId()}`],
    ["GET", "/v1/status"],
    ["GET", "/v1/sessions/s1/tokens"],
  ] as const;
  for (const [what, authorization] of refused) {
    test(`${what} gets 401 on every call, in JSON`, async () => {
      for (const [method, path] of calls) {
        // Not even an oversized body is read.
        const headers = { "content-type": "application/msgpack" };
        const body = method === "POST" ? { body: new Uint8Array(2_000_000), headers } : {};
        const response = await ask(method, path, { authorization, ...body });
        assert.equal(response.status, 401, path);
        assert.deepEqual(await response.json(), { error: "unauthenticated" });
      }
    });
  }

  test("tokens of the previous secret are accepted during a rotation", async () => {
    const authorization = token({ key: serviceTokenKey(previousSecret, "authenticate") });
    assert.equal((await ask("GET", "/v1/status", { authorization })).status, 200);
  });

  const roles: readonly Role[] = ["proxy", "authorize", "authenticate", "operator", "broker"];
  const table: readonly (readonly ["GET" | "POST", string, readonly Role[]])[] = [
    ["GET", `/v1/events?after=${formatLink(genesis)}`, roles],
    ["GET", "/v1/status", roles],
    ["GET", `/v1/receipts/command:${aCommandId()}?wait=none`, ["authenticate", "operator", "broker"]],
    ["GET", "/v1/sessions/unknown/tokens", ["authenticate", "proxy"]],
  ];
  for (const [method, path, allowed] of table) {
    test(`${method} ${path.split("?")[0]?.slice(0, 40)} is allowed to ${allowed.join(", ")}`, async () => {
      for (const role of roles) {
        const { status } = await ask(method, path, { role });
        assert.equal(status === 403, !allowed.includes(role), `${role}: ${status}`);
      }
    });
  }

  test("a node gets a lease, and an operator gets 403", async () => {
    const node = new FakeNode("proxy-9");
    const headers = { "content-type": "application/octet-stream" };
    const body = node.sealed("renew", node.renew());
    assert.equal((await ask("POST", "/v1/leases", { role: "operator", body, headers })).status, 403);
    assert.equal((await ask("POST", "/v1/leases", { role: "proxy", body, headers })).status, 200);
    const long = new Uint8Array(8 * 1_024 + 1);
    assert.equal((await ask("POST", "/v1/leases", { role: "proxy", body: long, headers })).status, 413);
    await node.goodbye(broker.databroker("proxy"));
  });

  test("a command that the role may not submit is 403, with the refusal in the body", async () => {
    const response = await command(asked(revoke("s1")), "proxy");
    assert.equal(response.status, 403);
    assert.equal((await unpacked(response))["code"], "forbidden");
  });
});

describe("a token that names its call is valid for that call alone", () => {
  type Signing = Parameters<typeof createCallSigner>[0] & Readonly<{ role: Role }>;
  const proof = (call: ServiceCall, { role = "operator", ...parts }: Partial<Signing> = {}) =>
    createCallSigner({ cluster, secret, clock: systemClock, randomBytes: random, ...parts })(call, {
      role,
      name: "test",
    });
  const body = encode(asked(revoke("bound-1")));
  const command = { method: "POST", path: "/v1/commands", body } as const;
  const type = { "content-type": "application/msgpack" };

  test("the named call is answered, and the answer is sealed for that call and this cluster", async () => {
    for (const call of [command, { method: "GET", path: "/v1/status" } as const]) {
      const { authorization, callId } = proof(call);
      const sent = "body" in call ? { body: call.body, headers: type } : {};
      const response = await ask(call.method, call.path, { authorization, ...sent });
      assert.equal(response.status, 200);
      const given = { callId, status: 200, body: new Uint8Array(await response.arrayBuffer()) };
      const seal = response.headers.get(answerHeader) ?? undefined;
      const opener = createBrokerOpener({ cluster, secrets: [secret] });
      assert.equal(refuseAnswer(seal, opener, given), undefined);
      assert.equal(
        refuseAnswer(seal, createBrokerOpener({ cluster: "other", secrets: [secret] }), given),
        "not-authentic",
      );
    }
  });

  test("another path, query, method or body, or none, is 401 and counted", async () => {
    const before = server.metrics()["callsRefused"] ?? 0;
    const read = { method: "GET", path: "/v1/status" } as const;
    const given: readonly (readonly [ServiceCall, "GET" | "POST", string, Asked])[] = [
      [read, "GET", "/v1/sessions/s1/tokens", {}],
      [read, "GET", "/v1/status?x=1", {}],
      [read, "POST", "/v1/status", {}],
      [command, "POST", "/v1/commands", { body: encode(asked(revoke("bound-2"))), headers: type }],
      [command, "POST", "/v1/commands", {}],
      [{ method: "POST", path: "/v1/commands" }, "POST", "/v1/commands", { body, headers: type }],
    ];
    for (const [meant, method, path, sent] of given) {
      const { authorization } = proof(meant);
      assert.equal((await ask(method, path, { authorization, ...sent })).status, 401, `${method} ${path}`);
    }
    assert.equal((server.metrics()["callsRefused"] ?? 0) - before, given.length);
  });

  test("a genuine token for another call is refused with the reason", async () => {
    const { authorization } = proof({ method: "GET", path: "/v1/status" });
    const other = await ask("GET", "/v1/sessions/s1/tokens", { authorization });
    assert.deepEqual(await other.json(), { error: "unauthenticated", reason: "another-call" });
  });

  test("a token replayed after its minute, or to another cluster's broker, is refused", async () => {
    const clock = { ...systemClock, wall: () => (Date.now() - 70_000) as UnixMs };
    const read = { method: "GET", path: "/v1/status" } as const;
    for (const late of [proof(read, { clock }), proof(read, { cluster: "other" })])
      assert.equal((await ask("GET", "/v1/status", { authorization: late.authorization })).status, 401);
  });

  test("a token replayed within its minute is refused and counted, whatever the call; nothing is executed or read", async () => {
    const created = encode(asked(createSession("bound-3", "alice")));
    const node = new FakeNode("proxy-replayed");
    const renew = node.sealed("renew", node.renew());
    const calls: readonly (readonly [ServiceCall, Role, Record<string, string>])[] = [
      [{ method: "POST", path: "/v1/commands", body: created }, "authenticate", type],
      [{ method: "GET", path: "/v1/sessions/bound-3/tokens" }, "authenticate", {}],
      [{ method: "GET", path: `/v1/events?after=${formatLink(genesis)}` }, "proxy", {}],
      [
        { method: "GET", path: `/v1/receipts/command:${aCommandId()}?wait=none` },
        "operator",
        { accept: "application/jsonl" },
      ],
      [{ method: "GET", path: "/v1/status" }, "operator", {}],
      [{ method: "POST", path: "/v1/leases", body: renew }, "proxy", { "content-type": "application/octet-stream" }],
    ];
    const before = server.metrics();
    for (const [call, role, headers] of calls) {
      const { authorization } = proof(call, { role });
      const sent = { authorization, headers, ...(call.body === undefined ? {} : { body: call.body }) };
      const method = call.method as "GET" | "POST";
      const first = await ask(method, call.path, sent);
      await first.arrayBuffer();
      assert.equal(first.status, 200, call.path);
      const head = broker.metrics()["applied"];
      for (const played of [sent, { ...sent, headers: { ...headers, [forwardedHeader]: "1" } }]) {
        const again = await ask(method, call.path, played);
        assert.equal(again.status, 401, call.path);
        assert.deepEqual(await again.json(), { error: "unauthenticated", reason: "replayed" });
      }
      assert.equal(broker.metrics()["applied"], head);
    }
    const after = server.metrics();
    assert.equal((after["callsReplayed"] ?? 0) - (before["callsReplayed"] ?? 0), calls.length * 2);
    assert.equal((after["callsRefused"] ?? 0) - (before["callsRefused"] ?? 0), calls.length * 2);
    await node.goodbye(broker.databroker("proxy"));
  });

  test("a token replayed while its call is in progress is refused: a long read is held open once", async () => {
    const head = await broker.databroker("operator").status();
    const path = `/v1/events?after=${formatLink(head.broker.applied)}&wait=500`;
    const { authorization } = proof({ method: "GET", path });
    const statuses = await Promise.all([1, 2, 3].map(async () => (await ask("GET", path, { authorization })).status));
    assert.deepEqual(statuses.sort(), [200, 401, 401]);
  });

  test("a call from before this broker started is refused: an earlier process may have executed it", async () => {
    const clock = { ...systemClock, wall: () => (Date.now() - 30_000) as UnixMs };
    const another = brokerOn(createMemoryLog());
    const restarted = await startDatabrokerServer({
      ...{ broker: another, cluster, secret, clock: systemClock, logger: noting },
      listen: { host: "127.0.0.1", port: 0 },
    });
    try {
      const path = "/v1/status";
      const statusWith = async ({ authorization }: { authorization: string }): Promise<number> =>
        (await fetch(`${restarted.url}${path}`, { headers: { authorization } })).status;
      assert.equal(await statusWith(proof({ method: "GET", path }, { clock })), 401);
      assert.equal(await statusWith(proof({ method: "GET", path })), 200);
    } finally {
      await restarted.close();
      await another.stop();
    }
  });

  test("a token is valid only for the exact text of its path, and for no other spelling", async () => {
    const spellings = [
      "/%761/status",
      "//v1/status",
      "/V1/status",
      "/v1//status",
      "/./v1/status",
      "/v1/status/",
      "/v1/status;x",
    ];
    const { authorization } = proof({ method: "GET", path: "/v1/status" });
    const raw = (target: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const headers = { authorization, host: "broker" };
        const sent = httpRequest({ host: "127.0.0.1", port: server.port, path: target, headers }, (answer) => {
          answer.resume().on("end", () => resolve(answer.statusCode ?? 0));
        });
        sent.on("error", reject).end();
      });
    for (const target of [...spellings, `http://broker:${server.port}/v1/status`]) {
      const status = await raw(target);
      assert.ok(status === 401 || status === 404 || status === 400, `${target}: ${status}`);
    }
    assert.equal(await raw("/v1/status"), 200, "the proof was not used up");
  });

  test("the header of a forwarded call grants nothing: with it and without a token, a call gets 401", async () => {
    const headers = { [forwardedHeader]: "1" };
    assert.equal((await ask("GET", "/v1/status", { role: "operator", headers })).status, 200);
    assert.equal((await ask("GET", "/v1/status", { authorization: null, headers })).status, 401);
  });
});

describe("commands", () => {
  test("commands are accepted and answered in MessagePack; a refusal by the broker is 200", async () => {
    const request = asked(createSession("wire-1", "alice"));
    const done = await command(request);
    assert.deepEqual([done.status, done.headers.get("content-type")], [200, "application/msgpack"]);
    assert.equal((await unpacked(done))["type"], "done");
    const refused = await command(asked(createSession("wire-1", "alice")));
    assert.equal(refused.status, 200);
    assert.equal((await unpacked(refused))["code"], "conflict");
  });

  test("commands are accepted and answered in JSON", async () => {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify(asked(createSession("wire-2", "alice")));
    const response = await ask("POST", "/v1/commands", { body, headers });
    const answer = (await response.json()) as { type: string; link: { position: number } };
    assert.equal(answer.type, "done");
    const events = await ask("GET", `/v1/events?after=${formatLink(genesis)}&limit=2`, {
      headers: { accept: "application/json" },
    });
    const page = (await events.json()) as { type: string; page: { entries: string[] } };
    assert.equal(page.page.entries.length, 2);
    assert.equal(Array.isArray(decode(Buffer.from(page.page.entries[0] ?? "", "base64"))), true);
  });

  const malformed: readonly (readonly [string, string, Uint8Array | string, number])[] = [
    ["no command at all", "application/msgpack", encode({}), 400],
    [
      "an unknown command",
      "application/msgpack",
      encode({ ...asked(revoke("x")), command: { type: "dropTables" } }),
      400,
    ],
    ["an invalid command id", "application/msgpack", encode({ ...asked(revoke("x")), commandId: "1" }), 400],
    ["an invalid actor", "application/msgpack", encode({ ...asked(revoke("x")), actor: "alice@example.test" }), 400],
    [
      "a session without tokens",
      "application/msgpack",
      encode(asked({ ...createSession("x", "y"), tokens: null as never })),
      400,
    ],
    ["broken MessagePack", "application/msgpack", new Uint8Array([0xc1, 0xff]), 400],
    ["broken JSON", "application/json", "{", 400],
    ["a body of another media type", "text/plain", "hello", 415],
    ["a body that is too long", "application/msgpack", new Uint8Array(1_100_000), 413],
  ];
  for (const [what, type, body, status] of malformed) {
    test(`${what} gets ${status}, and the answer quotes nothing of it`, async () => {
      const response = await ask("POST", "/v1/commands", { body, headers: { "content-type": type } });
      assert.equal(response.status, status);
      const text = await response.text();
      assert.ok(text.length < 60, text);
    });
  }

  test("the broker logs no names, tokens or session ids of a request", async () => {
    await command(asked(createSession("wire-3", "zoe")));
    await ask("GET", "/v1/sessions/wire-3/tokens");
    const journal = written.join("\n");
    for (const secretText of ["zoe", "access-wire-3", "wire-3", "Bearer"])
      assert.equal(journal.includes(secretText), false);
  });
});

describe("reads", () => {
  test("a reader of another history gets 409", async () => {
    const outcome = await broker.databroker("proxy").read(genesis, { limit: 1, waitMs: 0 });
    assert.ok(outcome.type === "page");
    const forged = { ...outcome.page.last, hash: "e".repeat(64) as never };
    const response = await ask("GET", `/v1/events?after=${formatLink(forged)}`);
    assert.equal(response.status, 409);
    assert.equal((await unpacked(response))["type"], "forked");
  });

  test("malformed queries get 400", async () => {
    for (const path of [
      "/v1/events",
      "/v1/events?after=1.2.3",
      `/v1/events?after=${formatLink(genesis)}&limit=-1`,
      `/v1/events?after=${formatLink(genesis)}&wait=soon`,
      `/v1/events?after=${formatLink(genesis)}&after=${formatLink(genesis)}`,
      "/v1/receipts/17",
      "/v1/receipts/command:17",
      `/v1/receipts/command:${aCommandId()}?wait=some`,
    ]) {
      assert.equal((await ask("GET", path)).status, 400, path);
    }
    assert.equal((await ask("GET", "/v1/snapshots")).status, 404);
  });

  test("the authenticate role reads a session's tokens, and gets 404 if there are none", async () => {
    await command(asked(createSession("wire-4", "alice")));
    const tokens = await unpacked(await ask("GET", "/v1/sessions/wire-4/tokens"));
    assert.equal(tokens["accessToken"], "access-wire-4");
    assert.equal((await ask("GET", "/v1/sessions/unknown/tokens")).status, 404);
  });

  test("health and readiness checks need no token", async () => {
    for (const path of ["/healthz", "/readyz"]) {
      const response = await ask("GET", path, { authorization: null });
      assert.deepEqual([response.status, await response.text()], [200, "OK"]);
    }
  });

  test("a forwarded call is not forwarded again", async () => {
    const response = await ask("GET", "/v1/status", { headers: { "cardea-forwarded": "1" } });
    assert.equal(response.status, 200);
  });
});

test("the client of src/replication works with this server, leases and receipts included", async () => {
  const client = (role: Role) =>
    createBrokerClient({
      ...{ urls: [new URL(server.url)], cluster, role, name: "test", secret },
      ...{ clock: systemClock, randomBytes: random, logger: quiet },
    });
  const [proxy, authenticate, operator] = [client("proxy"), client("authenticate"), client("operator")];
  try {
    const node = new FakeNode("proxy-1");
    await node.lease(proxy);
    assert.equal((await authenticate.submit(asked(createSession("wire-5", "bob")))).type, "done");
    assert.equal((await authenticate.tokens(session("wire-5")))?.accessToken, "access-wire-5");
    const revoked = await operator.submit(asked(revoke("wire-5")));
    if (revoked.type !== "done") return assert.fail();
    const waiting = operator.receipt({ type: "link", link: revoked.link }, { wait: "all", timeoutMs: 3_000 });
    await node.confirm(proxy, revoked.link);
    assert.equal((await waiting).complete, true);
    assert.equal((await operator.status()).nodes[0]?.node, "proxy-1");
    const refused = await proxy.submit(asked(revoke("wire-5")));
    assert.equal(refused.type === "refused" && refused.code, "forbidden");
    await node.goodbye(proxy);
  } finally {
    for (const each of [proxy, authenticate, operator]) await each.close();
  }
});

test("the server works over TLS with a private certificate authority", async () => {
  const { execFileSync } = await import("node:child_process");
  const { mkdtempSync, readFileSync, rmSync } = await import("node:fs");
  const { tmpdir } = await import("node:os");
  const { join } = await import("node:path");
  const folder = mkdtempSync(join(tmpdir(), "cardea-tls-"));
  try {
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    const options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    execFileSync("openssl", ["req", ...options, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
    const tls = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
    const secure = await startDatabrokerServer({
      ...{ broker, cluster, secret, clock: systemClock, logger: quiet, tls },
      listen: { host: "127.0.0.1", port: 0 },
    });
    const client = (tlsCa: string | null) =>
      createBrokerClient({
        ...{ urls: [new URL(secure.url)], cluster, role: "operator", name: "test", secret, tlsCa },
        ...{ clock: systemClock, randomBytes: random, logger: quiet },
      });
    const [trusting, doubting] = [client(tls.cert), client(null)];
    try {
      assert.equal((await trusting.status()).cluster, cluster);
      await assert.rejects(doubting.status(), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
    } finally {
      await trusting.close();
      await doubting.close();
      await secure.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

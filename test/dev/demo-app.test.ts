/** The demo app as a real process: which assertions it accepts, what it shows, and what it holds open. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { WebSocket } from "ws";
import { type DemoApp, requestedHost, startDemoApp, verifyAssertion } from "../../src/dev/index.ts";

const host = "app.localhost";

type World = Readonly<{
  app: DemoApp;
  sign: (claims?: JWTPayload, kid?: string) => Promise<string>;
  keyFetches: () => number;
}>;

async function start(t: TestContext): Promise<World> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "k1", alg: "ES256", use: "sig" };
  let fetches = 0;
  const hosts: (string | undefined)[] = [];
  const jwks = createServer((request, response) => {
    fetches += 1;
    hosts.push(request.headers.host);
    response.setHeader("content-type", "application/json").end(JSON.stringify({ keys: [jwk] }));
  });
  jwks.listen(0, "127.0.0.1");
  await once(jwks, "listening");
  t.after(() => void jwks.close());
  const address = jwks.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  // A name under .localhost needs no resolver.
  const jwksUrl = new URL(`http://keys.app.localhost:${address.port}/.well-known/pomerium/jwks.json`);
  const app = await startDemoApp({
    listen: { host: "127.0.0.1", port: 0 },
    jwksUrl,
    tickMs: 20,
    links: [{ name: "eng", url: "http://eng.localhost:8080/" }],
    onError: (error) => assert.fail(error as Error),
  });
  t.after(() => app.close());
  t.after(() => assert.ok(hosts.every((requested) => requested === jwksUrl.host)));
  const sign = (claims: JWTPayload = {}, kid = "k1"): Promise<string> => {
    const now = Math.floor(Date.now() / 1000);
    const all = {
      iss: host,
      aud: host,
      sub: "alice",
      email: "alice@example.com",
      name: "Alice",
      iat: now,
      exp: now + 300,
    };
    return new SignJWT({ ...all, ...claims }).setProtectedHeader({ alg: "ES256", kid, typ: "JWT" }).sign(privateKey);
  };
  return { app, sign, keyFetches: () => fetches };
}

type HeadersAnswer = {
  assertion: { type: string; why?: string; claims?: JWTPayload; subject?: string | null };
  headers: string[][];
};
async function fetchHeaders(world: World, headers: Record<string, string>): Promise<HeadersAnswer> {
  const answer = await fetch(new URL("/headers?a=1", world.app.url), {
    headers: { "x-forwarded-host": host, ...headers },
  });
  return (await answer.json()) as HeadersAnswer;
}

test("an assertion that the proxy signed for this host is verified, and its keys are fetched once", async (t) => {
  const world = await start(t);
  for (const iss of [host, `https://${host}/`]) {
    const { assertion } = await fetchHeaders(world, { "x-pomerium-jwt-assertion": await world.sign({ iss }) });
    assert.equal(assertion.type, "verified");
    assert.equal(assertion.subject, "alice");
    assert.equal(assertion.claims?.["email"], "alice@example.com");
  }
  assert.equal(world.keyFetches(), 1);
});

test("an assertion for another host, out of time, unsigned or by another signer is refused with the reason", async (t) => {
  const world = await start(t);
  const now = Math.floor(Date.now() / 1000);
  const { privateKey } = await generateKeyPair("ES256");
  const forged = await new SignJWT({ iss: host, aud: host, sub: "alice", iat: now, exp: now + 300 })
    .setProtectedHeader({ alg: "ES256", kid: "k1" })
    .sign(privateKey);
  const cases: [string, RegExp][] = [
    [await world.sign({ aud: "other.localhost" }), /another address/],
    [await world.sign({ iss: "other.localhost" }), /another issuer/],
    [await world.sign({ exp: now - 60 }), /expired/],
    [forged, /signature/],
    [await world.sign({}, "k2"), /does not publish/],
    [new UnsecuredJWT({ iss: host, aud: host, sub: "alice", iat: now, exp: now + 300 }).encode(), /./],
    ["rubbish", /not a signed assertion/],
    [`${await world.sign()}, ${await world.sign()}`, /./],
  ];
  for (const [assertion, why] of cases) {
    const verdict = (await fetchHeaders(world, { "x-pomerium-jwt-assertion": assertion })).assertion;
    assert.equal(verdict.type, "refused", assertion);
    assert.match(verdict.why ?? "", why);
  }
});

test("without a host there is no audience to check, so no assertion is accepted", async () => {
  const keys = () => assert.fail("a key was requested");
  assert.equal((await verifyAssertion(["x.y.z"], "", keys)).type, "refused");
});

test("a request without an assertion, or with one that names no user, is a public visitor", async (t) => {
  const world = await start(t);
  assert.equal((await fetchHeaders(world, {})).assertion.type, "absent");
  const { assertion } = await fetchHeaders(world, {
    "x-pomerium-jwt-assertion": await world.sign({ sub: "", email: "" }),
  });
  assert.deepEqual([assertion.type, assertion.subject], ["verified", null]);
});

test("without the keys no assertion is accepted", async (t) => {
  const world = await start(t);
  const app = await startDemoApp({
    listen: { host: "127.0.0.1", port: 0 },
    jwksUrl: new URL("http://app.localhost:1/jwks.json"),
    fetch: () => Promise.reject(new Error("refused")),
  });
  t.after(() => app.close());
  const headers = { "x-pomerium-jwt-assertion": await world.sign() };
  assert.match((await fetchHeaders({ ...world, app }, headers)).assertion.why ?? "", /could not be fetched/);
});

test("the page shows verified claims, a refusal with its reason, or a public visitor", async (t) => {
  const world = await start(t);
  const page = async (headers: Record<string, string>): Promise<string> =>
    (await fetch(world.app.url, { headers: { "x-forwarded-host": host, ...headers } })).text();
  const name = '<img src=x onerror="alert(1)">';
  const verified = await page({ "x-pomerium-jwt-assertion": await world.sign({ name }), "x-request-id": "<r1>" });
  assert.match(verified, /data-verdict="verified"/);
  assert.ok(verified.includes("alice@example.com") && verified.includes("&lt;r1&gt;"));
  assert.ok(!verified.includes("<img"));
  assert.ok(verified.includes('href="/.pomerium/sign_out"') && verified.includes('href="http://eng.localhost:8080/"'));
  const refused = await page({ "x-pomerium-jwt-assertion": "rubbish" });
  assert.match(refused, /data-verdict="refused"/);
  assert.match(await page({}), /data-verdict="absent"/);
});

test("the request is shown as received, header by header", async (t) => {
  const world = await start(t);
  const { headers } = await fetchHeaders(world, { "x-case": "A" });
  assert.ok(headers.some(([name, value]) => name?.toLowerCase() === "x-case" && value === "A"));
});

test("the clock ticks, knows its visitor, and closes properly when the app ends", async (t) => {
  const world = await start(t);
  const clock = new WebSocket(new URL("/clock", world.app.url), {
    headers: { "x-forwarded-host": host, "x-pomerium-jwt-assertion": await world.sign() },
  });
  const [first] = (await once(clock, "message")) as [Buffer];
  const [second] = (await once(clock, "message")) as [Buffer];
  assert.deepEqual(
    [first, second].map((message) => JSON.parse(message.toString())).map(({ ticks, user }) => [ticks, user]),
    [
      [1, "alice@example.com"],
      [2, "alice@example.com"],
    ],
  );
  const closed = once(clock, "close") as Promise<[number, Buffer]>;
  await world.app.close();
  assert.equal((await closed)[0], 1001);
});

test("the clock is refused for an invalid assertion and on another path", async (t) => {
  const world = await start(t);
  const refused = async (path: string, headers: Record<string, string>): Promise<number> => {
    const clock = new WebSocket(new URL(path, world.app.url), { headers });
    clock.on("error", () => {});
    const [, response] = (await once(clock, "unexpected-response")) as [unknown, { statusCode: number }];
    clock.terminate();
    return response.statusCode;
  };
  assert.equal(await refused("/clock", { "x-pomerium-jwt-assertion": "rubbish" }), 401);
  assert.equal(await refused("/elsewhere", {}), 404);
});

test("the echo streams: the first part returns before the rest is sent", async (t) => {
  const world = await start(t);
  const sending = new TransformStream<Uint8Array, Uint8Array>();
  const writer = sending.writable.getWriter();
  const answering = fetch(new URL("/echo", world.app.url), {
    method: "POST",
    body: sending.readable,
    duplex: "half",
    headers: { "content-type": "text/html" },
  } as RequestInit & { duplex: "half" });
  void writer.write(Buffer.from("one"));
  const answer = await answering;
  assert.equal(answer.headers.get("content-type"), "application/octet-stream");
  const reader = (answer.body ?? assert.fail("no body")).getReader();
  assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), "one");
  void writer.write(Buffer.from("two"));
  assert.equal(Buffer.from((await reader.read()).value ?? []).toString(), "two");
  await writer.close();
  assert.equal((await reader.read()).done, true);
});

test("server-sent events tick until the reader leaves", async (t) => {
  const world = await start(t);
  const abort = new AbortController();
  const answer = await fetch(new URL("/sse", world.app.url), { signal: abort.signal });
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  let text = "";
  for await (const chunk of answer.body ?? []) {
    text += Buffer.from(chunk).toString();
    if (text.includes("id: 2")) break;
  }
  abort.abort();
  assert.match(text, /^id: 1\nevent: tick\ndata: \{"now":"/);
});

test("health, bounded slow answers and unknown paths are answered", async (t) => {
  const world = await start(t);
  const status = async (path: string, method = "GET"): Promise<number> =>
    (await fetch(new URL(path, world.app.url), { method })).status;
  assert.equal(await status("/health"), 200);
  assert.equal(await status("/clock.js"), 200);
  assert.equal(await status("/slow?ms=5"), 200);
  for (const ms of ["-1", "60001", "x"]) assert.equal(await status(`/slow?ms=${ms}`), 400);
  assert.equal(await status("/nowhere"), 404);
  assert.equal(await status("/", "POST"), 405);
});

test("an app that closes does not wait for silent clients", async (t) => {
  const world = await start(t);
  const open = fetch(new URL("/slow?ms=60000", world.app.url)).catch(() => "cut");
  await delay(20);
  await world.app.close();
  assert.equal(await open, "cut");
});

test("the requested host is the last one that a proxy named, without its port", () => {
  assert.equal(
    requestedHost({ "x-forwarded-host": "evil.example, app.localhost:8080", host: "127.0.0.1:3000" }),
    "app.localhost",
  );
  assert.equal(requestedHost({ host: "app.localhost:8080" }), "app.localhost");
  assert.equal(requestedHost({}), "");
});

test("the public page shows the next step; the page of a signed-in person does not", async (t) => {
  const { app, sign } = await start(t);
  const pageFor = async (headers: Record<string, string>): Promise<string> =>
    (await fetch(app.url, { headers: { ...headers, "x-forwarded-host": host } })).text();
  const stranger = await pageFor({});
  assert.match(stranger, /<h2>What to do next<\/h2>[\s\S]*sign in as alice, bob or carol, with any password/);
  assert.match(stranger, /Open <a href="http:\/\/eng\.localhost:8080\/">eng<\/a>/);
  assert.match(stranger, /cardea sessions revoke --user alice --wait/);
  assert.doesNotMatch(stranger, /sign_out/, "there is no session to end");
  const person = await pageFor({ "x-pomerium-jwt-assertion": await sign() });
  assert.match(person, /Hello, [\s\S]*Alice/);
  assert.doesNotMatch(person, /What to do next/);
  assert.match(person, /sign_out/);
});

/**
 * WebSockets through a real proxy: access, the headers that the upstream receives, and backpressure.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createServer, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import { type WebSocket as Client, WebSocket, WebSocketServer } from "ws";
import type { Config, RouteConfig } from "../../../src/config/index.ts";
import { createRequestDecider } from "../../../src/proxy/decision-api/request-decider.ts";
import { ReachedHandles } from "../../../src/proxy/request/identify-caller.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, engOnly, type Rig, routeTo, signedIn, startRig, startUpstream, valuesOf } from "../support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

type ReceivedRequest = { rawHeaders: readonly string[]; url: string };

async function start(
  parts: Partial<RouteConfig> = {},
  onSocket: (socket: Client, req: IncomingMessage) => void = (socket) =>
    socket.on("message", (data) => socket.send(data)),
  config: Partial<Config> = {},
): Promise<{ rig: Rig; received: ReceivedRequest[] }> {
  const upstream = await startUpstream();
  const received: ReceivedRequest[] = [];
  const sockets = new WebSocketServer({ server: upstream.server, handleProtocols: (all) => [...all][0] ?? false });
  sockets.on("connection", (socket, req) => {
    received.push({ rawHeaders: req.rawHeaders, url: req.url ?? "" });
    socket.on("error", () => {});
    onSocket(socket, req);
  });
  const route = routeTo(upstream.port, { allowWebsockets: true, passIdentityHeaders: true, ...parts });
  const rig = await startRig([route], { config });
  await rig.apply(signedIn(1), signedIn(2));
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  return { rig, received };
}

function dial(
  rig: Rig,
  options: { headers?: Record<string, string>; path?: string; protocols?: string[] } = {},
): WebSocket {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}${options.path ?? "/live"}`, options.protocols ?? [], {
    headers: { host: "app.localhost", cookie: cookieOf(1), ...options.headers },
  });
  socket.on("error", () => {});
  return socket;
}

/** The status and body of a refused upgrade. */
async function refusal(
  socket: WebSocket,
): Promise<{ status: number; body: string; headers: IncomingMessage["headers"] }> {
  const [, res] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
  let body = "";
  res.on("data", (chunk: Buffer) => {
    body += chunk.toString();
  });
  await once(res, "end");
  return { status: res.statusCode ?? 0, body, headers: res.headers };
}

describe("cookie_same_site: none", () => {
  const cookie = { name: "_pomerium", domain: null, httpOnly: true, expireMs: 50_000_000, sameSite: "none" as const };

  test("refuses a page of another site that opens a WebSocket with the session cookie, in the proxy and in forward-auth", async () => {
    const { rig, received } = await start({}, undefined, { cookie });
    for (const origin of [
      "http://evil.example",
      "null",
      "https://app.localhost",
      "http://app.localhost.evil.example",
    ]) {
      const { status } = await refusal(dial(rig, { headers: { origin } }));
      assert.equal(status, 403, origin);
    }
    assert.equal(received.length, 0);
    const { result, reasons } = rig.records.at(-1) ?? assert.fail("there is no decision record");
    assert.deepEqual([result, reasons], ["deny", ["websocket-origin"]]);
    assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="websocket-origin"\} 4/);
    const decider = createRequestDecider(rig.deps, new ReachedHandles());
    const judged = async (origin: string): Promise<string> => {
      const key = ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Upgrade", "websocket"];
      const lines = ["Origin", origin, "Cookie", cookieOf(1), ...key];
      const target = {
        method: "GET",
        scheme: "http" as const,
        authority: "app.localhost",
        target: "/live",
        ip: "127.0.0.1",
      };
      const verdict = await decider.decide({ described: { ...target, lines }, subject: "credential", requestId: "r" });
      return verdict.type;
    };
    assert.equal(await judged("http://evil.example"), "deny");
    assert.equal(await judged("http://app.localhost"), "permit");
  });

  test("accepts pages of a route, and callers that are not a browser or send another credential", async () => {
    const { rig } = await start({}, undefined, { cookie });
    const withoutCookie = { cookie: "a=1", "x-pomerium-authorization": "s1", origin: "http://evil.example" };
    const allowed: Record<string, string>[] = [{ origin: "http://app.localhost" }, {}, withoutCookie];
    for (const headers of allowed) {
      const socket = dial(rig, { headers });
      await once(socket, "open");
      socket.terminate();
    }
  });

  test("is the reason that browsers send the cookie; with `lax` the browser itself protects it", async () => {
    const { rig } = await start();
    const socket = dial(rig, { headers: { origin: "http://evil.example" } });
    await once(socket, "open");
    socket.terminate();
  });
});

describe("a permitted WebSocket", () => {
  test("carries messages of every length in both directions, and closes with the code that a side sent", async () => {
    const { rig } = await start();
    const socket = dial(rig, { protocols: ["chat"] });
    await once(socket, "open");
    assert.equal(socket.protocol, "chat");
    for (const length of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
      const sent = Buffer.alloc(length, 7);
      socket.send(sent);
      const [received] = (await once(socket, "message")) as [Buffer];
      assert.ok(sent.equals(received), String(length));
    }
    socket.close(4_000, "bye");
    const [code] = await once(socket, "close");
    assert.equal(code, 4_000);
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.websocket === 0);
  });

  test("sends the upstream the same identity headers as any request, and none of Cardea's credentials", async () => {
    const { rig, received } = await start();
    const socket = dial(rig, {
      path: "/live?x=1&pomerium_session=s1",
      headers: {
        cookie: `a=1; ${cookieOf(1)}`,
        "x-pomerium-claim-email": "mallory@example.com",
        connection: "Upgrade, x-pomerium-claim-email",
      },
    });
    await once(socket, "open");
    const [{ rawHeaders, url } = { rawHeaders: [], url: "" }] = received;
    assert.equal(url, "/live?x=1");
    assert.deepEqual(valuesOf(rawHeaders, "cookie"), ["a=1"]);
    assert.deepEqual(valuesOf(rawHeaders, "x-pomerium-claim-email"), ["user1@example.com"]);
    assert.equal(valuesOf(rawHeaders, "x-pomerium-jwt-assertion").length, 1);
    assert.deepEqual(valuesOf(rawHeaders, "x-forwarded-for"), ["127.0.0.1"]);
    assert.match(valuesOf(rawHeaders, "host")[0] ?? "", /^127\.0\.0\.1:/);
    assert.deepEqual(valuesOf(rawHeaders, "connection"), ["Upgrade"]);
    socket.terminate();
  });

  test("is registered, recorded and counted as one exchange", async () => {
    const { rig } = await start();
    const socket = dial(rig);
    await once(socket, "open");
    assert.deepEqual(rig.proxy.stats().exchanges, { http: 0, websocket: 1, tcp: 0, udp: 0 });
    assert.deepEqual(
      rig.records.map(({ result }) => result),
      ["permit"],
    );
    socket.terminate();
    await waitFor("the exchange to end", () => rig.proxy.stats().inFlight.websocket === 0);
    assert.match(await rig.metrics(), /cardea_proxy_requests_total\{route="app\.localhost\/",status="1xx"\} 1/);
  });

  test("may be requested in absolute-form; the upstream gets origin-form", async () => {
    const { rig, received } = await start();
    const answer = await rig.sendRaw(
      `GET http://app.localhost/live?a=1 HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nConnection: Upgrade\r\n` +
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
      1_000,
    );
    assert.match(answer, /^HTTP\/1\.1 101 /);
    assert.equal(received[0]?.url, "/live?a=1");
  });
  test("forwards what the caller sent right after its handshake", async () => {
    const { rig } = await start();
    const masked = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
    const head = `GET /live HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
    const answer = await rig.sendRaw(Buffer.concat([Buffer.from(head), masked]));
    assert.match(answer, /^HTTP\/1\.1 101 /);
    assert.match(answer, /\r\n\r\n\x82?\x81?.{0,2}hi$/s);
  });
});

describe("a refused WebSocket", () => {
  test("without a session: 401 as JSON, never a redirect", async () => {
    const { rig, received } = await start();
    const { status, body, headers } = await refusal(dial(rig, { headers: { cookie: "", accept: "text/html" } }));
    assert.equal(status, 401);
    assert.equal(JSON.parse(body).error, "Unauthenticated");
    assert.equal(headers["x-pomerium-intercepted-response"], "true");
    assert.equal(received.length, 0);
  });
  test("without permission: 403", async () => {
    const { rig } = await start(engOnly);
    assert.equal((await refusal(dial(rig))).status, 403);
  });
  test("on a route without allow_websockets: 403", async () => {
    const { rig, received } = await start({ allowWebsockets: false });
    assert.equal((await refusal(dial(rig))).status, 403);
    assert.equal(received.length, 0);
  });
  test("without a fresh lease: 503", async () => {
    const { rig } = await start({ onStale: "deny", staleGraceMs: 0 });
    rig.lease.overdueMs = 1;
    assert.equal((await refusal(dial(rig))).status, 503);
  });
  test("to a host without routes: 404; to a reserved path or the authenticate host: 403", async () => {
    const { rig } = await start();
    assert.equal((await refusal(dial(rig, { headers: { host: "other.localhost" } }))).status, 404);
    assert.equal((await refusal(dial(rig, { path: "/.pomerium/x" }))).status, 403);
    assert.equal((await refusal(dial(rig, { headers: { host: "authenticate.localhost" } }))).status, 403);
  });
  test("with an invalid handshake: 400", async () => {
    const { rig, received } = await start();
    const head = (lines: string, method = "GET"): string =>
      `${method} /live HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines}\r\n`;
    const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (const lines of [
      "",
      key,
      "Sec-WebSocket-Version: 13\r\n",
      `${key}Sec-WebSocket-Version: 8\r\n`,
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n`,
      `${key}Sec-WebSocket-Version: 13\r\nContent-Length: 5\r\n`,
      `${key}${key}Sec-WebSocket-Version: 13\r\n`,
    ]) {
      assert.match(await rig.sendRaw(head(lines)), /^HTTP\/1\.1 400 /, lines);
    }
    assert.match(await rig.sendRaw(head(`${key}Sec-WebSocket-Version: 13\r\n`, "POST")), /^HTTP\/1\.1 400 /);
    const old = head(`${key}Sec-WebSocket-Version: 13\r\n`).replace("HTTP/1.1", "HTTP/1.0");
    assert.match(await rig.sendRaw(old), /^HTTP\/1\.1 400 /, "HTTP/1.0 cannot be upgraded");
    assert.equal(received.length, 0);
  });
  test("an upgrade to another protocol is ignored: the request is an ordinary one", async () => {
    const { rig } = await start();
    const answer = await rig.request({
      session: 1,
      headers: { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "x" },
    });
    assert.equal(answer.status, 200);
    assert.doesNotMatch(answer.body, /"upgrade"|"h2c"|"http2-settings"/i);
  });
});

describe("an upstream's response to an upgrade", () => {
  test("other than 101 is forwarded: status, headers and body", async () => {
    const upstream = await startUpstream((_req, res) => {
      res.writeHead(426, { "x-why": "not here", "set-cookie": "_pomerium=evil" }).end("no sockets");
    });
    const rig = await startRig([routeTo(upstream.port, { allowWebsockets: true })]);
    cleanUps.push(() => rig.close(), upstream.close);
    await rig.apply(signedIn(1));
    const { status, body, headers } = await refusal(dial(rig));
    assert.deepEqual(
      [status, body, headers["x-why"], headers["set-cookie"]],
      [426, "no sockets", "not here", undefined],
    );
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.websocket === 0);
  });

  const broken: Readonly<Record<string, (socket: Socket) => void>> = {
    "a 101 with an invalid Sec-WebSocket-Accept": (socket) =>
      socket.write(
        "HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
      ),
    "a 101 to another protocol": (socket) =>
      socket.write("HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "a closed connection": (socket) => socket.end(),
    nonsense: (socket) => socket.end("nonsense\r\n\r\n"),
  };
  for (const [name, answer] of Object.entries(broken)) {
    test(`that is ${name}: 502`, async () => {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", () => answer(socket));
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const address = server.address();
      assert.ok(typeof address === "object" && address !== null);
      const rig = await startRig([routeTo(address.port, { allowWebsockets: true })]);
      cleanUps.push(
        () => rig.close(),
        async () => void server.close(),
      );
      await rig.apply(signedIn(1));
      assert.equal((await refusal(dial(rig))).status, 502);
    });
  }

  test("that never arrives leaves no connection behind once the caller has disconnected", async () => {
    const server = createServer((socket) => void socket.on("error", () => {}));
    const sockets = new Set<Socket>();
    server.on("connection", (socket) => {
      sockets.add(socket);
      socket.resume().on("close", () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    const rig = await startRig([routeTo(address.port, { allowWebsockets: true })]);
    cleanUps.push(
      () => rig.close(),
      async () => void server.close(),
    );
    await rig.apply(signedIn(1));
    const socket = dial(rig);
    await waitFor("the upstream to be connected", () => sockets.size === 1);
    socket.terminate();
    await waitFor("the upstream's connection to close", () => sockets.size === 0);
    assert.equal(rig.proxy.stats().exchanges.websocket, 0);
  });
});

describe("backpressure", () => {
  const chunk = Buffer.alloc(1_048_576, 1);
  const total = 200;
  const rss = (): number => process.memoryUsage().rss;

  test("a caller that does not read: 200 MB are not buffered, and all of them arrive", async (t) => {
    let produced = 0;
    const { rig } = await start({}, (socket) => {
      const more = (): void => {
        if (produced === total) return;
        produced++;
        socket.send(chunk, more);
      };
      more();
    });
    const socket = dial(rig);
    await once(socket, "open");
    const before = rss();
    socket.pause();
    const stalledAt = await still(() => produced);
    t.diagnostic(`${stalledAt} MB were produced before the transfer stalled`);
    assert.ok(stalledAt < total / 4);
    assert.ok(rss() - before < 96 * 1_048_576, `${rss() - before} bytes grew`);
    let received = 0;
    const all = new Promise<void>((resolve) => {
      socket.on("message", () => ++received >= total && resolve());
    });
    socket.resume();
    await all;
    socket.terminate();
  });

  test("an upstream that does not read: 200 MB are not buffered", async (t) => {
    const { rig } = await start({}, (socket) => socket.pause());
    const socket = dial(rig);
    await once(socket, "open");
    let sent = 0;
    const more = (): void => {
      if (sent === total) return;
      sent++;
      socket.send(chunk, more);
    };
    more();
    const stalledAt = await still(() => sent);
    t.diagnostic(`${stalledAt} MB were accepted before the transfer stalled`);
    assert.ok(stalledAt < total / 4);
    socket.terminate();
  });
});

async function still(value: () => number): Promise<number> {
  let last = -1;
  return waitFor(
    "the transfer to stall",
    () => {
      const now = value();
      const same = now === last && now > 0;
      last = now;
      return same ? now : undefined;
    },
    { everyMs: 200 },
  );
}

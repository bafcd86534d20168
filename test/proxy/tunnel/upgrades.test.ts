/**
 * Upgrades to protocols other than WebSocket: who may request them, what the upstream receives, and how they are cut.
 * cut.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import type { RouteConfig } from "../../../src/config/index.ts";
import { base, config, errors, goodRoute } from "../../config/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, engOnly, groupChanged, type Rig, routeTo, signedIn, startRig, valuesOf } from "../support.ts";

const cleanUps: (() => Promise<unknown> | unknown)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

type Spdy = Readonly<{ port: number; seen: IncomingMessage[]; ordinary: IncomingMessage[]; sockets: Set<Socket> }>;

/** Accepts the requested protocol, then echoes everything in capitals. */
async function startSpdy(answer = "SPDY/3.1"): Promise<Spdy> {
  const [seen, ordinary]: [IncomingMessage[], IncomingMessage[]] = [[], []];
  const sockets = new Set<Socket>();
  const server: Server = createServer((req, res) => {
    ordinary.push(req);
    res.end("ordinary");
  });
  server.on("upgrade", (req: IncomingMessage, socket: Socket) => {
    seen.push(req);
    const without = ["/silent", "/endless"].indexOf(req.url ?? "");
    if (without >= 0) {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => {});
      socket.resume().on("end", () => socket.destroy());
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n${"x".repeat(without * 30_000_000 + 5)}`);
      return;
    }
    if (req.url === "/no") {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
      return;
    }
    sockets.add(socket);
    socket.on("end", () => socket.end());
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    socket.write(
      `HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: ${answer}\r\nX-Stream-Protocol-Version: v4\r\n\r\n`,
    );
    socket.on("data", (chunk) => socket.write(chunk.toString("latin1").toUpperCase()));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen, ordinary, sockets };
}

async function start(upstream: Spdy, parts: Partial<RouteConfig>): Promise<Rig> {
  const rig = await startRig([
    routeTo(upstream.port, { ...engOnly, ...parts }),
    routeTo(upstream.port, { host: "plain.localhost" }),
  ]);
  cleanUps.push(() => rig.close());
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  return rig;
}

function requestUpgrade(
  rig: Rig,
  lines: string,
  path = "/exec?command=sh",
  host = "app.localhost",
): { socket: Socket; received: () => string } {
  const socket = connect(rig.port, "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  cleanUps.push(() => socket.destroy());
  socket.write(
    `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nCookie: ${cookieOf(1)}\r\nAccept: application/json\r\n${lines}\r\n`,
  );
  return { socket, received: () => received };
}
const spdy =
  "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n";

describe("an upgrade to SPDY", () => {
  test("is requested from the upstream as the caller requested it, and both sides can send", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
    const { socket, received } = requestUpgrade(rig, `${spdy}Trailer: X-Sum\r\n`);
    socket.write("hello");
    await waitFor("the echo", () => received().endsWith("HELLO"));
    assert.match(received(), /^HTTP\/1\.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY\/3\.1\r\n/);
    assert.match(received(), /X-Stream-Protocol-Version: v4\r\n/);
    const [req] = upstream.seen;
    assert.deepEqual([req?.method, req?.url], ["POST", "/exec?command=sh"]);
    assert.deepEqual(valuesOf(req?.rawHeaders ?? [], "x-stream-protocol-version"), ["v4.channel.k8s.io"]);
    assert.deepEqual(valuesOf(req?.rawHeaders ?? [], "upgrade"), ["SPDY/3.1"]);
    assert.deepEqual(valuesOf(req?.rawHeaders ?? [], "cookie"), []);
    assert.deepEqual(valuesOf(req?.rawHeaders ?? [], "trailer"), [], "a handshake has none");
    assert.equal(rig.proxy.stats().exchanges.websocket, 1);
  });

  test("is cut when the permit ends, and not a byte follows", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
    const { socket, received } = requestUpgrade(rig, spdy);
    await waitFor("the upgrade to be accepted", () => received().includes("101"));
    const before = received();
    const reset = assert.rejects(once(socket, "close"), { code: "ECONNRESET" });
    await rig.apply(groupChanged({ removed: [1] }));
    await reset;
    assert.equal(received(), before);
    await waitFor("the upstream's connection to close", () => upstream.sockets.size === 0);
  });

  test("gets the upstream's refusal", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
    const { received } = requestUpgrade(rig, spdy, "/no");
    await waitFor("the response", () => received().includes("403"));
    assert.match(received(), /^HTTP\/1\.1 403 /);
  });

  test("ends at the route's idle timeout when the upstream's refusal stalls, or when the caller does not read it", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"], idleTimeoutMs: 300 });
    const { socket, received } = requestUpgrade(rig, spdy, "/silent");
    const reset = assert.rejects(once(socket, "close"), { code: "ECONNRESET" });
    await waitFor("the first bytes", () => received().endsWith("xxxxx"));
    await reset;
    const { socket: unread } = requestUpgrade(rig, spdy, "/endless");
    unread.pause();
    await waitFor("the upstream's response to begin", () => upstream.sockets.size === 1);
    await waitFor("both upstream connections to close", () => upstream.sockets.size === 0);
    await waitFor("all exchanges to end", () => rig.proxy.stats().exchanges.websocket === 0);
  });

  test("with a 101 to another protocol is 502", async () => {
    const upstream = await startSpdy("other/1");
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
    const { received } = requestUpgrade(rig, spdy);
    await waitFor("the response", () => received() !== "");
    assert.match(received(), /^HTTP\/1\.1 502 /);
  });

  test("with a body is 400, because the body would be read as the other protocol", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
    const { received } = requestUpgrade(rig, spdy.replace("Content-Length: 0", "Content-Length: 5"));
    await waitFor("the response", () => received() !== "");
    assert.match(received(), /^HTTP\/1\.1 400 /);
    assert.equal(upstream.seen.length, 0);
  });

  test("is 403 on a route that does not allow it", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
    const { received } = requestUpgrade(rig, spdy, "/", "plain.localhost");
    await waitFor("the response", () => received() !== "");
    assert.match(received(), /^HTTP\/1\.1 403 [\s\S]*Upgrade not allowed/);
    assert.equal(upstream.seen.length + upstream.ordinary.length, 0);
  });

  test("is an ordinary request if no route allows it (RFC 9110 §7.8)", async () => {
    const upstream = await startSpdy();
    const rig = await start(upstream, {});
    const { received } = requestUpgrade(rig, spdy);
    await waitFor("the response", () => received().endsWith("ordinary"));
    assert.deepEqual(
      upstream.ordinary.map(({ headers }) => headers.upgrade),
      [undefined],
    );
  });
});

test("the options for upgrades, as an operator may write them", () => {
  const of = (lines: string, global = "") => {
    const route = config(`${base}${global}${goodRoute}${lines}`).routes[0];
    return [route?.allowWebsockets, route?.allowUpgrades];
  };
  assert.deepEqual(of(""), [false, []]);
  assert.deepEqual(of("    allow_spdy: true\n"), [false, ["spdy/3.1"]]);
  assert.deepEqual(of("    allow_upgrades: [WebSocket, SPDY/3.1, chat]\n"), [true, ["spdy/3.1", "chat"]]);
  assert.deepEqual(of("", "allow_upgrades: [chat]\n"), [false, ["chat"]]);
  assert.deepEqual(of("    allow_upgrades: []\n", "allow_upgrades: [chat]\n"), [false, []]);
  assert.deepEqual(errors(`${base}${goodRoute}    allow_upgrades: [h2c]\n`), [
    "c.yaml:17:22: routes[0].allow_upgrades[0]: h2c would carry requests without a decision; remove it; a route of tcp+https or udp+https carries other traffic",
  ]);
});

test("the end of a stream is recorded with its bytes and cause; a refused upgrade leaves no such record", async () => {
  const upstream = await startSpdy();
  const rig = await start(upstream, { allowUpgrades: ["spdy/3.1"] });
  const closed = () => rig.records.filter(({ occasion }) => occasion === "closed");
  const refused = requestUpgrade(rig, spdy, "/no");
  await waitFor("the refusal", () => refused.received().includes("403"));
  const { socket, received } = requestUpgrade(rig, spdy);
  await waitFor("the protocol", () => received().includes("101"));
  socket.write("hello");
  await waitFor("the echo", () => received().includes("HELLO"));
  assert.equal(closed().length, 0, "while it is open");
  socket.end();
  await waitFor("its record", () => closed().length === 1);
  const [record] = closed();
  const { cause, bytes, bytesReceived } = record?.closed ?? {};
  assert.deepEqual({ cause, bytes, bytesReceived }, { cause: "ended", bytes: 5, bytesReceived: 5 });
  const permit = rig.records.find(
    ({ requestId, occasion }) => requestId === record?.requestId && occasion === "request",
  );
  assert.equal(permit?.result, "permit");

  const cut = requestUpgrade(rig, spdy);
  await waitFor("the second one", () => cut.received().includes("101"));
  await rig.apply(groupChanged({ removed: [1] }));
  await waitFor("its record", () => closed().length === 2);
  const by = closed()[1]?.closed;
  assert.equal(by?.cause, "not-permitted");
  assert.deepEqual(by?.link, rig.deps.replica.applied, "the link of the change that cut it");
});

/**
 * Session credentials stay in the proxy when a connection switches to another protocol: WebSocket handshakes and
 * tunnels. The corpus covers the rest.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { routeTo, signedIn, startRig } from "../proxy/support.ts";
import { waitFor } from "../support/wait-for.ts";

/** An upstream that records every byte and answers nothing. */
async function startRecorder(): Promise<Readonly<{ port: number; received: () => string; close: () => void }>> {
  const sockets: Socket[] = [];
  let bytes = "";
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.toString("latin1");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { port: (server.address() as AddressInfo).port, received: () => bytes, close };
}

test("a WebSocket handshake forwards subprotocols unchanged and no session credential", async (t) => {
  const upstream = await startRecorder();
  const rig = await startRig([routeTo(upstream.port, { allowWebsockets: true })]);
  t.after(() => rig.close());
  t.after(upstream.close);
  await rig.apply(signedIn(1));
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    [
      "GET /live?pomerium_session=s1&a=1 HTTP/1.1",
      "Host: app.localhost",
      "Connection: Upgrade, X-Pomerium-Claim-Email",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
      "Sec-WebSocket-Protocol: chat, base64url.bearer.of.another.app",
      "Cookie: a=1; _pomerium=s1",
      "Cookie: _pomerium_csrf=s1; b=2",
      "Authorization: Bearer Pomerium-s1",
      "X-Pomerium-Authorization: s1",
      "Proxy-Authorization: Pomerium s1",
      "\r\n",
    ].join("\r\n"),
  );
  await waitFor("the handshake to arrive", () => upstream.received().includes("\r\n\r\n"));

  const lines = upstream.received().split("\r\n");
  assert.equal(lines[0], "GET /live?a=1 HTTP/1.1");
  assert.doesNotMatch(upstream.received(), /\bs1\b|pomerium-s1|authorization/i);
  assert.deepEqual(
    lines.filter((line) => /^cookie:/i.test(line)),
    ["Cookie: a=1", "Cookie: b=2"],
  );
  assert.ok(lines.some((line) => /^sec-websocket-protocol: chat, base64url\.bearer\.of\.another\.app$/i.test(line)));
});

test("a tunnel forwards the bytes after its CONNECT request, and nothing of the request itself", async (t) => {
  const upstream = await startRecorder();
  const at = { host: "db.localhost", port: 5_432 };
  const tunnel = {
    ...routeTo(upstream.port, { host: at.host, id: "db" }),
    tunnel: { kind: "tcp", targets: [at], behindProxy: false } as const,
    to: [{ url: new URL(`tcp://127.0.0.1:${upstream.port}`), weight: null }],
  };
  const rig = await startRig([tunnel]);
  t.after(() => rig.close());
  t.after(upstream.close);
  await rig.apply(signedIn(1));
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    "CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\nAuthorization: Pomerium s1\r\nCookie: _pomerium=s1\r\n\r\nfirst bytes",
  );
  await waitFor("the first bytes to arrive", () => upstream.received().length >= 11);
  assert.equal(upstream.received(), "first bytes");
});

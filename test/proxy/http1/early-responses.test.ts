/**
 * Upstreams that respond before they have read the request, and then close: callers get the response, not a broken
 * connection.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { createServer as createTlsServer, Server as TlsServer } from "node:tls";
import { Authority } from "../../support/pki.ts";
import { publicAccess, type Rig, routeTo, startRig } from "../support.ts";

const bodyBytes = 20_000_000; // more than all buffers on the way hold
const long = "x".repeat(20_000); // still in transit when the connection is reset

/** Refuses the body of every request, and closes without having read it. */
async function startRefusing(t: TestContext, server: Server, answer: string): Promise<number> {
  server.on("error", () => {});
  server.on("tlsClientError", () => {});
  const refuse = (socket: Socket): void => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.pause();
      socket.write(answer, () => socket.destroy());
    });
  };
  server.on(server instanceof TlsServer ? "secureConnection" : "connection", refuse);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => void server.close());
  return (server.address() as AddressInfo).port;
}

const refusal = (body: string): string =>
  `HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

async function rigTo(t: TestContext, port: number, ca: string | null = null): Promise<Rig> {
  const to = [{ url: new URL(`${ca === null ? "http" : "https"}://upstream.localhost:${port}`), weight: null }];
  const tls = { skipVerify: false, serverName: null, customCa: ca, clientCert: null, clientKey: null };
  const rig = await startRig([routeTo(port, { ...publicAccess, to, tls: { ...tls, allowRenegotiation: false } })]);
  t.after(() => rig.close());
  return rig;
}

/** Uploads until it gets a response. @returns the response, head and body */
function upload(port: number, framing: string, piece: (chunk: Buffer) => Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const chunk = piece(Buffer.alloc(65_536, "a"));
    let response = "";
    let sent = 0;
    const sendMore = (): void => {
      while (sent < bodyBytes && !socket.destroyed) {
        sent += chunk.length;
        if (!socket.write(chunk)) return void socket.once("drain", sendMore);
      }
    };
    socket.on("data", (more: Buffer) => {
      response += more.toString("latin1");
      const length = Number(/content-length: (\d+)/i.exec(response)?.[1] ?? Number.NaN);
      if (response.length - response.indexOf("\r\n\r\n") - 4 >= length) socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(response));
    socket.write(`POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\n${framing}\r\n\r\n`);
    sendMore();
  });
}
const withLength = (port: number): Promise<string> =>
  upload(port, `Content-Length: ${bodyBytes + 1}`, (chunk) => chunk);
const chunked = (port: number): Promise<string> =>
  upload(port, "Transfer-Encoding: chunked", (chunk) =>
    Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n")]),
  );

describe("a response to a body that was not read arrives even though the connection has broken since", () => {
  for (const [what, body] of Object.entries({ short: "no", long })) {
    test(`a ${what} one, with any framing of the request`, async (t) => {
      const { port } = await rigTo(t, await startRefusing(t, createServer(), refusal(body)));
      for (const response of [await withLength(port), await chunked(port)]) {
        assert.match(response, /^HTTP\/1\.1 413 /);
        assert.ok(response.endsWith(`\r\n\r\n${body}`));
      }
    });
  }
  test("over TLS", async (t) => {
    const authority = await Authority.root();
    const { cert, key } = await authority.issue({ hosts: ["upstream.localhost"] });
    const { port } = await rigTo(
      t,
      await startRefusing(t, createTlsServer({ cert, key }), refusal(long)),
      authority.pem,
    );
    const response = await withLength(port);
    assert.match(response, /^HTTP\/1\.1 413 /);
    assert.ok(response.endsWith(long));
  });
  test("to an HTTP/2 caller", async (t) => {
    const { port } = await rigTo(t, await startRefusing(t, createServer(), refusal(long)));
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": "/", ":authority": "app.localhost" });
    stream.on("error", () => {});
    let [status, body] = [0, ""];
    stream.on("response", (headers) => {
      status = headers[":status"] ?? 0;
    });
    stream.on("data", (chunk: Buffer) => {
      body += chunk.toString("latin1");
    });
    const piece = Buffer.alloc(65_536, "a");
    for (let sent = 0; sent < bodyBytes && !stream.destroyed; sent += piece.length) {
      if (stream.write(piece)) continue;
      await Promise.race([once(stream, "drain"), once(stream, "close")]).catch(() => {});
    }
    stream.end();
    if (!stream.closed) await once(stream, "close").catch(() => {});
    session.destroy();
    assert.deepEqual([status, body.length], [413, long.length]);
  });
});

test("an upstream that closes without a response is 502, and a partial response does not look complete", async (t) => {
  const silent = await rigTo(t, await startRefusing(t, createServer(), ""));
  assert.match(await withLength(silent.port), /^HTTP\/1\.1 502 /);
  const half = await rigTo(t, await startRefusing(t, createServer(), refusal(long).slice(0, 1_000)));
  const response = await withLength(half.port);
  assert.ok(response.length < long.length, "the response was cut off");
  assert.match(response, /^(?:HTTP\/1\.1 413 |$)/);
});

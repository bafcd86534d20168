/**
 * Fuzzing of upstream responses, delivered to callers of HTTP/1.1 and HTTP/2.
 *
 * A response is assembled from valid, odd and malformed pieces, and then completed or aborted. Whatever the caller
 * receives, the proxy survives, keeps no state of it, and answers the next request.
 *
 *   FUZZ_SEED=… FUZZ_PATH=… FUZZ_RUNS=… node test/attacks/answers-fuzz.test.ts     a failure prints the first two
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer } from "node:net";
import { after, before, test } from "node:test";
import { publicAccess, type Rig, routeTo, startRig } from "../proxy/support.ts";
import { fc } from "../support/property.ts";
import { waitFor } from "../support/wait-for.ts";

const { FUZZ_SEED, FUZZ_PATH, FUZZ_RUNS } = process.env;
type Response = Readonly<{ text: string; ending: "stays" | "ends" | "resets" }>;

const status = fc.constantFrom(
  ...["100", "102", "103", "101", "200", "200", "200", "204", "205", "206", "304", "404", "503"],
  ...["599", "600", "999", "000", "099", "20", "2000", "abc"],
);
const line = fc.constantFrom(
  ...[
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 99",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
  ],
  ...[
    "Transfer-Encoding: gzip, chunked",
    "Connection: close",
    "Connection: x-a, upgrade",
    "X-A: \x80\xff",
    "X-B: \x01",
  ],
  ...[
    "Upgrade: websocket",
    "Upgrade: foo",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    "Keep-Alive: timeout=0",
  ],
  ...["Link: </a>", "Trailer: X-T", "Content-Type: application/grpc", "Date: x", "Set-Cookie: _pomerium=x", "TE: x"],
  ...["Host: z", "Proxy-Connection: x", "HTTP2-Settings: a", ":status: 200", `X-Long: ${"y".repeat(9_000)}`],
);
const body = fc.constantFrom(
  ...["", "hello", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", "0\r\n\r\n", "x".repeat(70_000)],
  ...["FFFFFFFFFF\r\n", "\x81\x05hello", "\x88\x02\x03\xe8", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
);
const head = fc
  .record({ status, version: fc.constantFrom("1.1", "1.1", "1.0", "1.9"), lines: fc.array(line, { maxLength: 4 }) })
  .map(
    ({ status: code, version, lines }) =>
      `HTTP/${version} ${code} Said\r\n${lines.map((l) => `${l}\r\n`).join("")}\r\n`,
  );
const response: fc.Arbitrary<Response> = fc.record({
  text: fc.tuple(fc.array(head, { minLength: 1, maxLength: 2 }), body).map(([heads, rest]) => heads.join("") + rest),
  ending: fc.constantFrom("stays", "ends", "resets"),
});
const caller = fc.constantFrom("HTTP/1.1", "HTTP/1.0", "HEAD", "upload", "WebSocket", "HTTP/2", "HTTP/2 HEAD", "gRPC");

let rig: Rig;
let next: Response = { text: "", ending: "stays" };
const server = createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", () => {
    socket.write(next.text, "latin1");
    if (next.ending === "ends") socket.end();
    if (next.ending === "resets") socket.resetAndDestroy();
  });
});
before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const parts = { ...publicAccess, allowWebsockets: true, timeoutMs: 150, idleTimeoutMs: 150 };
  const { port } = server.address() as AddressInfo;
  // The next request has a longer time-out and shares the same upstream connections.
  rig = await startRig([routeTo(port, parts), routeTo(port, { ...publicAccess, host: "next.localhost" })]);
});
after(async () => {
  await rig.close();
  server.close();
});

const handshake =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/** Settles when the caller has received data or its connection has closed. */
async function call(kind: string): Promise<void> {
  if (kind.startsWith("HTTP/2") || kind === "gRPC") {
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    session.on("error", () => {});
    const type = kind === "gRPC" ? { "content-type": "application/grpc", te: "trailers", ":method": "POST" } : {};
    const method = kind.endsWith("HEAD") ? { ":method": "HEAD" } : {};
    const stream = session.request({ ":authority": "app.localhost", ":path": "/", ...method, ...type });
    stream.on("error", () => {}).resume();
    await new Promise((resolve) => stream.once("close", resolve));
    session.destroy();
    return;
  }
  const version = kind === "HTTP/1.0" ? "1.0" : "1.1";
  const method = kind === "HEAD" ? "HEAD" : kind === "upload" ? "POST" : "GET";
  const lines =
    kind === "WebSocket" ? handshake : kind === "upload" ? "Content-Length: 5\r\n" : "Connection: close\r\n";
  const socket = connect(rig.port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write(`${method} / HTTP/${version}\r\nHost: app.localhost\r\n${lines}\r\n${kind === "upload" ? "hello" : ""}`);
  await new Promise((resolve) => socket.once("data", resolve).once("close", resolve));
  socket.destroy();
}

test("after any response of an upstream, the next caller is answered and no request stays in flight", {
  timeout: 220_000,
}, async () => {
  const runs = { numRuns: Number(FUZZ_RUNS ?? 1_000) };
  const seed = FUZZ_SEED === undefined ? {} : { seed: Number(FUZZ_SEED) };
  const path = FUZZ_PATH === undefined ? {} : { path: FUZZ_PATH };
  await fc.assert(
    fc.asyncProperty(response, caller, async (reply, kind) => {
      next = reply;
      await call(kind);
      await waitFor("the request to finish", () => {
        const { http, websocket } = rig.proxy.stats().inFlight;
        return http + websocket === 0;
      });
      next = { text: "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine", ending: "stays" };
      assert.equal((await rig.request({ host: "next.localhost" })).body, "mine");
    }),
    { ...runs, ...seed, ...path },
  );
});

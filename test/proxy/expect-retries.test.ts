/**
 * A request with `Expect: 100-continue` that its upstream refuses unread is sent a second time. Its body must not
 * precede the head of that second try, however long the connection for it takes.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { constants, createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { Authority, type Issued } from "../support/pki.ts";
import { publicAccess, type Rig, routeTo, startRig } from "./support.ts";

/** Longer than a request waits for 100 Continue. */
const slowMs = 1_400;
const body = "GET /smuggled HTTP/1.1\r\nHost: upstream.localhost\r\n\r\n";

let rig: Rig;
let root: Authority;
const cleanUps: (() => void)[] = [];
const seen: string[] = [];

/** Refuses the first request with this code. Handshakes of all connections but the first begin late. */
async function startUpstream(issued: Issued, code: number): Promise<number> {
  const sockets = new Set<Socket>();
  const respond = (req: Http2ServerRequest, res: Http2ServerResponse): void => {
    let text = "";
    req.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    req.on("end", () => {
      seen.push(`${req.method} ${req.url} HTTP/${req.httpVersion} ${text}`);
      res.end("fine");
    });
  };
  let refused = 0;
  const secure = createSecureServer({ ...issued, allowHTTP1: true }, respond);
  secure.on("checkContinue", (req: Http2ServerRequest, res: Http2ServerResponse) => {
    if (refused++ === 0) return req.stream.close(code);
    res.writeContinue();
    respond(req, res);
  });
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    if (sockets.size === 1) secure.emit("connection", socket);
    else setTimeout(() => secure.emit("connection", socket), slowMs);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

before(async () => {
  root = await Authority.root();
  const issued = await root.issue({ hosts: ["upstream.localhost"] });
  const ports = {
    "required.localhost": await startUpstream(issued, constants.NGHTTP2_HTTP_1_1_REQUIRED),
    "busy.localhost": await startUpstream(issued, constants.NGHTTP2_REFUSED_STREAM),
  };
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null, allowRenegotiation: false };
  rig = await startRig(
    Object.entries(ports).map(([host, port]) => {
      const to = [{ url: new URL(`https://upstream.localhost:${port}`), weight: null }];
      return routeTo(0, { ...publicAccess, host, to, tls: { ...tls, customCa: root.pem } });
    }),
  );
});
after(async () => {
  for (const cleanUp of cleanUps) cleanUp();
  await rig.close();
});

function upload(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { host, expect: "100-continue", "transfer-encoding": "chunked" };
    const req = request({ host: "127.0.0.1", port: rig.port, path: "/upload", method: "POST", headers });
    req.on("continue", () => req.end(body));
    req.on("response", (res) => {
      res.resume();
      res.on("end", () => resolve(res.statusCode ?? 0));
    });
    req.on("error", reject);
    req.flushHeaders();
  });
}

test("a second try sends the head, then the whole body, over either protocol", async () => {
  const statuses = await Promise.all([upload("required.localhost"), upload("busy.localhost")]);
  assert.deepEqual(seen.sort(), [`POST /upload HTTP/1.1 ${body}`, `POST /upload HTTP/2.0 ${body}`]);
  assert.deepEqual(statuses, [200, 200]);
});

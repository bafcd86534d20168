/** `http2_connections: node`: the library of Node speaks HTTP/2 with upstreams, too. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { createSecureServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import {
  type Client,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type sendUnaryData,
} from "@grpc/grpc-js";
import { endHeaders, endStream, frameTypes, headers, serveFrames } from "../../support/http2-frames.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { runSeed } from "../../support/seeded-random.ts";
import { waitFor } from "../../support/wait-for.ts";
import { runLegalOnNode } from "../http2/upstream-fuzz/run-case.ts";
import { ScriptServer } from "../http2/upstream-fuzz/server.ts";
import { cookieOf, publicAccess, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../support.ts";

let root: Authority;
let issued: Issued;
const cleanUps: (() => unknown)[] = [];

before(async () => {
  root = await Authority.root();
  issued = await root.issue({ hosts: ["upstream.localhost"] });
});
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

async function startProxy(port: number, parts: Parameters<typeof routeTo>[1] = publicAccess): Promise<Rig> {
  const to = [{ url: new URL(`https://upstream.localhost:${port}`), weight: null }];
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null, allowRenegotiation: false };
  const route = routeTo(0, { to, tls: { ...tls, customCa: root.pem }, timeoutMs: 0, ...parts });
  const rig = await startRig([route], { config: { http2Connections: "node" } });
  cleanUps.push(() => rig.close());
  return rig;
}

test("an https upstream: uploads, large responses, trailers, early hints, and a cut of one stream among others", async () => {
  const streams = new Map<string, ServerHttp2Stream>();
  let connections = 0;
  const server = createSecureServer(issued);
  server.on("session", (session) => {
    connections += 1;
    cleanUps.push(() => session.destroy());
  });
  server.on("stream", (stream: ServerHttp2Stream, { ":path": path = "" }) => {
    stream.on("error", () => {});
    streams.set(path, stream);
    if (path === "/hints") stream.additionalHeaders({ ":status": 103, link: "</a.css>; rel=preload" });
    stream.respond({ ":status": 200 }, { waitForTrailers: path === "/echo" });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "1" }));
    if (path === "/echo") stream.pipe(stream);
    else if (path.startsWith("/live")) stream.write("begun");
    else stream.end("hello");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => server.close());
  const rig = await startProxy((server.address() as AddressInfo).port, {});
  await rig.apply(signedIn(1), signedIn(2));
  type Seen = { status: number; body: string; trailers: NodeJS.Dict<string>; hints: number; isOver: boolean };
  const send = (path: string, session: number, body?: Buffer): Seen => {
    const seen: Seen = { status: 0, body: "", trailers: {}, hints: 0, isOver: false };
    const asked = request({
      ...{ host: "127.0.0.1", port: rig.port, path, method: body === undefined ? "GET" : "POST" },
      headers: { host: "app.localhost", cookie: cookieOf(session), te: "trailers", connection: "te" },
    });
    asked.on("error", () => {});
    asked.on("close", () => {
      seen.isOver = true;
    });
    asked.on("information", () => {
      seen.hints += 1;
    });
    asked.on("response", (response) => {
      seen.status = response.statusCode ?? 0;
      response.on("error", () => {});
      response.on("data", (chunk: Buffer) => {
        seen.body += chunk.toString("latin1");
      });
      response.on("end", () => {
        seen.trailers = response.trailers;
      });
    });
    asked.end(body);
    return seen;
  };
  const hinted = send("/hints", 1);
  await waitFor("the response", () => hinted.isOver);
  assert.deepEqual([hinted.status, hinted.body, hinted.hints], [200, "hello", 1]);
  const upload = Buffer.alloc(1_000_000, "0123456789");
  const echo = send("/echo", 1, upload);
  const live = [send("/live/1", 1), send("/live/2", 2)];
  await waitFor("the upload to return", () => echo.isOver);
  assert.ok(echo.body === upload.toString("latin1"));
  assert.equal(echo.trailers["x-sum"], "1");
  await waitFor("both streams to begin", () => live.every(({ body }) => body === "begun"));
  await rig.apply(sessionRevoked(1));
  await waitFor("the revoked one to be cut", () => live[0]?.isOver === true);
  await waitFor("its stream to be reset", () => streams.get("/live/1")?.closed === true);
  streams.get("/live/2")?.end(" and ended");
  await waitFor("the other to end", () => live[1]?.isOver === true);
  assert.deepEqual([live[1]?.body, connections], ["begun and ended", 1]);
});

test("it is the library of Node: an invalid line is left out", async () => {
  const server = createTlsServer({ ...issued, ALPNProtocols: ["h2"] }, (socket) => {
    cleanUps.push(() => socket.destroy());
    serveFrames(socket, ({ type, stream }) => {
      if (type === frameTypes.headers)
        socket.write(headers(stream, endHeaders | endStream, ":status", "200", "x-a", "b\0"));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => server.close());
  const rig = await startProxy((server.address() as AddressInfo).port);
  const { status, headers: received } = await rig.request({});
  assert.deepEqual([status, received["x-a"]], [200, undefined]);
});

test("gRPC", async () => {
  const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
  const method = { path: "/test.Echo/Unary", requestStream: false, responseStream: false };
  const typed = { requestSerialize: bytes.serialize, requestDeserialize: bytes.deserialize };
  const unary = { ...method, ...typed, responseSerialize: bytes.serialize, responseDeserialize: bytes.deserialize };
  const service = { unary } as unknown as ServiceDefinition;
  const server = new Server();
  server.addService(service, {
    unary(call: { request: Buffer }, callback: sendUnaryData<Buffer>) {
      if (String(call.request) === "fails") callback({ code: 9, details: "as asked" });
      else callback(null, call.request);
    },
  });
  const pair = { cert_chain: Buffer.from(issued.cert), private_key: Buffer.from(issued.key) };
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createSsl(null, [pair]), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  cleanUps.push(() => server.forceShutdown());
  const rig = await startProxy(port);
  const Connecting = makeGenericClientConstructor(service, "test.Echo");
  const authority = { "grpc.default_authority": "app.localhost" };
  const insecure = credentials.createInsecure();
  const client = new Connecting(`127.0.0.1:${rig.port}`, insecure, authority) as unknown as Client & {
    unary(message: Buffer, metadata: Metadata, callback: (error: Error | null, reply?: Buffer) => void): void;
  };
  const call = (text: string): Promise<string> =>
    new Promise((resolve) => {
      client.unary(Buffer.from(text), new Metadata(), (error, reply) => resolve(error?.message ?? String(reply)));
    });
  const long = "l".repeat(300_000);
  const replies = await Promise.all(["a", long, "fails"].map(call));
  client.close();
  assert.deepEqual(replies, ["a", long, "9 FAILED_PRECONDITION: as asked"]);
});

test("random responses that are legal, however odd", async () => {
  const server = new ScriptServer();
  const port = await server.start();
  let run = 0;
  const until = performance.now() + 20_000;
  for (let n = 0; n < 150 && performance.now() < until; n++)
    if ((await runLegalOnNode(server, port, runSeed * 1_000_000 + n)) !== undefined) run += 1;
  server.close();
  assert.ok(run > 5, `${run} cases`);
});

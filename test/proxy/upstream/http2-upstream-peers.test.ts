/**
 * Real servers as https upstreams: nginx, Caddy, Node and grpc-js. The same requests get the same responses over
 * HTTP/1.1 and HTTP/2, and a server that changes its protocol while it is used loses none.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
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
import { findCaddy } from "../../support/caddy.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { onFreePort } from "../../support/free-port.ts";
import { findNginx } from "../../support/nginx.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig } from "../support.ts";

type Asked = Readonly<{
  path: string;
  method?: string;
  headers?: Readonly<Record<string, string>>;
  body?: Buffer;
  /** The body has no length. */
  chunked?: boolean;
}>;
type Answered = Readonly<
  { status: number; headers: readonly string[]; bytes: number; hash: string } | { broken: true }
>;

const big = Buffer.from(Array.from({ length: 3 * 1_048_576 }, (_, i) => (i * 31) % 251));
const corpus: Readonly<Record<string, Asked>> = {
  "a small file": { path: "/small.txt" },
  "a large file": { path: "/big.bin" },
  "the head of a large file": { path: "/big.bin", method: "HEAD" },
  "an empty file": { path: "/empty.txt" },
  "part of a file": { path: "/big.bin", headers: { range: "bytes=10-1000009" } },
  "a part that does not exist": { path: "/small.txt", headers: { range: "bytes=1000-" } },
  "a file that has not changed": {
    path: "/small.txt",
    headers: { "if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT" },
  },
  "no content": { path: "/204" },
  "a redirect": { path: "/moved" },
  "a missing file": { path: "/missing?a=b%20c&d=%C3%A9" },
  "an error with a body": { path: "/teapot" },
  "a refused upload": { path: "/refused", method: "POST", body: big },
  "a refused upload without a length": { path: "/refused", method: "POST", body: big, chunked: true },
  OPTIONS: { path: "/204", method: "OPTIONS" },
  DELETE: { path: "/204", method: "DELETE" },
};
/** What only the server of this test can do. */
const nodeCorpus: Readonly<Record<string, Asked>> = {
  ...corpus,
  "an upload": { path: "/echo", method: "POST", body: big },
  "an upload without a length": { path: "/echo", method: "PUT", body: big, chunked: true },
  "an empty upload": { path: "/echo", method: "POST", body: Buffer.alloc(0) },
  headers: {
    path: "/headers",
    headers: { "x-latin1": "caf\u00e9 \u00ff", "x-empty": "", cookie: "a=1; b=2", accept: "a/b" },
  },
  "several values of a name": { path: "/cookies" },
  "an early answer to a large upload": { path: "/early", method: "POST", body: big, chunked: true },
  "a body that breaks off": { path: "/breaks" },
  "a body that breaks off before its length": { path: "/short" },
};

let root: Authority;
let issued: Issued;
let folder: TemporaryFolder;
const cleanUps: (() => unknown)[] = [];
const file = (name: string): string => join(folder.path, name);

before(async () => {
  root = await Authority.root();
  issued = await root.issue({ hosts: ["upstream.localhost"] });
  folder = new TemporaryFolder("upstream-peers");
  mkdirSync(file("www"));
  writeFileSync(file("www/small.txt"), "hello\n");
  writeFileSync(file("www/empty.txt"), "");
  writeFileSync(file("www/big.bin"), big);
  writeFileSync(file("cert.pem"), issued.cert);
  writeFileSync(file("key.pem"), issued.key);
});
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
  folder.remove();
});

/** Two routes to one upstream: `http1.localhost` and `http2.localhost`. */
async function startProxy(port: number, scheme = "https"): Promise<Rig> {
  const to = [{ url: new URL(`${scheme}://upstream.localhost:${port}`), weight: null }];
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null, allowRenegotiation: false };
  const route = { ...publicAccess, to, tls: { ...tls, customCa: root.pem } };
  const rig = await startRig([
    routeTo(0, { ...route, host: "http1.localhost", upstreamCodecType: "http1" }),
    routeTo(0, { ...route, host: "http2.localhost" }),
  ]);
  cleanUps.push(() => rig.close());
  return rig;
}

function send(rig: Rig, host: string, { path, method = "GET", headers = {}, body, chunked }: Asked): Promise<Answered> {
  return new Promise((resolve) => {
    const length =
      body === undefined ? {} : chunked ? { "transfer-encoding": "chunked" } : { "content-length": body.length };
    const asked = request({
      host: "127.0.0.1",
      port: rig.port,
      path,
      method,
      headers: { host, ...headers, ...length },
    });
    let answer: IncomingMessage | undefined;
    asked.on("error", () => answer === undefined && resolve({ broken: true }));
    asked.on("response", (response) => {
      answer = response;
      const hash = createHash("sha256");
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        hash.update(chunk);
      });
      response.on("error", () => {});
      response.on("close", () => {
        asked.destroy();
        if (!response.complete) resolve({ broken: true });
        else resolve({ status: response.statusCode ?? 0, headers: linesOf(response), bytes, hash: hash.digest("hex") });
      });
    });
    if (body === undefined) asked.end();
    else asked.end(body);
  });
}

/** Without what belongs to one connection or one moment. */
function linesOf({ rawHeaders }: IncomingMessage): readonly string[] {
  const own = /^(date|connection|keep-alive|transfer-encoding|x-request-id|alt-svc):/;
  return rawHeaders
    .flatMap((name, i) => (i % 2 === 0 ? [`${name.toLowerCase()}: ${rawHeaders[i + 1]}`] : []))
    .filter((line) => !own.test(line))
    .sort();
}

async function compare(rig: Rig, requests: Readonly<Record<string, Asked>>): Promise<void> {
  for (const [name, asked] of Object.entries(requests)) {
    const [first, second] = [await send(rig, "http1.localhost", asked), await send(rig, "http2.localhost", asked)];
    assert.deepEqual(second, first, name);
  }
  const names = Object.keys(requests);
  const all = await Promise.all(Object.values(requests).map((asked) => send(rig, "http2.localhost", asked)));
  const apart = await Promise.all(Object.values(requests).map((asked) => send(rig, "http1.localhost", asked)));
  for (const [i, answer] of all.entries()) assert.deepEqual(answer, apart[i], `${names[i]}, with all others at once`);
}

function nginxConf(port: number, more: string): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `user root; daemon off; master_process on; worker_processes 1; pid ${file("nginx.pid")}; error_log ${file("error.log")};
events { worker_connections 512; }
http { ${temporary.map((name) => `${name}_temp_path ${file(name)};`).join(" ")} log_format seen $server_protocol;
  access_log ${file("access.log")} seen; server_tokens off; charset utf-8; types { text/plain txt; }
  server { listen 127.0.0.1:${port} ssl; ${more} ssl_certificate ${file("cert.pem")}; ssl_certificate_key ${file("key.pem")};
    root ${file("www")}; location = /204 { return 204; } location = /moved { return 302 /small.txt; }
    location = /teapot { return 418 "short and stout"; } location = /refused { client_max_body_size 1k; proxy_pass http://127.0.0.1:1; } } }`;
}

async function startNginx(t: TestContext): Promise<Readonly<{ port: number; child: Child }>> {
  const command = findNginx() ?? "";
  return onFreePort(async (port) => {
    writeFileSync(file("nginx.conf"), nginxConf(port, "http2 on;"));
    const child = await Child.start({ command, args: ["-c", file("nginx.conf")], logFile: file("nginx.log") });
    t.after(() => child.end("SIGTERM"));
    await waitFor("nginx to listen", () => answers(port, child));
    return { port, child };
  });
}

async function answers(port: number, child: Child): Promise<boolean> {
  if (!child.running) throw new Error(child.log());
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.destroy();
  return true;
}

test("nginx: the same responses over HTTP/2 as over HTTP/1.1; it switches HTTP/2 off and on while it is used", {
  skip: findNginx() === undefined && "nginx is not installed",
}, async (t) => {
  const { port, child } = await startNginx(t);
  const rig = await startProxy(port);
  await compare(rig, corpus);
  const protocols = () => readFileSync(file("access.log"), "utf8").trim().split("\n");
  assert.ok(protocols().includes("HTTP/2.0") && protocols().includes("HTTP/1.1"));
  let lost = 0;
  let sent = 0;
  let stop = false;
  const use = async (): Promise<void> => {
    while (!stop) {
      sent++;
      const answer = await send(rig, "http2.localhost", { path: "/small.txt" });
      if (!("status" in answer) || answer.status !== 200) lost++;
    }
  };
  const users = [use(), use(), use(), use()];
  for (const [more, protocol] of [
    ["", "HTTP/1.1"],
    ["http2 on;", "HTTP/2.0"],
  ] as const) {
    writeFileSync(file("nginx.conf"), nginxConf(port, more));
    child.signal("SIGHUP");
    await waitFor(`requests to use ${protocol}`, () => {
      const last = protocols().slice(-20);
      return last.length === 20 && last.every((each) => each === protocol);
    });
  }
  stop = true;
  await Promise.all(users);
  assert.deepEqual([lost, sent > 40], [0, true]);
});

test("Caddy: the same responses over HTTP/2 as over HTTP/1.1", {
  skip: findCaddy() === undefined && "Caddy is not installed",
}, async (t) => {
  const port = await onFreePort(async (free) => {
    const site = `https://upstream.localhost:${free} {\n bind 127.0.0.1\n tls ${file("cert.pem")} ${file("key.pem")}\n root * ${file("www")}
 respond /204 204\n redir /moved /small.txt 302\n respond /teapot "short and stout" 418\n respond /refused "too large" 413\n file_server\n}`;
    writeFileSync(file("Caddyfile"), `{\n admin off\n auto_https disable_redirects\n}\n${site}\n`);
    const env = { HOME: folder.path, XDG_DATA_HOME: folder.path, XDG_CONFIG_HOME: folder.path };
    const args = ["run", "--config", file("Caddyfile"), "--adapter", "caddyfile"];
    const child = await Child.start({ command: findCaddy() ?? "", args, env, logFile: file("caddy.log") });
    t.after(() => child.end("SIGTERM"));
    await waitFor("Caddy to listen", () => answers(free, child));
    return free;
  });
  await compare(await startProxy(port), corpus);
});

function respond(req: Http2ServerRequest, res: Http2ServerResponse): void {
  const { url, headers } = req;
  if (url === "/echo") {
    const { "content-length": length } = headers;
    if (length !== undefined) res.setHeader("content-length", length);
    return void req.pipe(res as never);
  }
  if (url === "/early") {
    res.writeHead(413);
    return void res.end("enough");
  }
  const chunks: Buffer[] = [];
  req.on("data", (chunk: Buffer) => chunks.push(chunk));
  req.on("end", () => {
    if (url === "/big.bin") {
      res.setHeader("content-length", big.length);
      return void (req.method === "HEAD" ? res.end() : res.end(big));
    }
    if (url === "/204") res.writeHead(204);
    else if (url === "/moved") res.writeHead(302, { location: "/small.txt" });
    else if (headers["if-modified-since"] !== undefined) res.writeHead(304, { etag: '"x"' });
    else if (url === "/cookies") res.writeHead(200, { "set-cookie": ["a=1", "b=2"], "x-latin1": "caf\u00e9" });
    else if (url === "/headers") {
      const { "x-latin1": latin1, "x-empty": empty, cookie, accept } = headers;
      const text = JSON.stringify({ latin1, empty, cookie, accept });
      res.setHeader("content-length", Buffer.byteLength(text));
      return void res.end(text);
    } else if (url === "/breaks" || url === "/short") {
      if (url === "/short") res.setHeader("content-length", "100");
      res.write("begun");
      return void setTimeout(() => (req.httpVersion === "2.0" ? req.stream.close(2) : req.socket.destroy()), 20);
    }
    if (url === "/204" || res.statusCode === 304) {
      res.end();
      return;
    }
    const text = `answer to ${req.method} ${url}`;
    if (!res.headersSent) res.setHeader("content-length", text.length);
    res.end(text);
  });
}

test("Node: the same responses over HTTP/2 as over HTTP/1.1, also uploads, early answers and bodies that break off", async () => {
  const sockets = new Set<Socket>();
  const server = createSecureServer({ ...issued, allowHTTP1: true }, respond);
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const rig = await startProxy((server.address() as AddressInfo).port);
  await compare(rig, nodeCorpus);
  assert.deepEqual(await send(rig, "http2.localhost", { path: "/breaks" }), { broken: true });
});

test("grpc-js: calls share the connection of other requests to https, and reach h2 by itself", async () => {
  const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
  const method = { path: "/test.Echo/Unary", requestStream: false, responseStream: false };
  const typed = { requestSerialize: bytes.serialize, requestDeserialize: bytes.deserialize };
  const unary = { ...method, ...typed, responseSerialize: bytes.serialize, responseDeserialize: bytes.deserialize };
  const server = new Server();
  const peers: string[] = [];
  server.addService({ unary } as unknown as ServiceDefinition, {
    unary(call: { request: Buffer; getPeer(): string }, callback: sendUnaryData<Buffer>) {
      peers.push(call.getPeer());
      callback(null, call.request);
    },
  });
  const pair = { cert_chain: Buffer.from(issued.cert), private_key: Buffer.from(issued.key) };
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createSsl(null, [pair]), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  cleanUps.push(() => server.forceShutdown());
  for (const scheme of ["https", "h2"]) {
    const rig = await startProxy(port, scheme);
    const other = await send(rig, "http2.localhost", { path: "/" });
    assert.equal("status" in other && other.status, 415); // gRPC servers answer other requests so
    const Connecting = makeGenericClientConstructor({ unary } as unknown as ServiceDefinition, "test.Echo");
    const authority = { "grpc.default_authority": "http2.localhost" };
    const client = new Connecting(
      `127.0.0.1:${rig.port}`,
      credentials.createInsecure(),
      authority,
    ) as unknown as Client & {
      unary(message: Buffer, metadata: Metadata, callback: (error: Error | null, reply?: Buffer) => void): void;
    };
    const call = (text: string): Promise<string> =>
      new Promise((resolve, reject) => {
        client.unary(Buffer.from(text), new Metadata(), (error, reply) =>
          error === null ? resolve(String(reply)) : reject(error),
        );
      });
    const replies = await Promise.all(["a", "b", "c"].map(call));
    client.close();
    assert.deepEqual(replies, ["a", "b", "c"]);
  }
  assert.equal(new Set(peers).size, 2); // one connection for each rig
});

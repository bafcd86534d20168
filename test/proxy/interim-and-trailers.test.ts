/**
 * `Expect: 100-continue`, early hints and trailers pass through the proxy, whichever protocol its caller and its
 * upstream speak.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingHttpHeaders, request } from "node:http";
import {
  type ClientHttp2Session,
  connect,
  createSecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { Authority } from "../support/pki.ts";
import { publicAccess, type Rig, routeTo, startRig } from "./support.ts";

type Answer = {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
  trailers: readonly string[];
  hints: string[];
  continued: boolean;
};
type Asked = Readonly<{
  path: string;
  lines?: Readonly<Record<string, string>>;
  body?: string;
  /** The body is sent after 100 Continue. */
  waits?: boolean;
  trailers?: Readonly<Record<string, string>>;
}>;

let rig: Rig;
let session: ClientHttp2Session;
const sockets = new Set<Socket>();
const cleanUps: (() => void)[] = [];

function respond(req: Http2ServerRequest, res: Http2ServerResponse): void {
  const chunks: Buffer[] = [];
  req.on("data", (chunk: Buffer) => chunks.push(chunk));
  req.on("end", () => {
    const { te, expect, trailer } = req.headers;
    if (req.url === "/announced") res.setHeader("x-announced", trailer ?? "nothing");
    if (req.url === "/hints") {
      res.writeEarlyHints({ link: "</style.css>; rel=preload" });
      res.writeEarlyHints({ link: ["</a.js>", "</b.js>"] as never });
    }
    res.setHeader("trailer", "x-sum, set-cookie");
    res.writeHead(200);
    res.write(`${req.httpVersion} te=${te} expect=${expect} body=${Buffer.concat(chunks)} `);
    res.addTrailers({ "x-sum": "7", ...(req.url === "/cookies" ? { "set-cookie": "_pomerium=evil" } : {}) });
    res.end(`trailers=${req.rawTrailers.join(":")}`);
  });
}

before(async () => {
  const root = await Authority.root();
  const issued = await root.issue({ hosts: ["upstream.localhost"] });
  const server = createSecureServer({ ...issued, allowHTTP1: true }, respond);
  server.on("checkContinue", (req: Http2ServerRequest, res: Http2ServerResponse) => {
    if (req.url === "/refused") {
      res.writeHead(403);
      res.end("too large for me");
    } else {
      if (req.url !== "/silent") setTimeout(() => res.writeContinue(), 50);
      respond(req, res);
    }
  });
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const to = [{ url: new URL(`https://upstream.localhost:${(server.address() as AddressInfo).port}`), weight: null }];
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null, allowRenegotiation: false };
  const route = { ...publicAccess, to, tls: { ...tls, customCa: root.pem } };
  rig = await startRig([
    routeTo(0, { ...route, host: "http1.localhost", upstreamCodecType: "http1" }),
    routeTo(0, { ...route, host: "http2.localhost" }),
  ]);
  session = connect(`http://127.0.0.1:${rig.port}`);
  cleanUps.push(() => void server.close());
});
after(async () => {
  session.destroy();
  for (const socket of sockets) socket.destroy();
  for (const cleanUp of cleanUps) cleanUp();
  await rig.close();
});

function overHttp1(host: string, { path, lines = {}, body, waits = false, trailers = {} }: Asked): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const answer: Answer = { status: 0, headers: {}, body: "", trailers: [], hints: [], continued: false };
    const expect = waits ? { expect: "100-continue" } : {};
    const method = body === undefined ? "GET" : "POST";
    const headers = { host, ...lines, ...expect };
    const req = request({ host: "127.0.0.1", port: rig.port, path, method, headers });
    const finish = (): void => {
      req.addTrailers(trailers);
      req.end(body);
    };
    req.on("continue", () => {
      answer.continued = true;
      finish();
    });
    req.on("information", ({ statusCode, rawHeaders }) => {
      if (statusCode === 103) answer.hints.push(...rawHeaders.filter((_, i) => i % 2 === 1));
    });
    req.on("response", (res) => {
      answer.status = res.statusCode ?? 0;
      answer.headers = res.headers;
      res.on("data", (chunk: Buffer) => {
        answer.body += chunk.toString();
      });
      res.on("end", () => {
        answer.trailers = res.rawTrailers;
        resolve(answer);
        req.destroy();
      });
    });
    req.on("error", reject);
    if (!waits) finish();
    else req.flushHeaders();
  });
}

function overHttp2(host: string, { path, lines = {}, body, waits = false, trailers = {} }: Asked): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const answer: Answer = { status: 0, headers: {}, body: "", trailers: [], hints: [], continued: false };
    const expect = waits ? { expect: "100-continue" } : {};
    const method = body === undefined ? "GET" : "POST";
    const stream = session.request(
      { ":method": method, ":path": path, ":authority": host, ...lines, ...expect },
      { endStream: body === undefined, waitForTrailers: Object.keys(trailers).length > 0 },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ ...trailers }));
    stream.on("continue", () => {
      answer.continued = true;
      stream.end(body);
    });
    stream.on("headers", ({ ":status": status }, _flags, raw: readonly string[] = []) => {
      if (status === 103) answer.hints.push(...raw.filter((_, i) => i % 2 === 1 && raw[i - 1] === "link"));
    });
    stream.on("response", (headers) => {
      answer.status = headers[":status"] ?? 0;
      answer.headers = headers as IncomingHttpHeaders;
    });
    stream.on("data", (chunk: Buffer) => {
      answer.body += chunk.toString();
    });
    stream.on("trailers", (_headers, _flags, raw: readonly string[] = []) => {
      answer.trailers = raw;
    });
    stream.on("end", () => resolve(answer));
    stream.on("error", reject);
    if (!waits && body !== undefined) stream.end(body);
  });
}

for (const [caller, ask] of [
  ["HTTP/1.1", overHttp1],
  ["HTTP/2", overHttp2],
] as const)
  for (const [upstream, host, version] of [
    ["HTTP/1.1", "http1.localhost", "1.1"],
    ["HTTP/2", "http2.localhost", "2.0"],
  ] as const)
    describe(`a caller with ${caller}, an upstream with ${upstream}`, () => {
      test("the upstream's 100 Continue asks for the body", async () => {
        const answer = await ask(host, { path: "/asks", body: "hello", waits: true });
        assert.deepEqual([answer.status, answer.continued], [200, true]);
        assert.equal(answer.body, `${version} te=undefined expect=100-continue body=hello trailers=`);
      });

      test("an upstream that refuses the head gets no body, and its answer arrives without 100 Continue", async () => {
        const answer = await ask(host, { path: "/refused", body: "hello", waits: true });
        assert.deepEqual([answer.status, answer.continued, answer.body], [403, false, "too large for me"]);
      });

      test("an upstream that does not know the expectation gets the body all the same", async () => {
        const answer = await ask(host, { path: "/silent", body: "hello", waits: true });
        assert.deepEqual([answer.status, answer.continued], [200, true]);
        assert.match(answer.body, /body=hello/);
      });

      test("early hints pass", async () => {
        const { hints, status } = await ask(host, { path: "/hints" });
        assert.deepEqual([status, hints.slice(0, 1)], [200, ["</style.css>; rel=preload"]]);
        assert.deepEqual(hints.slice(1).join(", "), "</a.js>, </b.js>");
      });

      test("trailers of a response pass to a caller that accepts them, and to no other; the upstream learns which", async () => {
        const accepts = await ask(host, { path: "/cookies", lines: { te: "trailers" } });
        assert.deepEqual([accepts.trailers, accepts.headers["trailer"]], [["x-sum", "7"], "x-sum"]);
        assert.match(accepts.body, / te=trailers /);
        const not = await ask(host, { path: "/" });
        assert.deepEqual([not.trailers, not.headers["trailer"]], [[], undefined]);
        assert.match(not.body, / te=undefined /);
      });

      test("trailers of a request pass with their announcement, and those that may not pass are not announced", async () => {
        const lines = {
          ...(caller === "HTTP/1.1" ? { "transfer-encoding": "chunked" } : {}),
          ...{ trailer: "X-Check,, cookie, x-pomerium-claim-email, bad name, host", "x-present": "1" },
        };
        const sent = { path: "/announced", lines, body: "hello", trailers: { "x-check": "1", cookie: "a=b" } };
        const { body, headers } = await ask(host, sent);
        assert.match(body, /body=hello trailers=x-check:1$/);
        assert.equal(headers["x-announced"]?.toString().toLowerCase(), "x-check");
        for (const trailer of ["cookie, x-present", "x-check,".repeat(200)]) {
          const none = await ask(host, { ...sent, lines: { ...lines, trailer } });
          assert.equal(none.headers["x-announced"], "nothing");
        }
      });
    });

/**
 * Time limits of uploads: without a configured limit on the whole upload, it may take as long as it makes progress.
 * Includes the response and the log line when a limit is exceeded.
 */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream } from "./support.ts";

/** The listener checks its connections once a second, so an upload has two checks in which to show progress. */
const readMs = 1_100;
/** Duration of an upload that makes progress: longer than an idle upload would survive. */
const uploadMs = 3_300;

type Line = Readonly<{ "response-code": number; failure?: string; "response-code-details": string; path: string }>;
type TestProxy = Readonly<{ rig: Rig; lines: readonly Line[] }>;

let upstream: Upstream;
let idle: TestProxy;
let total: TestProxy;

async function start(readLimit: "request" | "silence"): Promise<TestProxy> {
  const lines: Line[] = [];
  const write = (text: string): boolean => lines.push(JSON.parse(text)) > 0;
  const to = (host: string, parts: Parameters<typeof routeTo>[1]) =>
    routeTo(upstream.port, { ...publicAccess, host, idleTimeoutMs: 0, timeoutMs: 0, ...parts });
  const rig = await startRig(
    [
      to("app.localhost", {}),
      to("default.localhost", { timeoutMs: 600, timeoutFrom: "body-end" }),
      to("written.localhost", { timeoutMs: 600 }),
      to("idle.localhost", { idleTimeoutMs: 300 }),
    ],
    {
      config: {
        timeouts: { readMs, readLimit, writeMs: 0, idleMs: 300_000 },
        accessLogFields: ["path", "response-code", "failure", "response-code-details"],
      },
      deps: { accessLog: { write, probes: false } as never },
    },
  );
  return { rig, lines };
}

before(async () => {
  upstream = await startUpstream((req, res) => {
    if (req.url === "/stuck") return; // reads nothing of the body
    if (req.url === "/silent") req.resume();
    else {
      let bytes = 0;
      req.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      req.on("end", () => res.end(String(bytes)));
    }
  });
  [idle, total] = await Promise.all([start("silence"), start("request")]);
});
after(async () => {
  await Promise.all([idle.rig.close(), total.rig.close()]);
  await upstream.close();
});

type Upload = Readonly<{
  host?: string;
  path?: string;
  expect?: boolean;
  /** How long the upload sends pieces; 0: it stops after the first one and never ends. */
  forMs: number;
}>;

/** Sends an upload over HTTP/1.1, a piece every 100 ms. @returns the bytes received */
async function upload(
  { rig }: TestProxy,
  { host = "app.localhost", path = "/", expect = false, forMs }: Upload,
): Promise<string> {
  const socket = connect(rig.port, "127.0.0.1");
  let received = "";
  let closed = false;
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  socket.on("close", () => {
    closed = true;
  });
  const expectation = expect ? "Expect: 100-continue\r\n" : "";
  socket.write(
    `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nAccept: application/json\r\nTransfer-Encoding: chunked\r\n${expectation}\r\n`,
  );
  if (expect) await waitFor("100 Continue", () => received.includes("100 Continue"));
  socket.write("4\r\nabcd\r\n");
  const until = performance.now() + forMs;
  while (performance.now() < until && !closed) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (socket.writable) socket.write("4\r\nabcd\r\n");
  }
  if (forMs > 0) socket.write("0\r\n\r\n");
  await waitFor("the response", () => /HTTP\/1\.1 [245]/.test(received) || closed);
  await waitFor("the end of the response", () => closed || /\r\n\r\n[\s\S]*\}$|0\r\n\r\n$|\r\n\r\n\d+$/.test(received));
  socket.destroy();
  return received.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
}

/** Sends an upload over HTTP/2. @returns the status, the body, and how the stream ended */
async function uploadOverHttp2({ rig }: TestProxy, { host = "app.localhost", path = "/", forMs }: Upload) {
  const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
  session.on("error", () => {});
  const stream = session.request({ ":method": "POST", ":path": path, ":authority": host }, { endStream: false });
  let status = 0;
  let body = "";
  stream.on("error", () => {});
  stream.on("response", (headers) => {
    status = headers[":status"] ?? 0;
  });
  stream.on("data", (chunk: Buffer) => {
    body += chunk.toString();
  });
  stream.write("abcd");
  const until = performance.now() + forMs;
  while (performance.now() < until && !stream.closed) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (!stream.closed) stream.write("abcd");
  }
  if (forMs > 0) stream.end();
  await waitFor("the stream to close", () => stream.closed);
  session.destroy();
  return { status, body, rstCode: stream.rstCode };
}

const logged = async ({ lines }: TestProxy, path: string): Promise<Line> => {
  const lineOf = (): Line | undefined => lines.find((line) => line.path === path);
  await waitFor(`the log line of ${path}`, () => lineOf() !== undefined);
  return lineOf() as Line;
};

describe("without a configured limit on the whole upload", { concurrency: true }, () => {
  test("an upload that makes progress succeeds, over HTTP/1.1 and HTTP/2, on a route without and with the default timeout", async () => {
    const [one, continued, byDefault, two] = await Promise.all([
      upload(idle, { path: "/moves", forMs: uploadMs }),
      upload(idle, { expect: true, forMs: uploadMs }),
      upload(idle, { host: "default.localhost", forMs: uploadMs }),
      uploadOverHttp2(idle, { forMs: uploadMs }),
    ]);
    for (const received of [one, continued, byDefault]) assert.match(received, /^HTTP\/1\.1 200 /);
    assert.equal(two.status, 200);
    assert.equal((await logged(idle, "/moves")).failure, undefined);
  });

  test("an idle upload is 408, also after 100 Continue, and the log line has the reason", async () => {
    const [one, continued, two] = await Promise.all([
      upload(idle, { path: "/silence/1", forMs: 0 }),
      upload(idle, { path: "/silence/continued", expect: true, forMs: 0 }),
      uploadOverHttp2(idle, { path: "/silence/2", forMs: 0 }),
    ]);
    for (const received of [one, continued]) {
      assert.match(received, /^HTTP\/1\.1 408 Request Timeout\r\n/);
      assert.match(received, /connection: close/i);
      assert.match(received, /"statusText":"Request timeout"/);
    }
    assert.deepEqual([two.status, two.rstCode], [408, 0]);
    for (const path of ["/silence/1", "/silence/continued", "/silence/2"]) {
      const { "response-code": status, failure, "response-code-details": details } = await logged(idle, path);
      assert.deepEqual([status, failure, details], [408, "request-timeout", "request_timeout"], path);
    }
  });

  test("an upload that the caller stops is 408 after the route's idle timeout; one that the upstream does not read is 504", async () => {
    const silent = await upload(idle, { host: "idle.localhost", path: "/silence/idle", forMs: 0 });
    assert.match(silent, /^HTTP\/1\.1 408 /);
    assert.equal((await logged(idle, "/silence/idle")).failure, "request-timeout");
    const socket = connect(idle.rig.port, "127.0.0.1");
    let received = "";
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
    });
    socket.write("POST /stuck HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 30000000\r\n\r\n");
    socket.write(Buffer.alloc(30_000_000));
    await waitFor("the response", () => /HTTP\/1\.1 504 /.test(received));
    assert.equal((await logged(idle, "/stuck")).failure, "upstream-timeout");
    socket.destroy();
  });

  test("the default timeout starts when the upload is complete", async () => {
    assert.match(await upload(idle, { host: "default.localhost", path: "/silent", forMs: 1_000 }), /^HTTP\/1\.1 504 /);
    assert.equal((await logged(idle, "/silent")).failure, "upstream-timeout");
  });
});

describe("a configured limit on the whole upload", { concurrency: true }, () => {
  test("timeout_read ends an upload that still makes progress: 408", async () => {
    const [one, two] = await Promise.all([
      upload(total, { path: "/whole/1", forMs: 20_000 }),
      uploadOverHttp2(total, { path: "/whole/2", forMs: 20_000 }),
    ]);
    assert.match(one, /^HTTP\/1\.1 408 /);
    assert.equal(two.status, 408);
    for (const path of ["/whole/1", "/whole/2"]) assert.equal((await logged(total, path)).failure, "request-timeout");
  });

  test("the route's timeout ends an upload that still makes progress, and blames the caller: 408", async () => {
    assert.match(await upload(idle, { host: "written.localhost", path: "/late", forMs: 20_000 }), /^HTTP\/1\.1 408 /);
    assert.equal((await logged(idle, "/late")).failure, "request-timeout");
  });
});

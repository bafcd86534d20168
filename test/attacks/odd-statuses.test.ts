/**
 * Status codes outside of HTTP, and codes without a body whose upstream declares one, delivered to HTTP/1.1 and HTTP/2
 * callers.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { after, before, test } from "node:test";
import { cookieOf, type Rig, routeTo, signedIn, startRig } from "../proxy/support.ts";
import { waitFor } from "../support/wait-for.ts";

type DeliveredResponse = Readonly<{ status: number; length: string | undefined; body: string; rstCode: number }>;

const endings: (() => void)[] = [];
const server = createServer((socket) => {
  socket.on("error", () => {});
  let seen = "";
  socket.on("data", (chunk: Buffer) => {
    seen += chunk.toString("latin1");
    for (let end = seen.indexOf("\r\n\r\n"); end >= 0; end = seen.indexOf("\r\n\r\n")) {
      const status = /^[A-Z]+ \/(\d{3})/.exec(seen)?.[1] ?? "200";
      if (seen.includes("/205/late")) {
        socket.write("HTTP/1.1 205 Odd\r\n\r\n");
        endings.push(() => socket.end());
        return;
      }
      seen = seen.slice(end + 4);
      const body = status === "204" || status === "304" ? "" : "hello";
      socket.write(`HTTP/1.1 ${status} Odd\r\nContent-Length: 5\r\n\r\n${body}`);
    }
  });
});
let rig: Rig;
before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  rig = await startRig([routeTo((server.address() as AddressInfo).port)]);
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  server.close();
});

async function requestByHttp2(path: string): Promise<DeliveredResponse> {
  const session = connect(`http://127.0.0.1:${rig.port}`);
  session.on("error", () => {});
  const stream = session.request({ ":path": path, ":authority": "app.localhost", cookie: cookieOf(1) });
  let [status, length, body] = [0, undefined as string | undefined, ""];
  stream.on("response", (headers) => {
    status = headers[":status"] ?? 0;
    length = headers["content-length"];
  });
  stream.on("data", (chunk: Buffer) => {
    body += chunk.toString("latin1");
  });
  stream.on("error", () => {});
  await once(stream, "close");
  session.destroy();
  return { status, length, body, rstCode: stream.rstCode };
}

const whole = { rstCode: 0 };
test("over HTTP/2 a response without a body declares no length, so the stream ends cleanly", async () => {
  assert.deepEqual(await requestByHttp2("/204"), { status: 204, length: undefined, body: "", ...whole });
  assert.deepEqual(await requestByHttp2("/205"), { status: 205, length: undefined, body: "", ...whole });
  assert.deepEqual(await requestByHttp2("/304"), { status: 304, length: "5", body: "", ...whole });
});

test("a status above 599 becomes 500 for HTTP/2 callers and is forwarded unchanged over HTTP/1.1", async () => {
  for (const status of [600, 999]) {
    assert.deepEqual(await requestByHttp2(`/${status}`), { status: 500, length: "5", body: "hello", ...whole });
    const answer = await rig.request({ path: `/${status}`, session: 1 });
    assert.deepEqual([answer.status, answer.body], [status, "hello"]);
  }
  assert.equal((await requestByHttp2("/200")).status, 200);
});

test("a status below 100 is answered with 502 at once", async () => {
  for (const status of ["000", "099"])
    assert.equal((await rig.request({ path: `/${status}`, session: 1 })).status, 502);
});

test("a caller that is still uploading is stopped once a response without a body ends, however late", async () => {
  const session = connect(`http://127.0.0.1:${rig.port}`);
  session.on("error", () => {});
  const lines = { ":method": "POST", ":path": "/205/late", ":authority": "app.localhost", cookie: cookieOf(1) };
  const stream = session.request(lines, { endStream: false });
  stream.on("error", () => {}).resume();
  const closed = once(stream, "close");
  await once(stream, "response");
  await waitFor("the head of the response to arrive", () => stream.readableEnded);
  for (const end of endings) end();
  await closed;
  assert.equal(stream.rstCode, 0);
  session.destroy();
});

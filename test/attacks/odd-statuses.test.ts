/**
 * Statuses that HTTP does not have, and those that have no body although their upstream says so: told by one upstream
 * to callers of both protocols.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { after, before, test } from "node:test";
import { cookieOf, type Rig, routeTo, signedIn, startRig } from "../proxy/support.ts";
import { waitFor } from "../support/wait-for.ts";

type Told = Readonly<{ status: number; length: string | undefined; body: string; rstCode: number }>;

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

async function askByHttp2(path: string): Promise<Told> {
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
test("over HTTP/2 an answer that has no body speaks of none, so that it is no broken stream", async () => {
  assert.deepEqual(await askByHttp2("/204"), { status: 204, length: undefined, body: "", ...whole });
  assert.deepEqual(await askByHttp2("/205"), { status: 205, length: undefined, body: "", ...whole });
  assert.deepEqual(await askByHttp2("/304"), { status: 304, length: "5", body: "", ...whole });
});

test("a status beyond 599 is a 5xx to callers of HTTP/2 and itself to others, and this node outlives it", async () => {
  for (const status of [600, 999]) {
    assert.deepEqual(await askByHttp2(`/${status}`), { status: 500, length: "5", body: "hello", ...whole });
    const answer = await rig.request({ path: `/${status}`, session: 1 });
    assert.deepEqual([answer.status, answer.body], [status, "hello"]);
  }
  assert.equal((await askByHttp2("/200")).status, 200);
});

test("one below 100 is no answer: 502 at once, rather than a wait for the real one", async () => {
  for (const status of ["000", "099"])
    assert.equal((await rig.request({ path: `/${status}`, session: 1 })).status, 502);
});

test("a caller that still sends is told to stop when an answer without a body ends, however late that is", async () => {
  const session = connect(`http://127.0.0.1:${rig.port}`);
  session.on("error", () => {});
  const lines = { ":method": "POST", ":path": "/205/late", ":authority": "app.localhost", cookie: cookieOf(1) };
  const stream = session.request(lines, { endStream: false });
  stream.on("error", () => {}).resume();
  const closed = once(stream, "close");
  await once(stream, "response");
  await waitFor("the answer's head to have left", () => stream.readableEnded);
  for (const end of endings) end();
  await closed;
  assert.equal(stream.rstCode, 0);
  session.destroy();
});

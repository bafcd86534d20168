/**
 * What an HTTP/2 upstream says it did not look at (REFUSED_STREAM, above GOAWAY's last stream) is sent again, once,
 * whatever its method; and nothing else is. The upstreams here count what they carried out, by the bodies they were
 * sent.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { constants, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import type { RouteConfig } from "../../src/config/index.ts";
import { freePort } from "../support/free-port.ts";
import {
  data,
  endHeaders,
  endStream,
  frame,
  frameTypes,
  headers,
  reset,
  serveFrames,
} from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig } from "./support.ts";

const { NGHTTP2_REFUSED_STREAM: refusedStream, NGHTTP2_NO_ERROR: noError } = constants;

type Stream = Readonly<{ socket: Socket; connection: number; id: number; body: () => string }>;
type Manner = Readonly<{
  /** @returns false: it is refused, and nothing of it counts as carried out */
  onHead?: (stream: Stream) => boolean;
  /** It counts as carried out. */
  onWhole?: (stream: Stream) => void;
}>;

const answer = ({ socket, id, body }: Stream): void => {
  socket.write(headers(id, endHeaders, ":status", "200"));
  socket.write(data(id, endStream, body()));
};
const goAway = (lastStream: number, code: number = noError): Buffer => {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(lastStream, 0);
  payload.writeUInt32BE(code, 4);
  return frame(frameTypes.goAway, 0, 0, payload);
};

type FrameUpstream = Readonly<{
  port: number;
  /** Bodies of requests that came whole and were not refused. */
  carriedOut: readonly string[];
  connections: readonly Socket[];
  /** Takes no further connection. */
  stopListening(): void;
}>;

async function startFrames(t: TestContext, { onHead, onWhole = answer }: Manner): Promise<FrameUpstream> {
  const carriedOut: string[] = [];
  const connections: Socket[] = [];
  const server = createServer((socket) => {
    const connection = connections.push(socket);
    const bodies = new Map<number, string>();
    serveFrames(socket, ({ type, flags, stream: id, payload }) => {
      const stream = { socket, connection, id, body: () => bodies.get(id) ?? "" };
      if (type === frameTypes.headers) {
        if (onHead !== undefined && !onHead(stream)) return;
        bodies.set(id, "");
      }
      if (!bodies.has(id)) return;
      if (type === frameTypes.data) bodies.set(id, bodies.get(id) + payload.toString("latin1"));
      const ends = (type === frameTypes.headers || type === frameTypes.data) && (flags & endStream) !== 0;
      if (!ends) return;
      carriedOut.push(stream.body());
      onWhole(stream);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { port, carriedOut, connections, stopListening: () => void server.close() };
}

async function startTo(t: TestContext, ports: readonly number[], parts: Partial<RouteConfig> = {}): Promise<Rig> {
  const to = ports.map((port) => ({ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }));
  const rig = await startRig([routeTo(ports[0] ?? 0, { ...publicAccess, to, ...parts })]);
  t.after(() => rig.close());
  return rig;
}

const call = (rig: Rig, body: string | Buffer, path = "/pkg.Service/Call") =>
  rig.request({ method: "POST", path, body, headers: { "content-type": "application/grpc", te: "trailers" } });

const refuse = ({ socket, id }: Stream): false => {
  socket.write(reset(id, refusedStream));
  return false;
};

test("a POST whose stream was refused is sent again on another connection", async (t) => {
  const asked: number[] = [];
  const upstream = await startFrames(t, {
    onHead(stream) {
      asked.push(stream.connection);
      return asked.length === 1 ? refuse(stream) : true;
    },
  });
  const rig = await startTo(t, [upstream.port]);
  const answered = await call(rig, "hello");
  assert.deepEqual([answered.status, answered.body], [200, "hello"]);
  assert.deepEqual(upstream.carriedOut, ["hello"]);
  assert.deepEqual(asked, [1, 2]);
  assert.match(await rig.metrics(), /cardea_proxy_upstream_retries_total 1\n/);
});

test("so is one without a body, and a PATCH", async (t) => {
  let asked = 0;
  const upstream = await startFrames(t, { onHead: (stream) => (++asked % 2 === 1 ? refuse(stream) : true) });
  const rig = await startTo(t, [upstream.port]);
  assert.equal((await rig.request({ method: "POST" })).status, 200);
  assert.equal((await rig.request({ method: "PATCH", body: "change" })).status, 200);
  assert.deepEqual(upstream.carriedOut, ["", "change"]);
});

test("what is refused a second time fails", async (t) => {
  let asked = 0;
  const upstream = await startFrames(t, {
    onHead(stream) {
      asked++;
      return refuse(stream);
    },
  });
  const rig = await startTo(t, [upstream.port]);
  const answered = await call(rig, "hello");
  assert.deepEqual([answered.status, answered.headers["grpc-status"]], [502, "14"]);
  assert.equal(asked, 2);
  assert.deepEqual(upstream.carriedOut, []);
});

test("a body beyond 16 KiB is not kept, and its request not sent again", async (t) => {
  const asked: number[] = [];
  const upstream = await startFrames(t, {
    onHead: ({ id }) => asked.push(id) > 0,
    onWhole: ({ socket, id }) => void socket.write(reset(id, refusedStream)),
  });
  const rig = await startTo(t, [upstream.port]);
  assert.equal((await call(rig, Buffer.alloc(16_385, "x"))).status, 502);
  assert.equal(asked.length, 1);
  assert.equal((await call(rig, Buffer.alloc(16_384, "x"))).status, 502);
  assert.equal(asked.length, 3, "one of exactly 16 KiB is");
});

test("what comes of a body while its stream is refused is sent in its place", async (t) => {
  const asked: Stream[] = [];
  const upstream = await startFrames(t, { onHead: (stream) => asked.push(stream) !== 1 });
  const rig = await startTo(t, [upstream.port]);
  const sent = request({ port: rig.port, host: "127.0.0.1", method: "POST", headers: { host: "app.localhost" } });
  const answered = once(sent, "response");
  sent.write("one ");
  await waitFor("the first try", () => asked.length === 1);
  const [first] = asked;
  assert.ok(first);
  sent.write("two ");
  first.socket.write(reset(first.id, refusedStream));
  await waitFor("the second try", () => asked.length === 2);
  sent.end("three");
  const [res] = await answered;
  assert.equal((await res.setEncoding("latin1").toArray()).join(""), "one two three");
  assert.deepEqual(upstream.carriedOut, ["one two three"]);
});

test("not where max_retries is 0", async (t) => {
  let asked = 0;
  const upstream = await startFrames(t, { onHead: (stream) => (++asked === 1 ? refuse(stream) : true) });
  const bare = routeTo(1);
  const rig = await startTo(t, [upstream.port], { circuitBreakers: { ...bare.circuitBreakers, retries: 0 } });
  assert.equal((await call(rig, "hello")).status, 502);
  assert.equal(asked, 1);
  assert.match(await rig.metrics(), /cardea_proxy_upstream_overflows_total\{[^}]*bound="retries"[^}]*\} 1\n/);
});

test("a second try counts for max_retries until its answer begins, not to its end", async (t) => {
  let asked = 0;
  const upstream = await startFrames(t, {
    onHead: (stream) => (++asked % 2 === 1 ? refuse(stream) : true),
    onWhole: ({ socket, id }) => void socket.write(headers(id, endHeaders, ":status", "200")), // and no more
  });
  const bare = routeTo(1);
  const rig = await startTo(t, [upstream.port], { circuitBreakers: { ...bare.circuitBreakers, retries: 1 } });
  for (const body of ["a", "b", "c"]) {
    const sent = request({ port: rig.port, host: "127.0.0.1", method: "POST", headers: { host: "app.localhost" } });
    t.after(() => sent.destroy());
    sent.on("error", () => {});
    sent.end(body);
    const [{ statusCode }] = await once(sent, "response");
    assert.equal(statusCode, 200);
  }
  assert.deepEqual(upstream.carriedOut, ["a", "b", "c"]);
});

test("above the last stream of a GOAWAY it is sent again; up to that one it is not", async (t) => {
  const held: Stream[] = [];
  const upstream = await startFrames(t, {
    onWhole: (stream) => (stream.connection === 1 ? void held.push(stream) : answer(stream)),
  });
  const rig = await startTo(t, [upstream.port]);
  const calls = [call(rig, "a"), call(rig, "b"), call(rig, "c"), call(rig, "d")];
  await waitFor("all to have come", () => held.length === 4);
  const ids = held.map(({ id }) => id).sort((a, b) => a - b);
  const [first] = held;
  assert.ok(first);
  first.socket.write(goAway(ids[1] ?? 0));
  await waitFor("two of them to come again", () => upstream.carriedOut.length === 6);
  first.socket.destroy();
  const statuses = (await Promise.all(calls)).map(({ status }) => status);
  assert.deepEqual(statuses.sort(), [200, 200, 502, 502]);
  const again = held.filter(({ id }) => id > (ids[1] ?? 0)).map(({ body }) => body());
  assert.deepEqual(upstream.carriedOut.slice(4).sort(), again.sort());
});

for (const code of [refusedStream, constants.NGHTTP2_ENHANCE_YOUR_CALM])
  test(`a GOAWAY with code ${code} says nothing of the streams that it counts in`, async (t) => {
    const upstream = await startFrames(t, {
      onWhole: (stream) => (stream.connection === 1 ? void stream.socket.end(goAway(stream.id, code)) : answer(stream)),
    });
    const rig = await startTo(t, [upstream.port]);
    assert.equal((await call(rig, "pay")).status, 502);
    assert.deepEqual(upstream.carriedOut, ["pay"]);
    assert.equal((await call(rig, "more")).status, 200);
  });

test("nor is what broke off in any other way sent again", async (t) => {
  const ends: ((stream: Stream) => void)[] = [
    ({ socket, id }) => void socket.write(reset(id, constants.NGHTTP2_CANCEL)),
    ({ socket, id }) => void socket.write(reset(id, constants.NGHTTP2_INTERNAL_ERROR)),
    ({ socket }) => void socket.end(),
    ({ socket }) => void socket.resetAndDestroy(),
    ({ socket, id }) => void socket.end(goAway(id)),
    // Its answer has begun: whatever it says then, it has looked at it.
    ({ socket, id }) => {
      socket.write(headers(id, endHeaders, ":status", "200"));
      socket.write(reset(id, refusedStream));
    },
    ({ socket, id }) => {
      socket.write(headers(id, endHeaders, ":status", "103", "link", "</a.css>"));
      socket.write(reset(id, refusedStream));
    },
  ];
  let n = 0;
  const upstream = await startFrames(t, { onWhole: (stream) => ends[n++]?.(stream) });
  const rig = await startTo(t, [upstream.port]);
  const sent = ends.map((_, i) => `pay ${i}`);
  for (const body of sent) await call(rig, body).catch(() => undefined);
  assert.deepEqual(upstream.carriedOut, sent);
});

test("where there is another upstream it is that one's turn: the first may have stopped listening", async (t) => {
  const first = await startFrames(t, {
    onHead({ socket }) {
      first.stopListening();
      socket.write(goAway(0));
      return false;
    },
  });
  const second = await startFrames(t, {});
  const rig = await startTo(t, [first.port, second.port]);
  const answers = [await call(rig, "a"), await call(rig, "b")];
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200],
  );
  assert.deepEqual(second.carriedOut, ["a", "b"]);
});

test("an upstream that leaves its connections in the middle of load fails no call, and carries each out once", {
  timeout: 120_000,
}, async (t) => {
  const calls = 400;
  const carriedOut = new Map<string, number>();
  let farewells = 0;
  const server = createHttp2Server();
  server.on("session", (session) => {
    let streams = 0;
    session.on("stream", (stream: ServerHttp2Stream) => {
      if (++streams === 20) {
        farewells++;
        session.close(); // GOAWAY with this as its last stream; what is on its way here is dropped unread
      }
      stream.on("error", () => {});
      let body = "";
      stream.on("data", (chunk: Buffer) => {
        body += chunk.toString("latin1");
      });
      stream.on("end", () => {
        carriedOut.set(body, (carriedOut.get(body) ?? 0) + 1);
        setTimeout(() => {
          stream.respond({ ":status": 200, "content-type": "application/grpc" });
          stream.end(body);
        }, 2);
      });
    });
  });
  server.listen(await freePort(), "127.0.0.1");
  await once(server, "listening");
  t.after(() => void server.close());
  const bare = routeTo(1);
  const rig = await startTo(t, [(server.address() as AddressInfo).port], {
    circuitBreakers: { ...bare.circuitBreakers, retries: 100 },
  });
  let next = 0;
  const failed: string[] = [];
  await Promise.all(
    Array.from({ length: 50 }, async () => {
      while (next < calls) {
        const body = `call ${next++}`;
        const answered = await call(rig, body);
        if (answered.status !== 200 || answered.body !== body) failed.push(`${body}: ${answered.status}`);
      }
    }),
  );
  const retried = /cardea_proxy_upstream_retries_total (\d+)/.exec(await rig.metrics())?.[1];
  t.diagnostic(JSON.stringify({ farewells, retried, failed: failed.length }));
  assert.deepEqual(failed, []);
  assert.equal(carriedOut.size, calls);
  assert.ok([...carriedOut.values()].every((times) => times === 1));
  assert.ok(farewells > 5);
});

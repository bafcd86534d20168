/** Our side of HTTP/2 connections to upstreams, against an upstream that sends frames by hand. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { Http2Pool } from "../../../src/proxy/http2/upstream-pool.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import type { CallFailure, UpstreamCall } from "../../../src/proxy/message/upstream-call.ts";
import {
  data,
  endHeaders,
  endStream,
  type Frame,
  frame,
  frameTypes,
  headers,
  initialWindow,
  integer,
  reset,
  serveFrames,
  settings,
  windowUpdate,
} from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";

type Upstream = { socket: Socket; frames: Frame[] };
type Sent = {
  call: UpstreamCall;
  status: number;
  body: string;
  trailers: readonly string[] | undefined;
  error: (Error & { code?: string }) | undefined;
  failure: CallFailure | undefined;
  mayRead: boolean;
  maySend: boolean;
  writable: number;
};

const upstreams: Upstream[] = [];
/** Called with each frame of a connection, and the connection. */
let onFrame: (received: Frame, upstream: Upstream) => void = () => {};
const server = createServer((socket) => {
  const upstream: Upstream = { socket, frames: [] };
  upstreams.push(upstream);
  serveFrames(socket, (received) => {
    upstream.frames.push(received);
    onFrame(received, upstream);
  });
});

before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
after(() => {
  for (const { socket } of upstreams) socket.destroy();
  server.close();
});

/** A pool with one connection at a time. @param answer to each head */
function openPool(answer: (received: Frame, upstream: Upstream) => void): Http2Pool {
  onFrame = (received, upstream) => {
    if (received.type === frameTypes.headers) answer(received, upstream);
  };
  const { port } = server.address() as AddressInfo;
  const lookup = () => assert.fail("an address needs no look-up");
  return new Http2Pool(
    { secure: false, path: null, hostname: "127.0.0.1", port, lookup, tls: {} },
    { connectionsMax: 1, connectTimeoutMs: 10_000, idleMs: 60_000 },
  );
}

function send(
  pool: Http2Pool,
  {
    method = "POST",
    lines = [],
    hasBody = false,
    idleTimeoutMs = 0,
  }: Readonly<{
    method?: string;
    lines?: readonly string[];
    hasBody?: boolean;
    idleTimeoutMs?: number;
  }> = {},
): Sent {
  const sent: Partial<Sent> = {
    ...{ status: 0, body: "", trailers: undefined, error: undefined, failure: undefined },
    ...{ mayRead: true, maySend: true, writable: 0 },
  };
  const all = sent as Sent;
  const headerLines = new HeaderLines(["host", "upstream", ...lines]);
  all.call = pool.call(
    { method, path: "/", headers: headerLines, requestId: null, hasBody, idleTimeoutMs },
    {
      maySend: () => all.maySend,
      onWritable() {
        all.writable += 1;
      },
      onInformational() {},
      onHead(status) {
        all.status = status;
      },
      onData(chunk) {
        all.body += chunk.toString("latin1");
        return all.mayRead;
      },
      onEnd(trailers) {
        all.trailers = trailers;
      },
      onError(error, failure) {
        all.error = error;
        all.failure = failure;
      },
    },
  );
  return all;
}

const isOver = ({ trailers, error }: Sent): boolean => trailers !== undefined || error !== undefined;
const ok = (stream: number, flags = 0): Buffer => headers(stream, endHeaders | flags, ":status", "200");
const fine = (received: Frame, { socket }: Upstream): void => {
  socket.write(Buffer.concat([ok(received.stream), data(received.stream, endStream, "fine")]));
};

/** A pool's next call gets a valid response. */
async function assertUsable(pool: Http2Pool): Promise<void> {
  openAnswer(fine);
  const next = send(pool);
  await waitFor("the next response", () => isOver(next));
  assert.deepEqual([next.error, next.body], [undefined, "fine"]);
  pool.close();
}
function openAnswer(answer: (received: Frame, upstream: Upstream) => void): void {
  onFrame = (received, upstream) => {
    if (received.type === frameTypes.headers) answer(received, upstream);
  };
}

/** Each: what the upstream answers the first call with, which must fail as malformed. */
const malformed: Readonly<Record<string, (stream: number) => readonly Buffer[]>> = {
  "data before the head": (stream) => [data(stream, endStream, "poison")],
  "trailers that do not end the stream": (stream) => [
    ok(stream),
    headers(stream, endHeaders, "grpc-status", "0"),
    data(stream, endStream, "x"),
  ],
  "trailers with a status": (stream) => [ok(stream), headers(stream, endHeaders | endStream, ":status", "200")],
  "trailers with a line break": (stream) => [
    ok(stream),
    headers(stream, endHeaders | endStream, "grpc-message", "a\r\nset-cookie: poison=1"),
  ],
  "trailers that refer to one field very often": (stream) => {
    const field = Buffer.concat([
      Buffer.from([0x40]),
      integer(1, 7, 0),
      Buffer.from("a"),
      integer(4_000, 7, 0),
      Buffer.alloc(4_000, 0x62),
    ]);
    const bomb = Buffer.concat([field, Buffer.alloc(12_000, 0x80 | 62)]);
    return [ok(stream), frame(frameTypes.headers, endHeaders | endStream, stream, bomb)];
  },
  "fewer bytes than the content-length": (stream) => [
    headers(stream, endHeaders, ":status", "200", "content-length", "9"),
    data(stream, endStream, "short"),
  ],
  "two content-lengths": (stream) => [
    headers(stream, endHeaders | endStream, ":status", "200", "content-length", "0", "content-length", "0"),
  ],
  "a response that is informational and complete": (stream) => [
    headers(stream, endHeaders | endStream, ":status", "103"),
  ],
  "a status behind other fields": (stream) => [headers(stream, endHeaders | endStream, "a", "b", ":status", "200")],
  "a name with capitals": (stream) => [headers(stream, endHeaders | endStream, ":status", "200", "X-A", "b")],
  "a body after HEAD": (stream) => [ok(stream), data(stream, endStream, "poison")],
  "a window that becomes too large": (stream) => [windowUpdate(stream, 0x7fff_ffff)],
  "a window update of nothing": (stream) => [windowUpdate(stream, 0)],
};

for (const [name, answer] of Object.entries(malformed))
  test(`${name}: the call fails, and the next one gets its own response`, async () => {
    const pool = openPool(({ stream }, { socket }) => socket.write(Buffer.concat(answer(stream))));
    const call = send(pool, { method: name.includes("HEAD") ? "HEAD" : "POST" });
    await waitFor("the call to end", () => isOver(call));
    assert.equal(call.error?.code, "ERR_PROXY_UPSTREAM_PROTOCOL");
    assert.deepEqual(call.failure, { staleConnection: false, unprocessed: false });
    assert.doesNotMatch(call.body, /poison/);
    await assertUsable(pool);
  });

/** Each: what the upstream sends after a whole response, which breaks the connection. */
const afterEnd: Readonly<Record<string, (stream: number) => Buffer>> = {
  trailers: (stream) => headers(stream, endHeaders | endStream, "grpc-status", "13"),
  data: (stream) => data(stream, endStream, "poison"),
  "a frame of a stream that was never opened": (stream) => data(stream + 2, 0, "poison"),
};

for (const [name, answer] of Object.entries(afterEnd))
  test(`${name} after END_STREAM changes no response, and ends the connection`, async () => {
    let ended: Upstream | undefined;
    const pool = openPool(({ stream }, upstream) => {
      ended = upstream;
      upstream.socket.write(
        Buffer.concat([
          ok(stream),
          data(stream, 0, "whole"),
          headers(stream, endHeaders | endStream, "grpc-status", "0"),
          answer(stream),
        ]),
      );
    });
    const call = send(pool);
    await waitFor("the call to end", () => isOver(call));
    assert.deepEqual([call.body, call.trailers], ["whole", ["grpc-status", "0"]]);
    await waitFor("a GOAWAY", () => ended?.frames.some(({ type }) => type === frameTypes.goAway) === true);
    await assertUsable(pool);
  });

test("a call that is aborted in its turn, or not permitted at its end, sends nothing", async () => {
  const pool = openPool(fine);
  const warm = send(pool);
  await waitFor("the connection", () => isOver(warm));
  const aborted = send(pool, { hasBody: true });
  aborted.call.abort();
  const refused = send(pool, { hasBody: true });
  refused.maySend = false;
  const third = send(pool);
  await waitFor("the third response", () => isOver(third));
  const seen = upstreams
    .at(-1)
    ?.frames.filter(({ stream }) => stream > 0)
    .map(({ type, stream }) => [type, stream]);
  assert.deepEqual(seen, [
    [frameTypes.headers, 1],
    [frameTypes.headers, 3],
  ]);
  assert.deepEqual([aborted, refused].map(isOver), [false, false]);
  assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  pool.close();
});

test("a body that waits for a window is not sent once the permit has ended", async () => {
  const pool = openPool((_, { socket }) => socket.write(settings(initialWindow(4))));
  const call = send(pool, { hasBody: true });
  await waitFor("the head to be sent", () => call.writable > 0);
  const [upstream] = upstreams.slice(-1);
  await waitFor(
    "the window of nearly nothing",
    () => upstream?.frames.some(({ flags, type }) => type === 4 && flags === 1) === true,
  );
  await waitFor("both acknowledgements", () => (upstream?.frames.filter(({ type }) => type === 4).length ?? 0) >= 3);
  call.call.write(Buffer.from("first and secret"));
  const bodyOf = (): string =>
    (upstream?.frames ?? [])
      .filter(({ type }) => type === frameTypes.data)
      .map(({ payload }) => payload.toString())
      .join("");
  await waitFor("what the window lets pass", () => bodyOf() === "firs");
  call.maySend = false;
  upstream?.socket.write(windowUpdate(1, 1_000));
  await waitFor("a reset", () => upstream?.frames.some(({ type }) => type === frameTypes.reset) === true);
  assert.equal(bodyOf(), "firs");
  assert.equal(pool.busy, 0);
  await assertUsable(pool);
});

test("a reader that pauses gets the rest and the trailers when it resumes, even after a reset", async () => {
  const pool = openPool(({ stream }, { socket }) => {
    const parts = [ok(stream), data(stream, 0, "a"), data(stream, 0, "b"), data(stream, 0, "c")];
    socket.write(
      Buffer.concat([...parts, headers(stream, endHeaders | endStream, "grpc-status", "0"), reset(stream, 0)]),
    );
  });
  const call = send(pool, { hasBody: true });
  call.mayRead = false;
  await waitFor("the first piece", () => call.body !== "");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([call.body, isOver(call)], ["a", false]);
  call.call.write(Buffer.from("the upstream accepts no more"));
  call.mayRead = true;
  call.call.resume();
  await waitFor("the end", () => isOver(call));
  assert.deepEqual([call.body, call.trailers, call.error], ["abc", ["grpc-status", "0"], undefined]);
  await assertUsable(pool);
});

test("a reader that pauses gets the rest of a complete response after the upstream has closed, and no other", async () => {
  const close = {
    end: (socket: Socket) => void socket.end(),
    reset: (socket: Socket) => void socket.resetAndDestroy(),
  };
  for (const [how, closes] of Object.entries(close)) {
    const answered: Upstream[] = [];
    const pool = openPool(({ stream }, upstream) => {
      const parts = [ok(stream), data(stream, 0, "a"), data(stream, 0, "b")];
      upstream.socket.write(Buffer.concat([...parts, data(stream, stream === 1 ? endStream : 0, "c")]));
      answered.push(upstream);
    });
    const [complete, partial] = [send(pool), send(pool)];
    complete.mayRead = false;
    partial.mayRead = false;
    await waitFor("the first pieces", () => complete.body + partial.body === "aa");
    for (const { socket } of new Set(answered)) closes(socket);
    await waitFor("the partial response to fail", () => partial.error !== undefined);
    assert.deepEqual([complete.body, isOver(complete), partial.failure?.staleConnection], ["a", false, false], how);
    complete.mayRead = true;
    complete.call.resume();
    await waitFor("the end", () => isOver(complete));
    assert.deepEqual([complete.body, complete.error, pool.busy], ["abc", undefined, 0], how);
    await assertUsable(pool);
  }
});

test("an upstream that sends more than a paused reader's window is refused", async () => {
  const piece = "x".repeat(16_384);
  const pool = openPool(({ stream }, { socket }) => {
    socket.write(ok(stream));
    for (let i = 0; i < 65; i++) socket.write(data(stream, 0, piece));
  });
  const call = send(pool);
  call.mayRead = false;
  await waitFor("the call to end", () => isOver(call));
  assert.equal(call.error?.code, "ERR_PROXY_UPSTREAM_PROTOCOL");
  assert.equal(call.body, piece);
  await assertUsable(pool);
});

test("frames of a cancelled stream are ignored, and their bytes are counted", async () => {
  const waiting: (() => void)[] = [];
  const pool = openPool(({ stream }, { socket }) => {
    if (stream > 1) {
      fine({ type: 1, flags: 0, stream, payload: Buffer.alloc(0) }, { socket, frames: [] });
      return;
    }
    socket.write(ok(stream));
    waiting.push(() => {
      for (let i = 0; i < 850; i++) socket.write(data(stream, 0, "x".repeat(16_384)));
      socket.write(headers(stream, endHeaders | endStream, "grpc-status", "0"));
    });
  });
  const call = send(pool);
  await waitFor("the head", () => call.status === 200);
  call.call.abort();
  for (const each of waiting) each();
  const connections = upstreams.length;
  const next = send(pool);
  await waitFor("the next response", () => isOver(next));
  assert.deepEqual([next.body, next.error, upstreams.length], ["fine", undefined, connections]);
  const opened = (): number | undefined =>
    upstreams.at(-1)?.frames.filter(({ type, stream }) => type === frameTypes.windowUpdate && stream === 0).length;
  await waitFor("the first window update, and one of half a window", () => opened() === 2);
  pool.close();
});

test("a response of interim heads without end ends the connection", async () => {
  const pool = openPool(({ stream }, { socket }) => {
    const hints = Buffer.concat(Array.from({ length: 1_500 }, () => headers(stream, endHeaders, ":status", "103")));
    socket.write(hints);
  });
  const call = send(pool);
  await waitFor("the call to end", () => isOver(call));
  assert.equal(call.error?.code, "ERR_PROXY_UPSTREAM_PROTOCOL");
  await assertUsable(pool);
});

test("GOAWAY: later streams were not processed, earlier ones still get their response", async () => {
  const pool = openPool(({ stream }, { socket }) => {
    if (stream !== 3) return;
    socket.write(frame(frameTypes.goAway, 0, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])));
    socket.write(Buffer.concat([ok(1), data(1, endStream, "first")]));
  });
  const [first, second] = [send(pool), send(pool)];
  await waitFor("both to end", () => isOver(first) && isOver(second));
  assert.deepEqual([first.body, first.error], ["first", undefined]);
  assert.equal(second.failure?.unprocessed, true);
  await assertUsable(pool);
});

test("a silent stream times out alone; one whose reader pauses does not", async () => {
  const pool = openPool(({ stream }, { socket }) => {
    if (stream === 3) socket.write(Buffer.concat([ok(stream), data(stream, 0, "a")]));
  });
  const silent = send(pool, { idleTimeoutMs: 200 });
  const paused = send(pool, { idleTimeoutMs: 200 });
  paused.mayRead = false;
  await waitFor("the silent one to time out", () => isOver(silent));
  assert.equal(silent.error?.code, "ERR_PROXY_UPSTREAM_IDLE");
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(isOver(paused), false);
  await assertUsable(pool);
});

test("what repeats is sent as a reference, and what is secret or changes is not", async () => {
  const pool = openPool(fine);
  const lines = ["x-team", "blue-whales", "cookie", "secret-cookie", "authorization", "Bearer secret-token"];
  for (let i = 0; i < 2; i++) {
    const call = send(pool, { lines });
    await waitFor("the response", () => isOver(call));
  }
  const blocks = upstreams.at(-1)?.frames.filter(({ type }) => type === frameTypes.headers);
  const [first = "", second = ""] = (blocks ?? []).map(({ payload }) => payload.toString("latin1"));
  assert.deepEqual(
    ["blue-whales", "secret-cookie", "secret-token"].map((value) => [first.includes(value), second.includes(value)]),
    [
      [true, false],
      [true, true],
      [true, true],
    ],
  );
  pool.close();
});

test("a value that cannot be sent fails its own call only", async () => {
  const pool = openPool(fine);
  const [bad, good] = [send(pool, { lines: ["x-a", "b\nc: d"] }), send(pool)];
  await waitFor("both to end", () => isOver(bad) && isOver(good));
  assert.equal(bad.error?.code, "ERR_PROXY_UNWRITABLE_HEADER");
  assert.equal(good.body, "fine");
  const wide = send(pool, { lines: ["x-a", "\u010a"] });
  await waitFor("it to end", () => isOver(wide));
  assert.equal(wide.error?.code, "ERR_PROXY_UNWRITABLE_HEADER");
  pool.close();
});

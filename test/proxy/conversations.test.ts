/**
 * Random conversations on raw sockets: requests of every framing, in random pieces, pipelined or not, with responses of
 * every framing and size, on persistent connections. Each response must match its request, whole and in order, and the
 * upstream must have received what was sent. A failure prints the seed and the shrunk conversation.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { createParser } from "../../src/proxy/http1/parser.ts";
import { fc } from "../support/property.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream } from "./support.ts";

type Turn = Readonly<{
  method: "GET" | "HEAD" | "POST";
  body: number;
  chunked: boolean;
  responseBytes: number;
  responseChunked: boolean;
  /** Sent before the previous response has arrived. */
  pipelined: boolean;
}>;

let upstream: Upstream;
let rig: Rig;
before(async () => {
  upstream = await startUpstream((req, res) => {
    const hash = createHash("sha256");
    req.on("data", (chunk: Buffer) => hash.update(chunk));
    req.on("end", () => {
      const [, id, size, framing] = /^\/(\d+)\/(\d+)\/(\w+)$/.exec(req.url ?? "") ?? [];
      const body = bytesOf(Number(id), Number(size));
      res.setHeader("x-got", `${req.method} ${id} ${hash.digest("hex")}`);
      if (framing === "length") res.setHeader("content-length", body.length);
      else for (let at = 0; at < body.length; at += 7_001) res.write(body.subarray(at, at + 7_001));
      res.end(framing === "length" ? body : undefined);
    });
  });
  rig = await startRig([routeTo(upstream.port)]);
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  await upstream.close();
});

function bytesOf(id: number, size: number): Buffer {
  return Buffer.alloc(size, `<${id}>`);
}

function requestOf(turn: Turn, id: number): Buffer {
  const { method, chunked, responseBytes, responseChunked } = turn;
  const body = method === "POST" ? bytesOf(id + 1_000, turn.body) : Buffer.alloc(0);
  const target = `/${id}/${responseBytes}/${responseChunked ? "chunked" : "length"}`;
  const head = `${method} ${target} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n`;
  if (method !== "POST") return Buffer.from(`${head}\r\n`, "latin1");
  if (!chunked) return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n`, "latin1"), body]);
  const parts: Buffer[] = [Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n`, "latin1")];
  for (let at = 0; at < body.length; at += 5_003) {
    const piece = body.subarray(at, at + 5_003);
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`, "latin1"), piece, Buffer.from("\r\n", "latin1"));
  }
  return Buffer.concat([...parts, Buffer.from("0\r\n\r\n", "latin1")]);
}

type Received = { status: number; got: string; body: Buffer[] };

/** Reads responses as they arrive, and reports how many are complete. */
function reader(
  socket: Socket,
  turns: readonly Turn[],
): Readonly<{ responses: Received[]; until: (count: number) => Promise<void> }> {
  const responses: Received[] = [];
  let complete = 0;
  let failed: Error | undefined;
  const waiting: { count: number; resolve: () => void; reject: (error: Error) => void }[] = [];
  const check = (): void => {
    for (const wait of waiting)
      if (failed !== undefined) wait.reject(failed);
      else if (complete >= wait.count) wait.resolve();
  };
  const parser = createParser(
    "response",
    { bytesMax: 65_536, linesMax: 1_000 },
    {
      onHead(_major, _minor, head, _method, _url, status) {
        const lines = head ?? [];
        responses.push({
          status: status ?? 0,
          got: lines[lines.findIndex((line) => line.toLowerCase() === "x-got") + 1] ?? "",
          body: [],
        });
        return turns[responses.length - 1]?.method === "HEAD" ? 1 : 0;
      },
      onBody: (bytes) => void responses.at(-1)?.body.push(Buffer.from(bytes)),
      onComplete() {
        complete += 1;
      },
      onTrailers() {},
      onTooManyLines() {},
    },
  );
  socket.on("data", (bytes: Buffer) => {
    const read = parser.execute(bytes);
    if (typeof read !== "number") failed = read;
    check();
  });
  socket.on("error", (error) => {
    failed = error;
    check();
  });
  socket.on("close", () => {
    failed ??= new Error("closed");
    check();
  });
  return {
    responses,
    until: (count) =>
      new Promise((resolve, reject) => {
        waiting.push({ count, resolve, reject });
        check();
      }),
  };
}

async function converse(turns: readonly Turn[], cuts: readonly number[]): Promise<void> {
  const socket = connect(rig.port, "127.0.0.1");
  socket.setNoDelay(true);
  try {
    const { responses, until } = reader(socket, turns);
    let cut = 0;
    for (const [n, turn] of turns.entries()) {
      if (!turn.pipelined) await until(n);
      const bytes = requestOf(turn, n);
      for (let at = 0; at < bytes.length; ) {
        const size = Math.max(1, cuts[cut++ % cuts.length] ?? 1);
        socket.write(bytes.subarray(at, at + size));
        at += size;
        if (size < 200) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await until(turns.length);
    turns.forEach((turn, n) => {
      const body = turn.method === "POST" ? bytesOf(n + 1_000, turn.body) : Buffer.alloc(0);
      const response = responses[n];
      assert.equal(response?.status, 200);
      assert.equal(response.got, `${turn.method} ${n} ${createHash("sha256").update(body).digest("hex")}`);
      const expected = turn.method === "HEAD" ? Buffer.alloc(0) : bytesOf(n, turn.responseBytes);
      assert.ok(Buffer.concat(response.body).equals(expected), `answer ${n} differs`);
    });
  } finally {
    socket.destroy();
  }
}

const size = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 300 }), fc.integer({ min: 10_000, max: 120_000 }));
const turn: fc.Arbitrary<Turn> = fc.record({
  method: fc.constantFrom("GET", "HEAD", "POST"),
  body: size,
  chunked: fc.boolean(),
  responseBytes: size,
  responseChunked: fc.boolean(),
  pipelined: fc.boolean(),
});

test("every response matches its request, whole and in order", { timeout: 220_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(turn, { minLength: 1, maxLength: 8 }),
      fc.array(fc.oneof(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1_000, max: 70_000 })), {
        minLength: 1,
        maxLength: 12,
      }),
      async (turns, cuts) => {
        const largest = Math.max(...turns.map(({ body }) => body));
        // Small pieces of a large body add no coverage, and take long.
        await converse(turns, largest > 300 ? cuts.map((cut) => cut + 4_000) : cuts);
      },
    ),
    { numRuns: 120, seed: 4 },
  );
  assert.equal(rig.proxy.stats().inFlight.http, 0);
  assert.equal(rig.proxy.stats().exchanges.http, 0);
});

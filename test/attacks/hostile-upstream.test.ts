/**
 * A compromised HTTP/1.1 service: what it sends to one caller must not reach another, nor fill this node's memory.
 *
 * Callers share the connections to an upstream, so an unsolicited response is the way from one user to another.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { cookieOf, type Rig, routeTo, signedIn, startRig } from "../proxy/support.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 30_000 };
const answerOf = (body: string, ...lines: readonly string[]): string =>
  ["HTTP/1.1 200 OK", `Content-Length: ${body.length}`, ...lines, "", body].join("\r\n");
const poison = answerOf("poison");

type ReceivedRequest = Readonly<{ socket: Socket; method: string; path: string; head: string }>;
/** Reads requests, ignoring bodies, and lets `answer` write the response to each. */
async function startHostile(
  t: TestContext,
  answer: (request: ReceivedRequest) => void,
): Promise<Readonly<{ port: number; connections: () => number }>> {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.setNoDelay(true);
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString("latin1");
      for (let end = seen.indexOf("\r\n\r\n"); end >= 0; end = seen.indexOf("\r\n\r\n")) {
        const head = seen.slice(0, end);
        seen = seen.slice(end + 4);
        const [, method = "", path = ""] = /^(\S+) (\S+) /.exec(head) ?? [];
        answer({ socket, method, path, head });
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, connections: () => connections };
}

async function rigTo(t: TestContext, port: number, parts: Parameters<typeof routeTo>[1] = {}): Promise<Rig> {
  const rig = await startRig([routeTo(port, { timeoutMs: 20_000, ...parts })]);
  t.after(() => rig.close());
  await rig.apply(signedIn(1), signedIn(2));
  return rig;
}

/**
 * The response to the attacker's own request and the method of that request. Bytes after the response aim at the next
 * caller.
 */
const desyncs: Readonly<Record<string, readonly [answer: string, method?: string]>> = {
  "an unsolicited response after a valid one": [answerOf("fine") + poison],
  "the beginning of an unsolicited response": [`${answerOf("fine")}HTTP/1.1 404 Not Found\r\nX-Rest: `],
  "an empty line and nothing else": [`${answerOf("fine")}\r\n`],
  "bytes beyond the content-length": [`${answerOf("fine")}junk`],
  "a body after HEAD": [answerOf("poison"), "HEAD"],
  "a complete response as the body after HEAD": [
    `HTTP/1.1 200 OK\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`,
    "HEAD",
  ],
  "a body after 204": [`HTTP/1.1 204 No Content\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`],
  "a chunked body after 204": [
    `HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n${poison}`,
  ],
  "a body after 304": [`HTTP/1.1 304 Not Modified\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`],
  "chunked coding and a length": [
    `HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "two lengths": [`HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: ${4 + poison.length}\r\n\r\nfine${poison}`],
  "a list of lengths": [`HTTP/1.1 200 OK\r\nContent-Length: 4, 400\r\n\r\nfine${poison}`],
  "a length with a sign": [`HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nfine${poison}`],
  "chunked, and then something else": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n4\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "an unknown transfer coding": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "a chunk size that overflows": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "a chunk longer than its size": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfineXX0\r\n\r\n${poison}`,
  ],
  "an unsolicited protocol switch": [
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${poison}`,
  ],
  "lines that end in a bare line feed": [`HTTP/1.1 200 OK\nContent-Length: 4\n\nfine${poison}`],
  "a folded line": [`HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 0\r\nContent-Length: 4\r\n\r\nfine${poison}`],
  "a space before a colon": [`HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nfine${poison}`],
  "no status line at all": [`fine\r\n\r\n${poison}`],
  "another version": [`HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nfine${poison}`],
  "a NUL in a value": [`HTTP/1.1 200 OK\r\nX-A: a\u0000b\r\nContent-Length: 4\r\n\r\nfine${poison}`],
};

describe("a response never reaches the wrong caller", () => {
  for (const [name, [hostile, method = "GET"]] of Object.entries(desyncs))
    test(name, async (t) => {
      const upstream = await startHostile(t, ({ socket, path }) => {
        socket.write(path === "/mine" ? hostile : answerOf(`for ${path}`), "latin1");
      });
      const rig = await rigTo(t, upstream.port, { timeoutMs: 3_000 });
      const own = await rig.request({ session: 1, method, path: "/mine" }).catch(() => null);
      assert.ok(own === null || [200, 204, 304, 502, 504].includes(own.status), `${own?.status}`);
      for (let i = 0; i < 4; i++) {
        const { status, body } = await rig.request({ session: 2, path: `/theirs/${i}` });
        assert.deepEqual([status, body], [200, `for /theirs/${i}`]);
      }
    });

  test("however the earlier responses on that connection were framed", async (t) => {
    const framed: Readonly<Record<string, string>> = {
      length: answerOf("fine"),
      chunks: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nX-T: 1\r\n\r\n",
      hint: `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${answerOf("fine")}`,
      nothing: "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
      none: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    };
    const kinds = Object.keys(framed);
    for (const last of kinds) {
      const upstream = await startHostile(t, ({ socket, path }) => {
        const kind = path.slice(path.lastIndexOf("/") + 1);
        socket.write(path.startsWith("/theirs") ? answerOf(`for ${path}`) : (framed[kind] ?? ""));
        if (path.startsWith("/mine")) socket.write("HTTP/1.1 404 Not Found\r\nX-Rest: ");
      });
      const rig = await rigTo(t, upstream.port, { timeoutMs: 5_000 });
      for (const kind of [...kinds, ...kinds.toReversed()]) {
        const { status, body } = await rig.request({ session: 1, path: `/good/${kind}` });
        assert.deepEqual([kind, status, body], [kind, kind === "nothing" ? 304 : 200, /no/.test(kind) ? "" : "fine"]);
      }
      assert.equal(upstream.connections(), 1);
      await rig.request({ session: 1, path: `/mine/${last}` });
      for (let i = 0; i < 3; i++) {
        const { status, body } = await rig.request({ session: 2, path: `/theirs/${i}` });
        assert.deepEqual([last, status, body], [last, 200, `for /theirs/${i}`]);
      }
    }
  });

  test("bytes on an idle connection close it", async (t) => {
    for (const late of [poison, "junk", "HTTP/1.1 100 Continue\r\n\r\n", "\r\n\r\n"]) {
      let sendLate = (): void => {};
      let closed = false;
      const upstream = await startHostile(t, ({ socket, path }) => {
        socket.write(answerOf(`for ${path}`));
        sendLate = () => void socket.write(late, "latin1");
        socket.once("close", () => {
          closed = true;
        });
      });
      const rig = await rigTo(t, upstream.port);
      assert.equal((await rig.request({ session: 1, path: "/mine" })).body, "for /mine");
      sendLate();
      await waitFor("the connection to close", () => closed || undefined, patience);
      assert.equal((await rig.request({ session: 2, path: "/theirs" })).body, "for /theirs");
      assert.equal(upstream.connections(), 2);
    }
  });

  test("a content-length on a 204 is not forwarded: a caller that trusted it would read the next response as the body", async (t) => {
    const upstream = await startHostile(t, ({ socket, path }) => {
      if (path === "/none") socket.write("HTTP/1.1 204 No Content\r\nContent-Length: 44\r\nX-Other: kept\r\n\r\n");
      else socket.write(answerOf("fine"));
    });
    const rig = await rigTo(t, upstream.port);
    const { status, headers } = await rig.request({ session: 1, path: "/none" });
    assert.deepEqual([status, headers["content-length"], headers["x-other"]], [204, undefined, "kept"]);
    assert.equal((await rig.request({ session: 1, path: "/some" })).headers["content-length"], "4");
  });

  test("a 204 with a content-length is the last response of its connection, because a body may follow", async (t) => {
    const upstream = await startHostile(t, ({ socket, path }) => {
      if (path === "/plain") socket.write("HTTP/1.1 204 No Content\r\n\r\n");
      else if (path === "/mine") socket.write("HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n");
      else socket.write(answerOf(`for ${path}`));
    });
    const rig = await rigTo(t, upstream.port);
    for (const [path, connections] of [
      ["/plain", 1],
      ["/plain", 1],
      ["/mine", 1],
      ["/theirs", 2],
    ] as const) {
      await rig.request({ session: 1, path });
      assert.equal(upstream.connections(), connections, path);
    }
  });
});

describe("an endless response of an upstream", () => {
  test("early hints for a caller that does not read do not accumulate, and the response still arrives", async (t) => {
    const hint = `HTTP/1.1 103 Early Hints\r\nLink: </${"x".repeat(4_000)}>\r\n\r\n`;
    let written = 0;
    const upstream = await startHostile(t, ({ socket, path }) => {
      if (path !== "/hints") return void socket.write(answerOf("fine"));
      const more = (): void => {
        while (written < 64 * 1_048_576) {
          written += hint.length;
          if (!socket.write(hint)) return void socket.once("drain", more);
        }
        socket.write(answerOf("at last"));
      };
      more();
    });
    const rig = await rigTo(t, upstream.port, { timeoutMs: 0 });
    const before = process.memoryUsage().rss;
    const socket = connect(rig.port, "127.0.0.1");
    t.after(() => socket.destroy());
    socket.write(`GET /hints HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n\r\n`);
    await waitFor("the upstream to have sent every hint", () => written >= 64 * 1_048_576 || undefined, patience);
    const grown = process.memoryUsage().rss - before;
    assert.ok(grown < 48 * 1_048_576, `${Math.round(grown / 1_048_576)} MB more`);
    assert.equal((await rig.request({ session: 2 })).body, "fine");
    let received = "";
    socket.on("data", (chunk: Buffer) => {
      received = (received + chunk.toString("latin1")).slice(-2_000);
    });
    await waitFor("the response", () => received.endsWith("at last") || undefined, patience);
  });

  test("interim responses end in 504 at the time-out of the route", async (t) => {
    const upstream = await startHostile(t, ({ socket }) => {
      const timer = setInterval(() => socket.write("HTTP/1.1 100 Continue\r\n\r\n".repeat(50)), 1);
      socket.once("close", () => clearInterval(timer));
    });
    const rig = await rigTo(t, upstream.port, { timeoutMs: 400 });
    assert.equal((await rig.request({ session: 1 })).status, 504);
  });

  test("a head ends in 502, and at most the limit of a head is buffered", async (t) => {
    let sent = 0;
    const upstream = await startHostile(t, ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      const line = `X-${"a".repeat(100)}: ${"b".repeat(4_000)}\r\n`;
      const more = (): void => {
        while (!socket.destroyed && sent < 200 * 1_048_576) {
          sent += line.length;
          if (!socket.write(line)) return void socket.once("drain", more);
        }
      };
      more();
    });
    const rig = await rigTo(t, upstream.port);
    assert.equal((await rig.request({ session: 1 })).status, 502);
    assert.ok(sent < 100 * 1_048_576, `${sent} bytes were accepted`);
  });

  test("trailers abort the response", async (t) => {
    const upstream = await startHostile(t, ({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n");
      const line = `X-${"a".repeat(100)}: ${"b".repeat(4_000)}\r\n`;
      let sent = 0;
      const more = (): void => {
        while (!socket.destroyed && sent < 200 * 1_048_576) {
          sent += line.length;
          if (!socket.write(line)) return void socket.once("drain", more);
        }
      };
      more();
    });
    const rig = await rigTo(t, upstream.port);
    await assert.rejects(rig.request({ session: 1 }));
  });
});

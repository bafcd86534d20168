/**
 * A service behind that was taken over: what it says to one caller must not become what another is told, nor may it
 * fill this node. Its connections are used for everybody, so an answer that nobody asked for is the way from one person
 * to the next.
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

type Heard = Readonly<{ socket: Socket; method: string; path: string; head: string }>;
/** Says whatever `answer` writes to each request that it reads; bodies are not looked at. */
async function startHostile(
  t: TestContext,
  answer: (heard: Heard) => void,
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
 * What the attacker's own request is answered with, and how it is asked. Whatever follows the answer is for somebody
 * else.
 */
const desyncs: Readonly<Record<string, readonly [answer: string, method?: string]>> = {
  "an answer that nobody asked for, behind a good one": [answerOf("fine") + poison],
  "the beginning of an answer that nobody asked for": [`${answerOf("fine")}HTTP/1.1 404 Not Found\r\nX-Rest: `],
  "an empty line and nothing more": [`${answerOf("fine")}\r\n`],
  "bytes behind the length that was said": [`${answerOf("fine")}junk`],
  "a body behind HEAD": [answerOf("poison"), "HEAD"],
  "a whole answer behind that to HEAD": [
    `HTTP/1.1 200 OK\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`,
    "HEAD",
  ],
  "a body behind 204": [`HTTP/1.1 204 No Content\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`],
  "a body in chunks behind 204": [
    `HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n${poison}`,
  ],
  "a body behind 304": [`HTTP/1.1 304 Not Modified\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`],
  "chunks and a length": [
    `HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "two lengths": [`HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: ${4 + poison.length}\r\n\r\nfine${poison}`],
  "a list of lengths": [`HTTP/1.1 200 OK\r\nContent-Length: 4, 400\r\n\r\nfine${poison}`],
  "a length with a sign": [`HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nfine${poison}`],
  "chunked, and then something else": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n4\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "a transfer coding that nobody knows": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "a chunk whose size has no end": [
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nfine\r\n0\r\n\r\n${poison}`,
  ],
  "a chunk that ends elsewhere": [`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfineXX0\r\n\r\n${poison}`],
  "a switch of protocols that nobody asked for": [
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${poison}`,
  ],
  "lines that end early": [`HTTP/1.1 200 OK\nContent-Length: 4\n\nfine${poison}`],
  "a line that is folded": [
    `HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 0\r\nContent-Length: 4\r\n\r\nfine${poison}`,
  ],
  "a name with a space behind it": [`HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nfine${poison}`],
  "no status line at all": [`fine\r\n\r\n${poison}`],
  "another version": [`HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nfine${poison}`],
  "a NUL in a value": [`HTTP/1.1 200 OK\r\nX-A: a\u0000b\r\nContent-Length: 4\r\n\r\nfine${poison}`],
};

describe("an answer told to the wrong one", () => {
  for (const [name, [hostile, method = "GET"]] of Object.entries(desyncs))
    test(name, async (t) => {
      const upstream = await startHostile(t, ({ socket, path }) => {
        socket.write(path === "/mine" ? hostile : answerOf(`for ${path}`), "latin1");
      });
      const rig = await rigTo(t, upstream.port, { timeoutMs: 3_000 });
      const mine = await rig.request({ session: 1, method, path: "/mine" }).catch(() => null);
      assert.ok(mine === null || [200, 204, 304, 502, 504].includes(mine.status), `${mine?.status}`);
      for (let i = 0; i < 4; i++) {
        const { status, body } = await rig.request({ session: 2, path: `/theirs/${i}` });
        assert.deepEqual([status, body], [200, `for /theirs/${i}`]);
      }
    });

  test("however the answers before it on that connection were framed", async (t) => {
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

  test("what comes on a connection that waits for somebody ends it", async (t) => {
    for (const late of [poison, "junk", "HTTP/1.1 100 Continue\r\n\r\n", "\r\n\r\n"]) {
      let say = (): void => {};
      let closed = false;
      const upstream = await startHostile(t, ({ socket, path }) => {
        socket.write(answerOf(`for ${path}`));
        say = () => void socket.write(late, "latin1");
        socket.once("close", () => {
          closed = true;
        });
      });
      const rig = await rigTo(t, upstream.port);
      assert.equal((await rig.request({ session: 1, path: "/mine" })).body, "for /mine");
      say();
      await waitFor("the connection to end", () => closed || undefined, patience);
      assert.equal((await rig.request({ session: 2, path: "/theirs" })).body, "for /theirs");
      assert.equal(upstream.connections(), 2);
    }
  });

  test("a length that an upstream gives with 204 is not passed on: a caller that believes it waits for the next answer as a body", async (t) => {
    const upstream = await startHostile(t, ({ socket, path }) => {
      if (path === "/none") socket.write("HTTP/1.1 204 No Content\r\nContent-Length: 44\r\nX-Other: kept\r\n\r\n");
      else socket.write(answerOf("fine"));
    });
    const rig = await rigTo(t, upstream.port);
    const { status, headers } = await rig.request({ session: 1, path: "/none" });
    assert.deepEqual([status, headers["content-length"], headers["x-other"]], [204, undefined, "kept"]);
    assert.equal((await rig.request({ session: 1, path: "/some" })).headers["content-length"], "4");
  });

  test("a 204 that speaks of a body is the last answer of its connection: what follows it later may be that body", async (t) => {
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

describe("an upstream without end", () => {
  test("of hints, to a caller that does not read: they do not pile up here, and the answer still comes", async (t) => {
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
    await waitFor(
      "it to have said everything, or to be held back",
      () => written >= 64 * 1_048_576 || undefined,
      patience,
    );
    const grown = process.memoryUsage().rss - before;
    assert.ok(grown < 48 * 1_048_576, `${Math.round(grown / 1_048_576)} MB more`);
    assert.equal((await rig.request({ session: 2 })).body, "fine");
    let said = "";
    socket.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("latin1")).slice(-2_000);
    });
    await waitFor("the answer", () => said.endsWith("at last") || undefined, patience);
  });

  test("of interim answers: the route's time-out ends it with 504", async (t) => {
    const upstream = await startHostile(t, ({ socket }) => {
      const timer = setInterval(() => socket.write("HTTP/1.1 100 Continue\r\n\r\n".repeat(50)), 1);
      socket.once("close", () => clearInterval(timer));
    });
    const rig = await rigTo(t, upstream.port, { timeoutMs: 400 });
    assert.equal((await rig.request({ session: 1 })).status, 504);
  });

  test("of a head: 502, and no more of it is kept than a head may be", async (t) => {
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
    assert.ok(sent < 100 * 1_048_576, `${sent} bytes were taken`);
  });

  test("of trailers: the answer is broken off", async (t) => {
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

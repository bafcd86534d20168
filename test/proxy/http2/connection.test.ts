/** The proxy's own HTTP/2 connection: how requests begin and end on it, and its end. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import {
  data,
  endHeaders,
  endStream,
  frame,
  frameTypes,
  headers,
  initialWindow,
  RawHttp2,
  requestLines,
  reset,
  settings,
  windowUpdate,
} from "../../support/http2-frames.ts";
import { cannotReadQueues, queuesAt } from "../../support/socket-queues.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream } from "../support.ts";

const whole = endHeaders | endStream;
const lines = (method = "GET"): readonly string[] => requestLines(cookieOf(1), method);
const withPath = (path: string): readonly string[] => lines().with(7, path);
const own = { http2Connections: "cardea" } as const;

const filler = Buffer.alloc(6_000_000, 97);
let upstream: Upstream;
let rig: Rig;
const handled: { handle: (req: IncomingMessage, res: ServerResponse) => void } = { handle: (_req, res) => res.end() };
before(async () => {
  upstream = await startUpstream((req, res) => {
    const bytes = Number(new URL(req.url ?? "/", "http://a").searchParams.get("bytes") ?? 0);
    req.resume().on("end", () => res.end(filler.subarray(0, bytes)));
  });
  rig = await startRig([routeTo(upstream.port)], {
    config: own,
    deps: { reserved: (req, res) => handled.handle(req, res) },
  });
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  await upstream.close();
});
const open = (port = rig.port): RawHttp2 => new RawHttp2(connect(port, "127.0.0.1"));
const idle = (): boolean => rig.proxy.stats().inFlight.http === 0;

describe("a reset that arrives after our own end of the stream", () => {
  test("of a request whose body was not read ends nothing else", async () => {
    const client = open();
    for (let n = 0; n < 50; n++) {
      const stream = 1 + 2 * n;
      client.send(headers(stream, endHeaders, ...lines("POST").with(7, "/.pomerium/x"), "content-length", "9"));
      await waitFor("the response and the request to stop", () => client.stream(stream).reset === 0);
      client.send(reset(stream, 8), reset(stream, 8));
    }
    client.send(headers(999, whole, ...lines()));
    await waitFor("the next response", () => client.isOver(999));
    assert.deepEqual([client.stream(999).status, client.goAway], [200, undefined]);
    await waitFor("all requests to be over", idle);
    client.socket.destroy();
  });

  test("of a tunnel closes its target's connection", async (t) => {
    const targets: Socket[] = [];
    const target = createServer({ allowHalfOpen: true }, (socket) => {
      targets.push(socket);
      socket.on("error", () => {});
      socket.resume().end("bye");
    });
    target.listen(0, "127.0.0.1");
    await once(target, "listening");
    const { port } = target.address() as AddressInfo;
    const tunnels = await startRig(
      [
        {
          ...routeTo(port, { host: "db.localhost", idleTimeoutMs: 0 }),
          tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false },
          to: [{ url: new URL(`tcp://127.0.0.1:${port}`), weight: null }],
        },
      ],
      { config: own },
    );
    const client = open(tunnels.port);
    t.after(async () => {
      client.socket.destroy();
      await tunnels.close();
      for (const socket of targets) socket.destroy();
      target.close();
    });
    await tunnels.apply(signedIn(1));
    const line = [":method", "CONNECT", ":authority", "db.localhost:5432", "authorization", "Pomerium s1"];
    client.send(headers(1, endHeaders, ...line));
    await waitFor("our end of the tunnel", () => client.stream(1).ended);
    assert.equal(tunnels.proxy.stats().exchanges.tcp, 1);
    client.send(reset(1, 8));
    await waitFor("the tunnel to end", () => tunnels.proxy.stats().exchanges.tcp === 0);
    await waitFor("the target's connection to end", () => targets[0]?.destroyed === true);
    assert.equal(client.closed, false);
  });
});

describe("requests", () => {
  test("what is cancelled or spoilt within one read reaches neither the policy nor an upstream", async () => {
    const [records, seen] = [rig.records.length, upstream.seen.length];
    const client = open();
    client.send(
      ...[headers(1, whole, ...lines()), reset(1, 8)],
      ...[headers(3, endHeaders, ...lines("POST"), "content-length", "1"), data(3, endStream, "long")],
      headers(5, whole, ...lines()),
    );
    await waitFor("the response", () => client.isOver(5));
    assert.equal(client.stream(5).status, 200);
    assert.equal(client.stream(3).reset, 1);
    assert.deepEqual([rig.records.length - records, upstream.seen.length - seen], [1, 1]);
    client.socket.destroy();
  });

  test("a head that is too large gets a page with 431; its body is stopped", async () => {
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    const stream = session.request(
      [...lines("POST"), ...Array.from({ length: 1_200 }, (_, n) => [`x-${n}`, ""]).flat()] as never,
      { endStream: false },
    );
    const [head] = (await once(stream, "response")) as [Record<string, unknown>];
    assert.equal(head[":status"], 431);
    assert.match(String(head["content-type"]), /^text\/html/);
    let body = "";
    stream.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    await once(stream, "close");
    assert.equal(body.length, Number(head["content-length"]));
    assert.equal(stream.rstCode, 0);
    session.destroy();
  });

  test("the table of a connection stays in step through refused heads", async () => {
    const client = connectHttp2(`http://127.0.0.1:${rig.port}`);
    for (let n = 0; n < 20; n++) {
      const bad = n % 2 === 0 ? ["content-length", "x"] : ["x-value", "y".repeat(n * 50)];
      const stream = client.request([...lines(), ...bad] as never, { endStream: true });
      stream.on("error", () => {});
      const status = await new Promise((resolve) => {
        stream.on("response", (head) => resolve(head[":status"]));
        stream.on("close", () => resolve(0));
      });
      assert.equal(status, n % 2 === 0 ? 0 : 200);
    }
    client.destroy();
  });

  test("callers that leave at any moment of a response end their exchanges", async () => {
    for (let n = 0; n < 300; n++) {
      const socket = connect(rig.port, "127.0.0.1");
      const client = new RawHttp2(socket);
      // With the head, with the end of a body, or some turns later.
      const bytes = n % 3 === 0 ? 0 : 10;
      client.send(headers(1, whole, ...withPath(`/?bytes=${bytes}`)));
      await once(socket, "data");
      if (n % 2 === 0) await waitFor("the response", () => client.isOver(1), { everyMs: 1 });
      if (n % 5 === 0) socket.end();
      else socket.destroy();
    }
    await waitFor("every exchange to end", idle);
  });

  test("a caller that leaves while a whole response waits in this process ends its exchange", {
    skip: cannotReadQueues,
  }, async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [initialWindow(0)]);
    client.send(windowUpdate(0, 0x3fff_ffff), headers(1, whole, ...withPath("/?bytes=6000000")));
    await waitFor("the head", () => client.stream(1).status === 200);
    client.socket.pause();
    const { localPort = 0 } = client.socket;
    const held = (): number => (queuesAt(rig.port, localPort).unacked ?? 0) + queuesAt(localPort, rig.port).received;
    client.send(windowUpdate(1, 150_000)); // fills the caller's own buffers
    await waitFor("the kernels to hold something", () => held() > 30_000);
    // Until the kernels are full and a little waits in the process: less than what keeps other streams from writing.
    for (let isTaken = true; isTaken; ) {
      const before = held();
      client.send(windowUpdate(1, 20_000));
      const options = { everyMs: 1, withinMs: 500 };
      isTaken = await waitFor("the kernels to take it", () => held() >= before + 20_000, options).catch(() => false);
    }
    client.send(headers(3, whole, ...withPath("/?bytes=10")), windowUpdate(3, 10));
    await waitFor("the second request to reach the upstream", () => upstream.seen.at(-1)?.url === "/?bytes=10");
    await new Promise((resolve) => setTimeout(resolve, 100)); // for its response to be written
    client.socket.end();
    await waitFor("both exchanges to end", idle);
    client.socket.destroy();
  });
});

test("a response without a body whose end comes later than its head ends its exchange", async () => {
  const late = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n");
      setTimeout(() => socket.write("0\r\n\r\n"), 50);
    });
  }).listen(0, "127.0.0.1");
  await once(late, "listening");
  const other = await startRig([routeTo((late.address() as AddressInfo).port)], { config: own });
  await other.apply(signedIn(1));
  const client = open(other.port);
  client.send(headers(1, whole, ...lines()));
  await waitFor("the response", () => client.isOver(1));
  await waitFor("the exchange to end", () => other.proxy.stats().inFlight.http === 0);
  client.socket.destroy();
  await other.close();
  late.close();
});

describe("the end of a connection", () => {
  test("GOAWAY: open streams are finished, new ones are refused unprocessed", async () => {
    let answer: (() => void) | undefined;
    const slow = await startUpstream((_req, res) => {
      answer = () => void res.end("late");
    });
    const other = await startRig([routeTo(slow.port)], { config: { ...own, drainTimeoutMs: 5_000 } });
    await other.apply(signedIn(1));
    const client = open(other.port);
    client.send(headers(1, whole, ...lines()));
    await waitFor("the request to arrive", () => slow.seen.length === 1);
    const closed = other.close();
    await waitFor("GOAWAY", () => client.goAway !== undefined);
    assert.deepEqual(client.goAway, { lastStream: 1, code: 0 });
    client.send(headers(3, whole, ...lines()));
    await waitFor("the new stream to be refused", () => client.isOver(3));
    assert.equal(client.stream(3).reset, 7);
    answer?.();
    await waitFor("the first response", () => client.isOver(1));
    assert.equal(client.stream(1).status, 200);
    await waitFor("the connection to end", () => client.closed);
    await closed;
    assert.equal(slow.seen.length, 1);
    await slow.close();
  });

  test("a caller's GOAWAY ends the connection after its last response", async () => {
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    const stream = session.request(withPath("/?bytes=100000") as never, { endStream: true });
    await once(stream, "response");
    session.goaway(0);
    stream.resume();
    await once(stream, "end");
    await waitFor("the connection to end", () => session.destroyed || session.closed);
    await waitFor("every exchange to end", idle);
  });

  test("an idle connection ends with GOAWAY", async () => {
    const timeouts = { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 500 } as const;
    const other = await startRig([routeTo(upstream.port)], { config: { ...own, timeouts } });
    const client = open(other.port);
    await waitFor("the connection to end", () => client.closed);
    assert.equal(client.goAway?.code, 0);
    await other.close();
  });

  test("a head that never ends: the connection ends after timeout_read, though a request is open on it", async () => {
    const slow = await startUpstream(() => {});
    const timeouts = { readMs: 500, readLimit: "request", writeMs: 0, idleMs: 60_000 } as const;
    const other = await startRig([routeTo(slow.port)], { config: { ...own, timeouts } });
    await other.apply(signedIn(1));
    const client = open(other.port);
    client.send(headers(1, whole, ...lines()), frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    await waitFor("the settings to be exchanged", () => client.pongs > 0 && slow.seen.length > 0);
    client.send(headers(3, endStream, ...lines()));
    await waitFor("the connection to end", () => client.closed);
    assert.equal(client.goAway?.code, 11);
    await waitFor("every exchange to end", () => other.proxy.stats().inFlight.http === 0);
    await other.close();
    await slow.close();
  });

  test("a response whose window stays closed is reset after timeout_idle, though its writer waits", async () => {
    const timeouts = { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 500 } as const;
    const reserved = (_req: IncomingMessage, res: ServerResponse): void => void res.end(filler);
    const other = await startRig([routeTo(upstream.port)], { config: { ...own, timeouts }, deps: { reserved } });
    const client = new RawHttp2(connect(other.port, "127.0.0.1"), [initialWindow(0)]);
    client.send(headers(1, whole, ...withPath("/.pomerium/x")));
    await waitFor("the stream to be reset", () => client.stream(1).reset !== null);
    assert.equal(client.stream(1).status, 200);
    await waitFor("every exchange to end", () => other.proxy.stats().inFlight.http === 0);
    client.socket.destroy();
    await other.close();
  });

  test("an upstream's response whose window stays closed waits as long as its route allows", async () => {
    const trickling = await startUpstream((_req, res) => void res.write(filler.subarray(0, 1_000)));
    const timeouts = { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 500 } as const;
    const other = await startRig([routeTo(trickling.port, { idleTimeoutMs: 0 })], { config: { ...own, timeouts } });
    await other.apply(signedIn(1));
    const client = new RawHttp2(connect(other.port, "127.0.0.1"), [initialWindow(0)]);
    client.send(headers(1, whole, ...lines()));
    await waitFor("the head", () => client.stream(1).status === 200);
    await new Promise((resolve) => setTimeout(resolve, 2_800)); // sweeps come once a second
    client.send(windowUpdate(1, 1_000));
    await waitFor("the body", () => client.stream(1).bytes === 1_000);
    client.socket.destroy();
    await other.close();
    await trickling.close();
  });

  test("a tunnel whose target has ended its side still carries what the caller sends, beyond timeout_idle", async () => {
    let received = 0;
    const target = createServer({ allowHalfOpen: true }, (socket) => {
      socket
        .on("error", () => {})
        .on("data", (chunk) => {
          received += chunk.length;
        });
      socket.end();
    }).listen(0, "127.0.0.1");
    await once(target, "listening");
    const { port } = target.address() as AddressInfo;
    const timeouts = { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 500 } as const;
    const route = {
      ...routeTo(port, { host: "db.localhost", idleTimeoutMs: 0 }),
      tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false },
      to: [{ url: new URL(`tcp://127.0.0.1:${port}`), weight: null }],
    } as const;
    const other = await startRig([route], { config: { ...own, timeouts } });
    await other.apply(signedIn(1));
    const client = open(other.port);
    const authorization = ["authorization", "Pomerium s1"];
    client.send(headers(1, endHeaders, ":method", "CONNECT", ":authority", "db.localhost:5432", ...authorization));
    await waitFor("the target's end", () => client.stream(1).ended);
    for (let n = 0; n < 12; n++) {
      client.send(data(1, 0, "x"));
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    assert.deepEqual([received, client.stream(1).reset], [12, null]);
    client.send(data(1, endStream, ""));
    await waitFor("every exchange to end", () => other.proxy.stats().exchanges.tcp === 0);
    client.socket.destroy();
    await other.close();
    target.close();
  });

  test("the table of the caller may shrink and grow between responses", async () => {
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    for (const size of [4_096, 0, 100, 65_536, 0, 4_096]) {
      session.settings({ headerTableSize: size });
      await once(session, "localSettings");
      for (let n = 0; n < 3; n++) {
        const stream = session.request(lines() as never, { endStream: true });
        const [head] = (await once(stream, "response")) as [Record<string, unknown>];
        assert.equal(head["x-frame-options"], "SAMEORIGIN");
        stream.resume();
        await once(stream, "close");
      }
    }
    session.destroy();
  });

  test("http2_connections: node serves the same requests", async () => {
    const other = await startRig([routeTo(upstream.port)], { config: { http2Connections: "node" } });
    await other.apply(signedIn(1));
    const client = open(other.port);
    client.send(headers(1, whole, ...lines(), "x", "a\0b"));
    await waitFor("the response", () => client.isOver(1));
    assert.equal(client.stream(1).status, 200, "nghttp2 drops the line");
    client.socket.destroy();
    await other.close();
  });
});

describe("handlers written for node:http", () => {
  let session: ClientHttp2Session;
  before(() => {
    session = connectHttp2(`http://127.0.0.1:${rig.port}`);
  });
  after(() => session.destroy());
  const request = (method: string, body?: Buffer) => {
    const stream = session.request(lines(method).with(7, "/.pomerium/x") as never, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    stream.on("error", () => {});
    return stream;
  };

  test("an echo of a large body, with backpressure on both sides", async () => {
    handled.handle = (req, res) => void req.pipe(res);
    const body = Buffer.alloc(3_000_000, "0123456789");
    const stream = request("POST", body);
    const chunks: Buffer[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer);
      if (chunks.length % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(Buffer.concat(chunks).equals(body));
  });

  test("heads in every form, and what was read of the request", async () => {
    handled.handle = (req, res) => {
      res.setHeader("X-A", ["1", "2"]);
      res.setHeader("x-gone", "1");
      res.removeHeader("X-Gone");
      res.appendHeader("x-b", "3");
      assert.equal(req.httpVersion, "2.0");
      assert.equal(req.headers.host, "app.localhost");
      assert.equal(res.headersSent, false);
      res.writeHead(201, { "x-c": 4 });
      assert.equal(res.headersSent, true);
      res.end("text");
    };
    const stream = request("GET");
    const [, , raw] = (await once(stream, "response")) as [object, number, string[]];
    const own = raw.filter((_, i, all) => /^(:status|x-[abc]|x-gone)$/.test(all[i - (i % 2)] ?? ""));
    assert.deepEqual(own, [":status", "201", "x-a", "1", "x-a", "2", "x-b", "3", "x-c", "4"]);
    stream.resume();
    await once(stream, "close");
  });

  test("a caller that leaves closes request and response", async () => {
    const events: string[] = [];
    handled.handle = (req, res) => {
      req.on("close", () => events.push("request"));
      res.on("close", () => events.push("response"));
      res.write("first");
    };
    const stream = request("GET");
    await once(stream, "data");
    stream.close(8);
    await waitFor("both to close", () => events.includes("response") && events.includes("request"));
  });

  test("a small response does not wait until large ones beside it were read", async () => {
    handled.handle = (req, res) => void res.end(req.url?.endsWith("small") ? "small" : filler);
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [initialWindow(0x3fff_ffff)]);
    const large = [1, 3, 5];
    client.send(windowUpdate(0, 0x3fff_ffff));
    client.send(...large.map((id) => headers(id, whole, ...withPath("/.pomerium/large"))));
    let read: number[] | undefined;
    client.socket.on("data", () => {
      if (client.isOver(7)) read ??= large.map((id) => client.stream(id).bytes);
    });
    await once(client.socket, "data");
    client.socket.pause();
    client.send(headers(7, whole, ...withPath("/.pomerium/small")));
    await new Promise((resolve) => setTimeout(resolve, 200));
    client.socket.resume();
    await waitFor("the small response", () => read !== undefined);
    assert.ok(
      read?.every((bytes) => bytes < filler.length),
      String(read),
    );
    client.socket.destroy();
  });

  test("a response that is destroyed resets its stream", async () => {
    handled.handle = (_req, res) => {
      res.write("half");
      setImmediate(() => res.destroy());
    };
    const stream = request("GET");
    stream.resume();
    await waitFor("the stream to close", () => stream.closed && stream.destroyed);
    assert.notEqual(stream.rstCode, 0);
  });
});

test("settings that arrive with a request apply to its response", async () => {
  const client = open();
  client.send(settings([0x4, 0]), headers(1, whole, ...withPath("/?bytes=10")));
  await waitFor("the head", () => client.stream(1).status === 200);
  client.send(windowUpdate(1, 4));
  await waitFor("a part", () => client.stream(1).bytes === 4);
  client.send(windowUpdate(1, 100));
  await waitFor("the rest", () => client.isOver(1));
  assert.equal(client.stream(1).bytes, 10);
  client.socket.destroy();
});

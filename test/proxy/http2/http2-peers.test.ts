/**
 * HTTP/2 with other implementations: their clients get the right responses, and what the proxy forwards is what the
 * library of Node would forward of the same frames.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { selfSigned } from "../../support/certificate.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { findChromium } from "../../support/chromium.ts";
import {
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  integer,
  RawHttp2,
} from "../../support/http2-frames.ts";
import { huffmanEncode } from "../../support/huffman-encode.ts";
import { runSeed, SeededRandom } from "../../support/seeded-random.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream } from "../support.ts";

const run = promisify(execFile);
const folder = new TemporaryFolder("http2-peers");
let upstream: Upstream;
before(async () => {
  upstream = await startUpstream((req, res) => {
    const hash = createHash("sha256");
    let length = 0;
    const { searchParams } = new URL(req.url ?? "/", "http://upstream");
    req.on("data", (chunk: Buffer) => {
      length += chunk.length;
      hash.update(chunk);
    });
    req.on("end", () => {
      const status = Number(searchParams.get("status") ?? 200);
      const hasTrailers = searchParams.has("trailers") && req.method !== "HEAD" && ![204, 205, 304].includes(status);
      const bytes = Number(searchParams.get("bytes") ?? 0);
      res.statusCode = status;
      res.setHeader("content-type", "text/plain");
      res.setHeader("x-received", `${req.method} ${length} ${hash.digest("hex")}`);
      res.setHeader("x-long", "v".repeat(Number(searchParams.get("long") ?? 1)));
      res.setHeader("set-cookie", ["a=1", "b=2"]);
      if (searchParams.has("length")) res.setHeader("content-length", bytes);
      if (hasTrailers) res.setHeader("trailer", "x-trailer"); // so that it is sent in chunks
      res.write(Buffer.alloc(bytes, 97));
      if (hasTrailers) res.addTrailers([["x-trailer", "t"]]);
      res.end();
    });
  });
});
after(async () => {
  await upstream.close();
  folder.remove();
});

function hasCommand(name: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((path) => {
    try {
      process.getBuiltinModule("node:fs").accessSync(join(path, name));
      return true;
    } catch {
      return false;
    }
  });
}

describe("clients over TLS", () => {
  let rig: Rig;
  let url = "";
  before(async () => {
    rig = await startRig([routeTo(upstream.port, publicAccess)], {
      config: {
        ...{ insecureServer: false, certificates: [selfSigned("DNS:app.localhost") as never] },
        http2Connections: "cardea",
      },
    });
    url = `https://app.localhost:${rig.port}`;
  });
  after(() => rig.close());
  const upload = folder.path;
  const body = Buffer.alloc(3_000_000, "0123456789abcdef");
  const digest = createHash("sha256").update(body).digest("hex");

  test("curl: a large download, a large upload, and trailers", { skip: !hasCommand("curl") && "no curl" }, async () => {
    const file = join(upload, "body");
    writeFileSync(file, body);
    const common = [
      "-sk",
      "--http2",
      "--resolve",
      `app.localhost:${rig.port}:127.0.0.1`,
      "-w",
      "%{http_version} %{http_code}",
    ];
    const options = { maxBuffer: 20_000_000 };
    const down = await run("curl", [...common, `${url}/?bytes=5000000`], options);
    assert.equal(down.stdout.length, 5_000_000 + "2 200".length);
    const up = await run("curl", [...common, "-i", "--data-binary", `@${file}`, `${url}/`], options);
    assert.match(up.stdout, new RegExp(`x-received: POST 3000000 ${digest}`));
    assert.match(up.stdout, /2 200$/);
    const trailers = await run("curl", [...common, "-i", "-H", "TE: trailers", `${url}/?bytes=10&trailers=1`], options);
    assert.match(trailers.stdout, /x-trailer: t/);
    const hundred = await run("curl", [
      ...common,
      "-i",
      "-H",
      "Expect: 100-continue",
      "--data-binary",
      `@${file}`,
      `${url}/`,
    ]);
    assert.match(hundred.stdout, /HTTP\/2 100/);
    assert.match(hundred.stdout, new RegExp(digest));
  });

  test("curl with prior knowledge on a plain listener", { skip: !hasCommand("curl") && "no curl" }, async () => {
    const plain = await startRig([routeTo(upstream.port, publicAccess)], { config: { http2Connections: "cardea" } });
    const { stdout } = await run("curl", [
      ...["-s", "--http2-prior-knowledge", "--resolve", `app.localhost:${plain.port}:127.0.0.1`],
      ...["-w", "%{http_version}", `http://app.localhost:${plain.port}/?bytes=10`],
    ]);
    assert.equal(stdout, `${"a".repeat(10)}2`);
    await plain.close();
  });

  test("nghttp: padding, dependencies and small windows", {
    skip: !hasCommand("nghttp") && "no nghttp",
  }, async () => {
    const file = join(upload, "small");
    writeFileSync(file, body.subarray(0, 200_000));
    const target = `https://127.0.0.1:${rig.port}/?bytes=300000`;
    const host = ["-H", ":authority: app.localhost"];
    for (const more of [["-w10", "-W10"], ["-b9"], ["-d", file], ["-m20", "--no-dep"], ["-c0"]]) {
      const { stdout } = await run("nghttp", ["-nv", "--no-verify-peer", ...host, ...more, target]).catch(
        (error: { stdout?: string }) => ({ stdout: error.stdout ?? "" }),
      );
      const times = more[0] === "-m20" ? 20 : 1;
      assert.equal(stdout.match(/:status: 200/g)?.length, times, `${more.join(" ")}: ${stdout.slice(-2_000)}`);
      assert.equal(stdout.match(/; END_STREAM/g)?.length ?? 0, times * 2, `${more.join(" ")}: every stream ends`);
      assert.doesNotMatch(stdout, /RST_STREAM|PROTOCOL_ERROR/);
    }
  });

  test("h2load: many streams on many connections", { skip: !hasCommand("h2load") && "no h2load" }, async () => {
    const { stdout } = await run("h2load", [
      ...["-n3000", "-c10", "-m50", "-H", ":authority: app.localhost", `https://127.0.0.1:${rig.port}/?bytes=1000`],
    ]);
    assert.match(stdout, /3000 done, 3000 succeeded, 0 failed, 0 errored/);
    assert.match(stdout, /status codes: 3000 2xx/);
  });

  const executablePath = findChromium();
  test("Chromium: many requests and uploads at once on one connection", {
    skip: executablePath === undefined && "no Chromium",
  }, async (t) => {
    const chrome = await chromium.launch({
      executablePath: executablePath ?? "",
      args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
    });
    t.after(() => chrome.close());
    const page = await chrome.newPage({ ignoreHTTPSErrors: true });
    await page.goto(`${url}/?bytes=10`);
    const script = `(async () => {
      const bytes = new Uint8Array(1000000).fill(97);
      const all = await Promise.all(Array.from({ length: 60 }, async (_, n) => {
        const response = await fetch("/?n=" + n + "&bytes=" + n * 1000, n % 3 === 0 ? { method: "POST", body: bytes } : {});
        return [response.status, (await response.text()).length, response.headers.get("x-received").split(" ")[1]];
      }));
      const protocols = performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol);
      return { all, protocols: [...new Set(protocols)] };
    })()`;
    const { all, protocols } = (await page.evaluate(script)) as { all: unknown[]; protocols: string[] };
    assert.deepEqual(protocols, ["h2"]);
    assert.deepEqual(
      all,
      Array.from({ length: 60 }, (_, n) => [200, n * 1_000, n % 3 === 0 ? "1000000" : "0"]),
    );
  });
});

describe("beside the library of Node", () => {
  let own: Rig;
  let node: Rig;
  const withBodies = { timeouts: { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 300_000 } } as const;
  let echoing: Upstream;
  before(async () => {
    echoing = await startUpstream();
    const start = (port: number, http2Connections: "cardea" | "node"): Promise<Rig> =>
      startRig([routeTo(port, publicAccess)], { config: { ...withBodies, http2Connections } });
    own = await start(upstream.port, "cardea");
    node = await start(upstream.port, "node");
  });
  after(async () => {
    await own.close();
    await node.close();
    await echoing.close();
  });

  type Received = Readonly<{ lines: readonly string[]; body: string; trailers: readonly string[]; rstCode: number }>;
  function send(session: ClientHttp2Session, lines: readonly string[], body: Buffer | undefined): Promise<Received> {
    return new Promise((resolve) => {
      const stream = session.request(lines as never, { endStream: body === undefined });
      if (body !== undefined) stream.end(body);
      let [raw, trailers]: string[][] = [[], []];
      const chunks: Buffer[] = [];
      stream.on("response", (_h: object, _f: number, received: string[]) => {
        raw = received;
      });
      stream.on("trailers", (_h: object, _f: number, received: string[]) => {
        trailers = received;
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", () => {});
      stream.on("close", () => {
        const changing = new Set(["date", "x-request-id"]);
        const kept = (raw ?? []).filter((_, i, all) => !changing.has(all[i - (i % 2)] ?? ""));
        resolve({
          lines: kept,
          body: createHash("sha256").update(Buffer.concat(chunks)).digest("hex"),
          trailers: trailers ?? [],
          rstCode: stream.rstCode,
        });
      });
    });
  }

  test("random requests get the same responses", async () => {
    const random = new SeededRandom(runSeed);
    const sessions = [own, node].map(({ port }) => connectHttp2(`http://127.0.0.1:${port}`));
    for (let n = 0; n < 150; n++) {
      const method = random.pick(["GET", "GET", "HEAD", "POST", "PUT", "DELETE"]);
      const query = [
        `bytes=${random.pick([0, 1, 100, 16_384, 16_385, 70_000, 300_000])}`,
        `status=${random.pick([200, 200, 200, 201, 204, 205, 304, 404, 500, 599])}`,
        `long=${random.pick([1, 100, 5_000, 20_000])}`,
        random.pick(["length=1", "trailers=1", ""]),
      ];
      const lines = [
        ...[":method", method, ":path", `/?${query.join("&")}`, ":authority", "app.localhost", ":scheme", "http"],
        ...(random.int(2) === 0 ? ["te", "trailers"] : []),
        ...(random.int(2) === 0 ? ["x-a", "v".repeat(random.int(3_000)), "x-a", "2"] : []),
      ];
      const hasBody = method === "POST" || method === "PUT";
      const body = hasBody ? random.bytes(random.pick([1, 1_000, 40_000])) : undefined;
      const [first, second] = await Promise.all(sessions.map((session) => send(session, lines, body)));
      assert.deepEqual(first, second, `SEED=${runSeed}, request ${n}: ${lines.join(" ")}`);
    }
    for (const session of sessions) session.destroy();
  });

  /** Frames with mistakes: the fields, their order, the framing, lengths and flags. */
  function randomFrames(random: SeededRandom): Buffer[] {
    const bad = ["\0", "\r\n", "\n", " ", "\t", "A", ":", "_", "\x7f", "\xff", ",", "%00", ""] as const;
    const mutate = (text: string): string => {
      if (random.int(20) > 0) return text;
      const at = random.int(text.length + 1);
      return text.slice(0, at) + random.pick(bad) + text.slice(at);
    };
    const pairs: [string, string][] = [
      [":method", random.pick(["GET", "POST", "POST", "CONNECT", "OPTIONS"])],
      [":scheme", "http"],
      [":authority", "app.localhost"],
      [":path", random.pick(["/", "/a?b=c", "*", "/a/../b", "/%2e", "http://app.localhost/"])],
    ];
    const more: [string, string][] = [
      ...([
        ["accept", "x/y"],
        ["host", "app.localhost"],
        ["content-length", "5"],
        ["te", "trailers"],
      ] as [string, string][]),
      ...([
        ["cookie", "a=b"],
        ["cookie", "c=d"],
        ["connection", "close"],
        ["x", ""],
      ] as [string, string][]),
      ...([
        ["transfer-encoding", "chunked"],
        ["upgrade", "h2c"],
        ["expect", "100-continue"],
      ] as [string, string][]),
    ];
    for (let n = random.int(4); n > 0; n--) pairs.push(random.pick(more as [[string, string], ...[string, string][]]));
    if (random.int(8) === 0) pairs.splice(random.int(pairs.length), 1);
    if (random.int(8) === 0) pairs.push(pairs[random.int(pairs.length)] ?? ["a", "b"]);
    if (random.int(8) === 0) pairs.sort(() => random.int(3) - 1);
    const block = Buffer.concat(
      pairs.map(([name, value]) => {
        const coded = [mutate(name), mutate(value)].map((text) => {
          const plain = Buffer.from(text, "latin1");
          const huffman = random.int(2) === 0;
          const encoded = huffman ? huffmanEncode(plain) : plain;
          return Buffer.concat([integer(encoded.length, 7, huffman ? 0x80 : 0), encoded]);
        });
        return Buffer.concat([Buffer.from([random.pick([0x00, 0x10, 0x40])]), ...coded]);
      }),
    );
    const split = random.int(4) === 0 ? random.int(block.length) : block.length;
    const ends = random.int(2) === 0 ? endStream : 0;
    const frames = [
      frame(frameTypes.headers, ends | (split === block.length ? endHeaders : 0), 1, block.subarray(0, split)),
    ];
    if (split < block.length) frames.push(frame(frameTypes.continuation, endHeaders, 1, block.subarray(split)));
    if (ends === 0) {
      frames.push(data(1, 0, random.pick(["hel", "hello", "hello\r\n\r\nGET /x"])));
      frames.push(
        random.int(4) === 0
          ? headers(1, endHeaders | endStream, "x-t", mutate("v"))
          : data(1, endStream, random.pick(["", "lo"])),
      );
    }
    if (random.int(10) === 0) {
      const target = frames[random.int(frames.length)];
      if (target !== undefined) target[random.int(Math.min(target.length, 40))] = random.int(256);
    }
    return frames;
  }

  /** @returns the complete request that the upstream received, with its lines in order, if there was one */
  async function forwardedBy(rig: Rig, frames: readonly Buffer[]): Promise<string | undefined> {
    const before = echoing.seen.length;
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    client.send(...frames, frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    // A stream, or a frame, that waits for more is complete on neither side.
    await waitFor("the stream to end", () => client.isOver(1), { everyMs: 1, withinMs: 200 }).catch(() => {});
    const { status } = client.stream(1);
    client.socket.destroy();
    await waitFor("the exchange to end", () => rig.proxy.stats().inFlight.http === 0, { everyMs: 1 });
    const [seen] = echoing.seen.slice(before);
    if (seen === undefined || status !== 200) return undefined;
    const lines = seen.rawHeaders.filter((_, i, all) => !/^x-request-id$/i.test(all[i - (i % 2)] ?? ""));
    return JSON.stringify([seen.method, seen.url, lines, seen.body()]);
  }

  test("of frames with mistakes, it forwards nothing that Node would not, and nothing differently", async () => {
    await own.activate([routeTo(echoing.port, publicAccess)]);
    await node.activate([routeTo(echoing.port, publicAccess)]);
    const random = new SeededRandom(runSeed + 1);
    let forwarded = 0;
    const until = performance.now() + 30_000;
    let n = 0;
    for (; n < 600 && performance.now() < until; n++) {
      const frames = randomFrames(random);
      const mine = await forwardedBy(own, frames);
      if (mine === undefined) continue;
      forwarded += 1;
      assert.equal(
        mine,
        await forwardedBy(node, frames),
        `SEED=${runSeed}, case ${n}: ${Buffer.concat(frames).toString("hex")}`,
      );
    }
    assert.ok(forwarded > n / 20, `${forwarded} of ${n} were forwarded`);
  });

  test("random bytes after the preface end in a GOAWAY or are ignored; others are served", async () => {
    const random = new SeededRandom(runSeed + 2);
    const good = headers(
      1,
      endHeaders | endStream,
      ":method",
      "GET",
      ":scheme",
      "http",
      ":authority",
      "app.localhost",
      ":path",
      "/",
    );
    for (let n = 0; n < 300; n++) {
      const client = new RawHttp2(connect(own.port, "127.0.0.1"));
      const count = 1 + random.int(5);
      const noise = Array.from({ length: count }, () =>
        frame(
          random.int(12),
          random.int(256),
          random.pick([0, 1, 1, 3, random.int(1_000)]),
          random.bytes(random.int(60)),
        ),
      );
      client.send(good, ...noise, frame(frameTypes.headers, endHeaders, 5, fields("a", "b")));
      await waitFor(
        "the connection or the stream to end",
        () => client.isOver(1) && (client.isOver(5) || client.closed),
        { everyMs: 1 },
      );
      client.socket.destroy();
    }
    assert.equal((await own.request({})).status, 200);
    await waitFor("every request to finish", () => own.proxy.stats().inFlight.http === 0);
  });
});

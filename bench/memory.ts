/**
 * Bench: the resident memory of one process under mixed hostile traffic: at the start, at its peak, and after a rest.
 * docs/limits.md lists its bounds.
 *
 *   node bench/memory.ts [--minutes 10] [--rest 60]      rest: seconds without traffic before the last figure
 *
 * Each kind of caller below runs for the whole time, a few at once, beside honest callers.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "10" }, rest: { type: "string", default: "60" } },
});
const minutes = Number(values.minutes);
const restS = Number(values.rest);
if (!(minutes > 0) || !(restS >= 0)) throw new Error("--minutes and --rest are positive numbers");

/** 2^20 bytes. */
const mega = 2 ** 20;
const atOnce = 12;
const random = (bytes: number): string => randomBytes(bytes).toString("base64url");

type Kind = Readonly<{ name: string; run: (caller: Caller) => Promise<void> }>;
type Caller = Readonly<{
  /** Request header lines of a signed-in caller. */
  signedIn: string;
  host: string;
  /** Sends, and reads until the connection ends or `ms` have passed. */
  send(parts: readonly string[], ms: number): Promise<void>;
  /** Sends, reads nothing, and leaves after `ms`. */
  sendDeaf(text: string, ms: number): Promise<void>;
}>;

const head = (caller: Caller, lines: readonly string[], path = "/"): string =>
  [`GET ${path} HTTP/1.1`, caller.host, ...lines, "", ""].join("\r\n");

const kinds: readonly Kind[] = [
  {
    name: "callers that behave",
    run: (c) =>
      c.send(
        Array.from({ length: 50 }, () => head(c, [c.signedIn])),
        1_000,
      ),
  },
  {
    name: "new header names in each request",
    run: (c) =>
      c.send([head(c, [c.signedIn, ...Array.from({ length: 200 }, () => `X-${random(12)}: ${random(6)}`)])], 500),
  },
  {
    name: "long paths, methods and values, never the same",
    run: (c) =>
      c.send(
        [head(c, [c.signedIn, `X-Value: ${random(3_000)}`, `Referer: http://${random(90)}/`], `/${random(9_000)}`)],
        500,
      ),
  },
  {
    name: "made-up and respelled handles",
    run: (c) =>
      c.send(
        [head(c, [`Cookie: _pomerium=${random(500)}.${random(300)}.${random(32)}`]), head(c, [`${c.signedIn}=`])],
        500,
      ),
  },
  {
    name: "pipelined heads of 30 KB",
    run: (c) =>
      c.send(
        Array.from({ length: 12 }, () => head(c, [c.signedIn, `X-Long: ${random(22_000)}`])),
        500,
      ),
  },
  {
    name: "31,000 header lines",
    run: (c) =>
      c.send(
        [
          head(
            c,
            Array.from({ length: 31_000 }, () => "a: b"),
          ),
        ],
        500,
      ),
  },
  {
    name: "half a head, then silence",
    run: (c) => c.send([head(c, [`X-Half: ${random(20_000)}`]).slice(0, -4)], 20_000),
  },
  { name: "bytes that are no HTTP", run: (c) => c.send([randomBytes(20_000).toString("latin1")], 500) },
  {
    name: "large answers that are not read",
    run: (c) => c.sendDeaf(head(c, [c.signedIn], "/large").repeat(8), 10_000),
  },
  {
    name: "uploads that stop in the middle",
    run: (c) =>
      c.send(
        [`POST /upload HTTP/1.1\r\n${c.host}\r\n${c.signedIn}\r\nContent-Length: 10000000\r\n\r\n${random(40_000)}`],
        3_000,
      ),
  },
  {
    name: "handshakes that are never completed",
    run: (c) =>
      c.send(
        [
          head(c, [
            c.signedIn,
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
          ]),
          random(80_000),
        ],
        3_000,
      ),
  },
  {
    name: "hosts and sign-ins that lead nowhere",
    run: (c) =>
      c.send(
        [
          `GET /${random(40)} HTTP/1.1\r\nHost: ${random(12).toLowerCase().replaceAll(/[_-]/g, "a")}.localhost\r\n\r\n`,
          head(c, ["Sec-Fetch-Mode: navigate"], `/.pomerium/callback?code=${random(60)}&state=${random(200)}`),
        ],
        500,
      ),
  },
];

/** An upstream with new header names in each answer. */
async function startUpstream(): Promise<Readonly<{ port: number; stop: () => Promise<void> }>> {
  const large = randomBytes(4 * mega);
  const server = createServer((req, res) => {
    for (let i = 0; i < 50; i++) res.setHeader(`X-${random(12)}`, random(60));
    res.end(req.url === "/large" ? large : "hello");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

function callerOf({ port, headers }: Cardea, counts: { connections: number }): Caller {
  const [host = "", cookie = ""] = headers;
  function open(): Socket {
    counts.connections++;
    return connect(port, "127.0.0.1").on("error", () => {});
  }
  const ended = async (socket: Socket, ms: number): Promise<void> => {
    const signal = AbortSignal.timeout(ms);
    await once(socket, "close", { signal }).catch(() => undefined);
    socket.destroy();
  };
  return {
    host,
    signedIn: cookie,
    async send(parts, ms) {
      const socket = open().resume();
      for (const part of parts) socket.write(part, "latin1");
      await ended(socket, ms);
    },
    async sendDeaf(text, ms) {
      const socket = open();
      socket.write(text, "latin1");
      await ended(socket, ms);
    },
  };
}

await withStand(async (stand) => {
  const upstream = await startUpstream();
  stand.atEnd(upstream.stop);
  const cardea = await startCardea(stand, { upstreamPort: upstream.port, route: ["allow_websockets: true"] });
  await sleep(5_000);
  const mb = (): number => cardea.pinned.rssBytes() / mega;
  const start = mb();
  console.log(
    `start: ${start.toFixed(0)} MB resident, ${minutes} minutes of traffic, ${kinds.length} kinds of callers`,
  );

  const until = performance.now() + minutes * 60_000;
  const counts = { connections: 0 };
  const caller = callerOf(cardea, counts);
  const ran = new Map(kinds.map(({ name }) => [name, 0]));
  const running = kinds.flatMap(({ name, run }) =>
    Array.from({ length: atOnce }, async () => {
      while (performance.now() < until) {
        await run(caller);
        ran.set(name, (ran.get(name) ?? 0) + 1);
      }
    }),
  );
  let peak = start;
  let minute = 0;
  while (performance.now() < until) {
    await sleep(Math.min(500, Math.max(1, until - performance.now())));
    const now = mb();
    peak = Math.max(peak, now);
    const passed = Math.floor((performance.now() - until + minutes * 60_000) / 60_000);
    if (passed > minute)
      console.log(
        `minute ${passed}: ${now.toFixed(0)} MB, peak ${peak.toFixed(0)} MB, ${counts.connections} connections`,
      );
    minute = passed;
  }
  await Promise.all(running);
  await sleep(restS * 1_000);
  const rest = mb();
  for (const [name, count] of ran) console.log(`  ${name}: ${count}`);
  console.log(
    `resident memory: start ${start.toFixed(0)} MB, peak ${peak.toFixed(0)} MB, after ${restS} s of rest ${rest.toFixed(0)} MB`,
  );
});

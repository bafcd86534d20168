/**
 * A request that may have had an effect is sent once, however an upstream breaks its connections: before, while or
 * after it is asked.
 */
import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { publicAccess, routeTo, startRig } from "../proxy/support.ts";
import { fc } from "../support/property.ts";
import { readRequests } from "../support/strict-http1.ts";

/** What an upstream does with a request, and then with its connection. */
const manners = [
  "answers",
  "answers",
  "answers",
  "answers and ends",
  "answers and resets",
  "answers and ends in a turn",
  "answers and resets in a moment",
  "ends instead",
  "resets instead",
  "breaks off its head",
  "breaks off its body",
] as const;
type Manner = (typeof manners)[number];

type Breaking = Readonly<{ port: number; arrived: ReadonlyMap<string, number>; close(): Promise<void> }>;

/** @param mannerOf by the number of the request, in the order in which they arrive */
async function startBreaking(mannerOf: (n: number) => Manner): Promise<Breaking> {
  const arrived = new Map<string, number>();
  const sockets = new Set<Socket>();
  let n = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    let bytes = "";
    let heads = 0;
    let done = 0;
    socket.on("data", (chunk) => {
      bytes += chunk.toString("latin1");
      const { messages } = readRequests(bytes);
      for (const { target } of messages.slice(heads)) {
        heads++;
        arrived.set(target, (arrived.get(target) ?? 0) + 1);
      }
      for (const { target, complete } of messages.slice(done)) {
        if (!complete) break;
        done++;
        behave(socket, target, mannerOf(n++));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    arrived,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function behave(socket: Socket, target: string, manner: Manner): void {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n`;
  if (manner.startsWith("answers")) socket.write(head + target);
  switch (manner) {
    case "answers":
      return;
    case "answers and ends":
    case "ends instead":
      socket.end();
      return;
    case "answers and resets":
    case "resets instead":
      socket.resetAndDestroy();
      return;
    case "answers and ends in a turn":
      setImmediate(() => socket.end());
      return;
    case "answers and resets in a moment":
      setTimeout(() => socket.resetAndDestroy(), 1);
      return;
    case "breaks off its head":
      socket.end(head.slice(0, 20));
      return;
    case "breaks off its body":
      socket.end(head + target.slice(1));
      return;
    default:
      manner satisfies never;
  }
}

const asked = fc.record({
  method: fc.constantFrom("GET", "POST", "POST", "PUT", "PATCH", "DELETE"),
  body: fc.constantFrom("", "short", "x".repeat(100_000)),
  chunked: fc.boolean(),
});
type Asked = Readonly<{ method: string; body: string; chunked: boolean }>;

/** @returns the answer's body; undefined: it was none, or broke off */
function ask(port: number, agent: Agent, path: string, { method, body, chunked }: Asked): Promise<string | undefined> {
  return new Promise((resolve) => {
    const framing = body === "" ? {} : chunked ? { "transfer-encoding": "chunked" } : { "content-length": body.length };
    const headers = { host: "app.localhost", ...framing };
    const req = request({ port, host: "127.0.0.1", agent, method, path, headers }, (res) => {
      let text = "";
      res.setEncoding("latin1").on("data", (chunk: string) => {
        text += chunk;
      });
      res.once("error", () => resolve(undefined));
      res.once("close", () => resolve(res.complete && res.statusCode === 200 ? text : undefined));
    });
    req.once("error", () => resolve(undefined));
    req.end(body);
  });
}

test("what may have had an effect arrives once, and every answer is that of its request", {
  timeout: 120_000,
}, async (t) => {
  const callers = fc.array(fc.array(asked, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 12 });
  const counts = { answered: 0, failed: 0, twice: 0 };
  await fc.assert(
    fc.asyncProperty(
      callers,
      fc.array(fc.constantFrom(...manners), { minLength: 5, maxLength: 40 }),
      async (all, ways) => {
        const upstream = await startBreaking((n) => ways[n % ways.length] ?? "answers");
        const rig = await startRig([routeTo(upstream.port, publicAccess)]);
        try {
          const methods = new Map<string, Asked>();
          await Promise.all(
            all.map(async (requests, caller) => {
              const agent = new Agent({ keepAlive: true, maxSockets: 1 });
              for (const [i, one] of requests.entries()) {
                const path = `/${caller}-${i}`;
                methods.set(path, one);
                const answer = await ask(rig.port, agent, path, one);
                if (answer === undefined) counts.failed++;
                else counts.answered++;
                assert.ok(answer === undefined || answer === path, `${path} was answered ${answer}`);
              }
              agent.destroy();
            }),
          );
          for (const [path, times] of upstream.arrived) {
            const { method = "", body = "" } = methods.get(path) ?? {};
            const mayRepeat = body === "" && ["GET", "PUT", "DELETE"].includes(method);
            assert.ok(
              times <= (mayRepeat ? 2 : 1),
              `${method} ${path} with ${body.length} bytes arrived ${times} times`,
            );
            if (times === 2) counts.twice++;
          }
        } finally {
          await rig.close();
          await upstream.close();
        }
      },
    ),
    { numRuns: 40, endOnFailure: true },
  );
  t.diagnostic(JSON.stringify(counts));
  assert.ok(counts.answered > 100 && counts.failed > 100);
});

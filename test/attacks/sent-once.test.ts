/**
 * A request that may have had an effect is sent once, however an upstream breaks its connections: before, during or
 * after the request.
 */
import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { publicAccess, routeTo, startRig } from "../proxy/support.ts";
import { fc } from "../support/property.ts";
import { readRequests } from "../support/strict-http1.ts";

/** What the upstream does with a request and then with its connection. */
const behaviors = [
  "answers",
  "answers",
  "answers",
  "answers and ends",
  "answers and resets",
  "answers and ends a turn later",
  "answers and resets a moment later",
  "ends instead",
  "resets instead",
  "truncates its head",
  "truncates its body",
] as const;
type Behavior = (typeof behaviors)[number];

type UnreliableUpstream = Readonly<{ port: number; arrived: ReadonlyMap<string, number>; close(): Promise<void> }>;

/** @param behaviorOf maps the number of a request, in order of arrival, to a behavior */
async function startUnreliableUpstream(behaviorOf: (n: number) => Behavior): Promise<UnreliableUpstream> {
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
        behave(socket, target, behaviorOf(n++));
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

function behave(socket: Socket, target: string, behavior: Behavior): void {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n`;
  if (behavior.startsWith("answers")) socket.write(head + target);
  switch (behavior) {
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
    case "answers and ends a turn later":
      setImmediate(() => socket.end());
      return;
    case "answers and resets a moment later":
      setTimeout(() => socket.resetAndDestroy(), 1);
      return;
    case "truncates its head":
      socket.end(head.slice(0, 20));
      return;
    case "truncates its body":
      socket.end(head + target.slice(1));
      return;
    default:
      behavior satisfies never;
  }
}

const requestSpec = fc.record({
  method: fc.constantFrom("GET", "POST", "POST", "PUT", "PATCH", "DELETE"),
  body: fc.constantFrom("", "short", "x".repeat(100_000)),
  chunked: fc.boolean(),
});
type RequestSpec = Readonly<{ method: string; body: string; chunked: boolean }>;

/** @returns the body of a 200 response; undefined if there was none or it was truncated */
function send(
  port: number,
  agent: Agent,
  path: string,
  { method, body, chunked }: RequestSpec,
): Promise<string | undefined> {
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

test("a request that may have had an effect arrives once, and every response belongs to its request", {
  timeout: 120_000,
}, async (t) => {
  const callers = fc.array(fc.array(requestSpec, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 12 });
  const counts = { answered: 0, failed: 0, twice: 0 };
  await fc.assert(
    fc.asyncProperty(
      callers,
      fc.array(fc.constantFrom(...behaviors), { minLength: 5, maxLength: 40 }),
      async (all, sequence) => {
        const upstream = await startUnreliableUpstream((n) => sequence[n % sequence.length] ?? "answers");
        const rig = await startRig([routeTo(upstream.port, publicAccess)]);
        try {
          const methods = new Map<string, RequestSpec>();
          await Promise.all(
            all.map(async (requests, caller) => {
              const agent = new Agent({ keepAlive: true, maxSockets: 1 });
              for (const [i, one] of requests.entries()) {
                const path = `/${caller}-${i}`;
                methods.set(path, one);
                const answer = await send(rig.port, agent, path, one);
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

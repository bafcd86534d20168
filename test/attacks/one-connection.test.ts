/**
 * A request on a reused connection is decided, forwarded, answered and recorded as if it were the first one on a
 * connection of its own, whatever came before it.
 *
 * The same requests go, in random order, over one kept-alive connection and over a fresh connection each. In between,
 * sessions end, groups and routes change, and the lease runs out. Both ways must give the same result byte for byte,
 * except for ids and times. Every response belongs to its request, even where the upstream sends more than it was asked
 * for.
 */
import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import type { DecisionRecord } from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import type { UnixMs } from "../../src/events/index.ts";
import {
  engOnly,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
} from "../proxy/support.ts";
import { fc } from "../support/property.ts";
import { readAnswers, readRequests, type StrictMessage, valuesIn } from "../support/strict-http1.ts";
import { waitFor } from "../support/wait-for.ts";

// --- an upstream whose responses are chosen by the request target

type RecordingUpstream = Readonly<{ port: number; seen: readonly StrictMessage[]; close(): Promise<void> }>;

/** Responses by number. The same heads recur with other statuses and bodies. */
const answers: readonly ((target: string, isHead: boolean) => string)[] = [
  (target, isHead) => sized("200 OK", ["Set-Cookie: of=it; Path=/"], isHead ? "" : target, target.length),
  (target, isHead) => sized("404 Not Found", ["Set-Cookie: of=it; Path=/"], isHead ? "" : target, target.length),
  (target, isHead) => `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${isHead ? "" : chunked(target)}`,
  () => "HTTP/1.1 204 No Content\r\nX-Of: 204\r\n\r\n",
  (target) => `HTTP/1.1 304 Not Modified\r\nContent-Length: ${target.length}\r\nSet-Cookie: of=it; Path=/\r\n\r\n`,
  (target, isHead) =>
    sized("200 OK", ["Connection: X-Hop", "X-Hop: 1", "X-Hope: 1"], isHead ? "" : target, target.length),
  (target, isHead) => `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${answers[0]?.(target, isHead)}`,
  (target, isHead) => `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${isHead ? "" : target}`,
  (target, isHead) =>
    sized("200 OK", ["Set-Cookie: _pomerium=evil", "Location: /b"], isHead ? "" : target, target.length),
  (target, isHead) => `${answers[0]?.(target, isHead)}${sized("200 OK", ["X-Whose: stolen"], "stolen", 6)}`,
  (target, isHead) => sized("200 OK", ["X-Request-Id: theirs", "Date: then"], isHead ? "" : target, target.length),
];

function sized(status: string, lines: readonly string[], body: string, length: number): string {
  return `HTTP/1.1 ${status}\r\n${[...lines, `Content-Length: ${length}`].join("\r\n")}\r\n\r\n${body}`;
}
function chunked(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n0\r\nX-Trailer: 1\r\n\r\n`;
}

async function startUpstreamByTarget(): Promise<RecordingUpstream> {
  const seen: StrictMessage[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    let bytes = "";
    let answered = 0;
    socket.on("data", (chunk) => {
      bytes += chunk.toString("latin1");
      const { messages, problem } = readRequests(bytes);
      for (const message of messages.filter(({ complete }) => complete).slice(answered)) {
        answered++;
        seen.push(message);
        const which = Number(/a=(\d+)/.exec(message.target)?.[1] ?? 0);
        const response = answers[which % answers.length]?.(message.target, message.method === "HEAD") ?? "";
        socket.write(response, "latin1");
        if (/^Connection: close/m.test(response)) socket.end();
      }
      if (problem !== null && !problem.startsWith("incomplete"))
        throw new Error(`the upstream received an invalid request: ${problem}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

// --- the requests

const heads: readonly (readonly string[])[] = [
  ["Host: app.localhost", "Cookie: _pomerium=s1; own=1"],
  ["Host: app.localhost", "Cookie: _pomerium=s2; own=1"],
  ["Host: app.localhost", "cookie: _pomerium=s1; own=1"],
  ["Host: app.localhost", "Cookie: own=1; _pomerium=s1"],
  ["Host: app.localhost", "Cookie: _pomerium=bad"],
  ["Host: app.localhost", "Accept: application/json"],
  ["Host: app.localhost", "X-Own: 1"],
  ["Host: app.localhost", "Accept: text/html"],
  ["Host: app.localhost", "Authorization: Pomerium s1", "Accept: application/json"],
  ["Host: app.localhost", "Authorization: Bearer s1", "Cookie: _pomerium=s2"],
  ["Host: app.localhost", "Cookie: _pomerium=s1", "Connection: X-Own, keep-alive", "X-Own: 1"],
  ["Host: app.localhost", "Cookie: _pomerium=s1", "Connection: keep-alive", "X-Own: 1"],
  [
    "Host: app.localhost",
    "Cookie: _pomerium=s1",
    "X-Forwarded-For: 192.0.2.1",
    "X-Pomerium-Claim-Email: m@example.com",
  ],
  ["Host: app.localhost", "Cookie: _pomerium=s1", "X-A: 1", "X-A: 2", "Referer: http://a/?pomerium_session=s1&b"],
  ["Host: app.localhost", "Cookie: _pomerium=s1", "X-A: 2", "X-A: 1", "Referer: http://a/?pomerium_session=s1&b"],
  ["Host: eng.localhost", "Cookie: _pomerium=s1; own=1"],
  ["Host: eng.localhost", "Cookie: _pomerium=s3; own=1", "Accept: application/json"],
  ["Host: public.localhost", "Cookie: _pomerium=s2; own=1"],
  ["Host: public.localhost", "X-Own: 1"],
  ["Host: rewritten.localhost", "Cookie: _pomerium=s1", "X-Own: to.example"],
  ["Host: rewritten.localhost", "Cookie: _pomerium=s2", "X-Own: to.example"],
  ["Host: nowhere.localhost", "Cookie: _pomerium=s1"],
  ["Host: app.localhost", "Host: eng.localhost", "Cookie: _pomerium=s1"],
  ["Host: app.localhost", "X_Own: 1", "Cookie: _pomerium=s1"],
];
const paths = ["/", "/", "/admin/x", "/Admin/x", "/eng.example/x", "/%61dmin/", "/a//b", "/.pomerium/x", "/../admin"];
const queries = [
  "",
  "&pomerium_session=s3",
  "&pomerium_session=s3",
  "&pomerium_session=s2",
  "&pomerium_session=bad",
  "&b=é".replace("é", "%C3%A9"),
];
const bodies: readonly (readonly [lines: readonly string[], body: string])[] = [
  [[], ""],
  [["Content-Length: 0"], ""],
  [["Content-Length: 5"], "hello"],
  [["Transfer-Encoding: chunked"], "5\r\nhello\r\n0\r\n\r\n"],
  [["Transfer-Encoding: chunked"], "5\r\nhello\r\n0\r\nX-Trailer: 1\r\nX-Pomerium-Jwt-Assertion: m\r\n\r\n"],
  [["Content-Length: 05"], "hello"],
];

type RequestSpec = Readonly<{
  method: string;
  head: number;
  path: string;
  query: string;
  answer: number;
  body: number;
}>;
const requestSpec = fc.record({
  method: fc.constantFrom("GET", "GET", "GET", "HEAD", "POST", "DELETE"),
  head: fc.nat(heads.length - 1),
  path: fc.constantFrom("/", ...paths),
  query: fc.constantFrom("", ...queries),
  answer: fc.nat(answers.length - 1),
  body: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(bodies.length - 1) }),
});

function textOf({ method, head, path, query, answer, body }: RequestSpec): string {
  const [lines, sent] = bodies[body] ?? [[], ""];
  return `${method} ${path}?a=${answer}${query} HTTP/1.1\r\n${[...(heads[head] ?? []), ...lines].join("\r\n")}\r\n\r\n${sent}`;
}

// --- changes between requests

type Change = (rig: Rig, port: number) => Promise<unknown>;
let n = 0;
const changes: Readonly<Record<string, Change>> = {
  nothing: async () => {},
  revoked: (rig) => rig.apply(sessionRevoked(2)),
  joins: (rig) => rig.apply(groupChanged({ added: [1] })),
  leaves: (rig) => rig.apply(groupChanged({ removed: [1] })),
  renamed: (rig) => {
    const created = signedIn(1, { email: `user1-${n++}@example.com` });
    assert.ok(created.type === "SessionCreated");
    const { sessionId, userId, profile } = created;
    return rig.apply({ type: "SessionRefreshed", sessionId, userId, profile, refreshedAt: n as UnixMs });
  },
  stale: async (rig) => {
    rig.lease.overdueMs = 1e9;
  },
  fresh: async (rig) => {
    rig.lease.overdueMs = -1_000;
  },
  otherRoutes: (rig, port) => rig.activate(routesTo(port, { setRequestHeaders: { "X-Set": "new", "X-Own": "set" } })),
  strippedRoutes: (rig, port) =>
    rig.activate(
      routesTo(port, { removeRequestHeaders: ["X-Own", "x-request-id"], setResponseHeaders: { "X-S": "1" } }),
    ),
  firstRoutes: (rig, port) => rig.activate(routesTo(port, {})),
};

function routesTo(port: number, parts: Partial<RouteConfig>): RouteConfig[] {
  const common = { passIdentityHeaders: true, preserveHostHeader: true, ...parts };
  const toPath = {
    hostPathRegexRewrite: { pattern: "^/([a-z.]+)/.*$", substitution: "\\1" },
    preserveHostHeader: false,
  };
  return [
    routeTo(port, { ...common, host: "eng.localhost", ...engOnly }),
    routeTo(port, { ...common, host: "public.localhost", ...publicAccess }),
    routeTo(port, { ...common, host: "rewritten.localhost", ...toPath }),
    routeTo(port, { ...common, id: "admin", match: { kind: "prefix", value: "/admin" }, ...engOnly }),
    routeTo(port, common),
  ];
}

// --- two ways to send a request

class CallerConnection {
  readonly socket: Socket;
  #bytes = "";
  #closed = false;
  #methods: string[] = [];

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("error", () => {});
    this.socket.on("data", (chunk) => {
      this.#bytes += chunk.toString("latin1");
    });
    this.socket.on("close", () => {
      this.#closed = true;
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** @returns the responses to these requests; fewer if the connection ends first */
  async send(requests: readonly RequestSpec[]): Promise<readonly StrictMessage[]> {
    const before = this.#methods.length;
    this.#methods.push(...requests.map(({ method }) => method));
    this.socket.write(requests.map(textOf).join(""), "latin1");
    return waitFor(
      "the responses",
      () => {
        const { messages, problem } = readAnswers(this.#bytes, (i) => this.#methods[i] === "HEAD");
        const finals = messages.filter(({ status, complete }) => status >= 200 && complete).slice(before);
        if (finals.length < requests.length && !this.#closed) return undefined;
        assert.ok(problem === null || this.#closed, String(problem));
        // The proxy announced that it will close. Whether it already has must not affect the next request.
        if (finals.some(({ lines }) => valuesIn(lines, "connection").includes("close"))) this.socket.destroy();
        return this.#closed || !this.socket.destroyed ? finals : undefined;
      },
      { everyMs: 1 },
    );
  }
}

/** The result of one request, without the values that differ on every run. */
function comparable(
  answer: StrictMessage | undefined,
  seen: readonly StrictMessage[],
  records: readonly DecisionRecord[],
): unknown {
  const replyIds = answer === undefined ? [] : valuesIn(answer.lines, "x-request-id");
  const ids = new Set([...replyIds, ...seen.flatMap(({ lines }) => valuesIn(lines, "x-request-id"))]);
  for (const { requestId } of records) ids.add(requestId);
  const [id = ""] = ids;
  const plain = (text: string): string =>
    (id === "" ? text : text.replaceAll(id, "ID")).replace(/^date: .*|"at":\d+/gi, "then");
  const claims = (value: string): string =>
    /^ey[\w-]+\.[\w-]+\.[\w-]+$/.test(value)
      ? Buffer.from(value.split(".")[1] ?? "", "base64url")
          .toString()
          .replace(/"(?:jti|iat|exp)":[^,}]+/g, "")
      : value;
  return {
    ids: ids.size,
    answer:
      answer === undefined
        ? "none"
        : [answer.status, answer.lines.map(([name, value]) => plain(`${name}: ${value}`)), plain(answer.body)],
    seen: seen.map(({ method, target, lines, body }) => [
      [method, target, plain(body)],
      lines.map(([name, value]) => plain(`${name}: ${claims(value)}`)),
    ]),
    records: records.map(({ requestId: _, at: __, latencyMs: ___, ...rest }) => rest),
  };
}

async function startBoth(): Promise<Readonly<{ rig: Rig; upstream: RecordingUpstream; close(): Promise<void> }>> {
  const upstream = await startUpstreamByTarget();
  const rig = await startRig(routesTo(upstream.port, {}));
  await rig.apply(signedIn(1), signedIn(2), signedIn(3), groupChanged({ added: [1] }));
  return {
    rig,
    upstream,
    async close() {
      await rig.close();
      await upstream.close();
    },
  };
}

const limits = { timeout: 120_000 };

test(
  "a request on a kept-alive connection gives the same result as on a fresh one, whatever changed since the last request",
  limits,
  async (t) => {
    const change = fc.oneof(
      { weight: 3, arbitrary: fc.constant("nothing") },
      {
        weight: 1,
        arbitrary: fc.constantFrom("renamed", "renamed", "strippedRoutes", "firstRoutes", ...Object.keys(changes)),
      },
    );
    const step = fc.record({ change, again: fc.nat(3), requestSpec });
    let reached = 0;
    let reused: CallerConnection | undefined;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 60 }), async (steps) => {
        const { rig, upstream, close } = await startBoth();
        try {
          reused = new CallerConnection(rig.port);
          let last: RequestSpec | undefined;
          let stripped = false;
          for (const { change: changeName, again, requestSpec: drawnSpec } of steps) {
            const one =
              last === undefined || again === 0 ? drawnSpec : again === 1 ? last : { ...drawnSpec, head: last.head };
            last = one;
            await changes[changeName]?.(rig, upstream.port);
            if (changeName.endsWith("Routes")) stripped = changeName === "strippedRoutes";
            const outcomes: unknown[] = [];
            for (const way of ["kept", "fresh"] as const) {
              const [seenBefore, recordsBefore] = [upstream.seen.length, rig.records.length];
              if (reused.closed || reused.socket.destroyed) reused = new CallerConnection(rig.port);
              const connection: CallerConnection = way === "kept" ? reused : new CallerConnection(rig.port);
              const [answer] = await connection.send([one]);
              if (way === "fresh") connection.socket.destroy();
              await waitFor("the request to finish", () => rig.proxy.stats().inFlight.http === 0, { everyMs: 1 });
              const seen = upstream.seen.slice(seenBefore);
              outcomes.push(comparable(answer, seen, rig.records.slice(recordsBefore)));
              for (const { target } of seen) {
                reached++;
                // Both ways share the upstream connections, so the response headers are compared with the
                // routes in force.
                if (answer !== undefined) assert.deepEqual(valuesIn(answer.lines, "x-s"), stripped ? ["1"] : []);
                if (one.method !== "HEAD" && answer !== undefined && answer.status === 200)
                  assert.equal(answer.body, target, "a response to another request");
              }
            }
            assert.deepEqual(outcomes[0], outcomes[1], `${textOf(one)} after ${changeName}`);
          }
        } finally {
          reused?.socket.destroy();
          await close();
        }
      }),
      { numRuns: 12, endOnFailure: true },
    );
    t.diagnostic(`${reached} requests reached the upstream`);
    assert.ok(reached > 100);
  },
);

test("pipelined requests give the same results as each on its own connection", limits, async (t) => {
  let reached = 0;
  const { rig, upstream, close } = await startBoth();
  t.after(close);
  await fc.assert(
    fc.asyncProperty(fc.array(requestSpec, { minLength: 2, maxLength: 6 }), async (all) => {
      const alone: unknown[] = [];
      for (const one of all) {
        const [seenBefore, recordsBefore] = [upstream.seen.length, rig.records.length];
        const connection = new CallerConnection(rig.port);
        const [answer] = await connection.send([one]);
        connection.socket.destroy();
        await waitFor("the request to finish", () => rig.proxy.stats().inFlight.http === 0, { everyMs: 1 });
        alone.push(comparable(answer, upstream.seen.slice(seenBefore), rig.records.slice(recordsBefore)));
      }
      const [seenBefore, recordsBefore] = [upstream.seen.length, rig.records.length];
      const connection = new CallerConnection(rig.port);
      const together = await connection.send(all);
      connection.socket.destroy();
      await waitFor("all requests to finish", () => rig.proxy.stats().inFlight.http === 0, { everyMs: 1 });
      const seen = upstream.seen.slice(seenBefore);
      const records = rig.records.slice(recordsBefore);
      reached += seen.length;
      for (const [i, answer] of together.entries()) {
        const [id] = valuesIn(answer.lines, "x-request-id");
        const ownRequests = seen.filter(({ lines }) => valuesIn(lines, "x-request-id")[0] === id);
        const own = records.filter(({ requestId }) => requestId === id);
        assert.deepEqual(
          comparable(answer, ownRequests, own),
          alone[i],
          `${textOf(all[i] as RequestSpec)} as number ${i}`,
        );
      }
      // Only requests after one that closes the connection go unanswered.
      if (together.length < all.length) {
        const last = together.at(-1);
        const closes = last === undefined || valuesIn(last.lines, "connection").includes("close");
        assert.ok(closes, `${together.length} of ${all.length}: ${all.map(textOf).join("\n--\n")}`);
      }
    }),
    { numRuns: 120, endOnFailure: true },
  );
  t.diagnostic(`${reached} requests reached the upstream`);
  assert.ok(reached > 100);
});

/** What is remembered of a head changes nothing: neither what a request is read as, nor what anybody is told. */
import assert from "node:assert/strict";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { describe, test } from "node:test";
import type { UnixMs } from "../../../src/events/index.ts";
import {
  buildDownstreamHeaders,
  compileResponseRules,
  downstreamLines,
} from "../../../src/proxy/headers/downstream-headers.ts";
import {
  buildUpstreamHeaders,
  compileHeaderRules,
  type UpstreamIdentity,
  upstreamLines,
} from "../../../src/proxy/headers/upstream-headers.ts";
import { canonicalise } from "../../../src/proxy/message/canonical-request.ts";
import { ownCookies } from "../../../src/proxy/message/cookies.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import { HeaderValueCheck } from "../../../src/proxy/message/header-values.ts";
import { AnswerLines, LastLines, RequestLines } from "../../../src/proxy/message/received-lines.ts";
import { route } from "../../auth/authorize/support.ts";
import { fc } from "../../support/property.ts";
import {
  cookieOf,
  engOnly,
  members,
  type Rig,
  revokedSession,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  valuesOf,
} from "../support.ts";

const cookies = ownCookies("_pomerium");
const config = { jwtClaimsHeaders: { "x-pomerium-claim-email": "email" }, xffNumTrustedHops: 1, skipXffAppend: false };
const rules = [{}, { removeRequestHeaders: ["X-Own"] }, { preserveHostHeader: true }].map((parts) =>
  compileHeaderRules(route({ passIdentityHeaders: true, ...parts }), config, cookies),
);
const people: readonly (UpstreamIdentity | null)[] = [
  { assertion: "of alice", claimHeaders: [["x-pomerium-claim-email", "alice@example.com"]] },
  { assertion: "of bob", claimHeaders: [["x-pomerium-claim-email", "bob@example.com"]] },
  null,
];

/** Few of each, so that lists come again, and others differ from the one before in next to nothing. */
const line = fc.constantFrom(
  ["Host", "app.example"],
  ["host", "app.example"],
  ["Host", "other.example:81"],
  ["Host", ""],
  ["Cookie", "_pomerium=a; b=1"],
  ["Cookie", "_pomerium=a; b=2"],
  ["X-Own", "1"],
  ["X-Own", "2"],
  ["x_own", "1"],
  ["X-Pomerium-Claim-Email", "mallory@example.com"],
  ["Connection", "X-Own"],
  ["Content-Length", "0"],
  ["Content-Length", "05"],
  ["Transfer-Encoding", "chunked"],
  ["X-Forwarded-For", "192.0.2.9"],
);
const head = fc.record({
  method: fc.constantFrom("GET", "POST", "CONNECT", "get"),
  url: fc.constantFrom("/", "/a?b", "/../a", "other.example:81"),
  httpVersion: fc.constantFrom("1.1", "1.0"),
  rawHeaders: fc.array(line, { maxLength: 4 }).map((lines) => lines.flat()),
});
const step = fc.record({
  again: fc.boolean(),
  head,
  rules: fc.constantFrom(...rules),
  identity: fc.constantFrom(...people),
  sessionId: fc.constantFrom("a", "b", null),
  upstreamHost: fc.constantFrom("one:81", "two:81"),
});

test("requests of one connection are read and told as if each were the first", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const last = new LastLines(RequestLines.receive);
      let before: readonly string[] = [];
      for (const { again, head: sent, rules: of, ...parts } of steps) {
        const rawHeaders = [...(again ? before : sent.rawHeaders)];
        before = rawHeaders;
        const lines = last.next(rawHeaders);
        const alone = canonicalise({ ...sent, rawHeaders });
        const seen = canonicalise({ ...sent, rawHeaders: lines.raw, lines });
        assert.deepEqual(seen, alone);
        if (seen.type === "refused" || alone.type === "refused") continue;
        const told = { ...parts, scheme: "https", peer: "192.0.2.1", tokens: null, certificate: null } as const;
        const authority = seen.request.hostname;
        assert.deepEqual(
          upstreamLines(of, { request: seen.request, ...told }, { received: lines, authority: () => authority }).list,
          buildUpstreamHeaders(of, { request: alone.request, ...told, authority }),
        );
      }
    }),
    { numRuns: 2_000 },
  );
});

test("answers of one connection are told as if each were the first", () => {
  const answers = [{}, { setResponseHeaders: { "X-Frame-Options": "DENY" } }].map((parts) =>
    compileResponseRules(route(parts), cookies),
  );
  const sent = fc.constantFrom(
    ["Set-Cookie", "_pomerium=evil"],
    ["Set-Cookie", "a=1"],
    ["Set-Cookie", "a=2"],
    ["X-Frame-Options", "SAMEORIGIN"],
    ["Connection", "close, X-Hop"],
    ["X-Hop", "1"],
  );
  const answered = fc.record({ lines: fc.array(sent, { maxLength: 3 }), of: fc.constantFrom(...answers) });
  fc.assert(
    fc.property(fc.array(answered, { maxLength: 12 }), (steps) => {
      const last = new LastLines(AnswerLines.receive);
      for (const { lines, of } of steps)
        assert.deepEqual(downstreamLines(of, last.next(lines.flat())).list, buildDownstreamHeaders(of, lines.flat()));
    }),
    { numRuns: 500 },
  );
});

test("a long head is not kept until the next one", () => {
  const last = new LastLines(RequestLines.receive);
  const short = ["Host", "app.example"];
  assert.equal(last.next(short), last.next([...short]));
  const long = ["Host", "app.example", "Cookie", "a".repeat(5_000)];
  assert.notEqual(last.next(long), last.next([...long]));
  const kept = last.next(short);
  last.forget();
  assert.notEqual(last.next(short), kept);
});

test("the text of lines is kept where it is short, and is the same where it is not", () => {
  const writable = new HeaderValueCheck();
  const textsOf = (list: readonly string[]) => {
    const lines = new HeaderLines(list);
    return [lines.text(writable), lines.text(writable), lines.text(writable)] as const;
  };
  const [first, second, third] = textsOf(["A", "1", "B", "\u00e9"]);
  assert.deepEqual([first.text, second.text], ["A: 1\r\nB: \u00e9\r\n", "A: 1\r\nB: \u00e9\r\n"]);
  assert.equal(third, second);
  const long = textsOf(["A", "a".repeat(10_000), "Content-Length", "3"]);
  assert.deepEqual(long[1], long[0]);
  assert.notEqual(long[2], long[1]);
});

test("what an upstream was told with tokens of the identity provider is not kept by the caller's connection", () => {
  const rawHeaders = ["Host", "app.example"];
  const lines = RequestLines.receive(rawHeaders);
  const read = canonicalise({ method: "GET", url: "/", httpVersion: "1.1", rawHeaders, lines });
  assert.ok(read.type === "canonical");
  const [of] = rules;
  assert.ok(of !== undefined);
  const told = {
    scheme: "https",
    peer: "192.0.2.1",
    certificate: null,
    identity: null,
    upstreamHost: "one:81",
  } as const;
  for (const tokens of [{ idToken: "id", accessToken: "access" }, null]) {
    const input = { request: read.request, ...told, sessionId: "a", tokens };
    upstreamLines(of, input, { received: lines, authority: () => "app.example" });
    assert.equal(lines.sent === undefined, tokens !== null);
  }
});

describe("on one connection, with the same bytes again", () => {
  /** @returns how to ask, always with the same head */
  function oneConnection(rig: Rig): (session: number) => Promise<Readonly<{ status: number; seen: string[] }>> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    let sockets = 0;
    return (session) =>
      new Promise((resolve, reject) => {
        const headers = { host: "app.localhost", cookie: `${cookieOf(session)}; app=1`, accept: "application/json" };
        const req = request({ agent, host: "127.0.0.1", port: rig.port, path: "/same", headers });
        req.once("socket", (socket) => {
          if (socket.connecting) sockets++;
        });
        req.once("error", reject);
        req.once("response", (res: { statusCode?: number; headers: IncomingHttpHeaders } & NodeJS.ReadableStream) => {
          let text = "";
          res.setEncoding("utf8").on("data", (chunk: string) => {
            text += chunk;
          });
          res.once("end", () => {
            assert.equal(sockets, 1, "it was another connection");
            const status = res.statusCode ?? 0;
            resolve({ status, seen: status === 200 ? JSON.parse(text).rawHeaders : [] });
          });
        });
        req.end();
      });
  }

  async function start(): Promise<Readonly<{ rig: Rig; close: () => Promise<void> }>> {
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port, { ...engOnly, passIdentityHeaders: true })]);
    await rig.apply(signedIn(1), signedIn(2), members({ added: [1, 2] }));
    return {
      rig,
      async close() {
        await rig.close();
        await upstream.close();
      },
    };
  }
  const emailsIn = (assertion: string | undefined): string =>
    JSON.parse(Buffer.from(assertion?.split(".")[1] ?? "", "base64url").toString()).email;
  const emailIn = (seen: readonly string[]): string => emailsIn(valuesOf(seen, "x-pomerium-jwt-assertion")[0]);

  test("each request has an id of its own, and a revoked session is refused at once", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const ask = oneConnection(rig);
    const ids = new Set<string | undefined>();
    for (let i = 0; i < 4; i++) {
      const { status, seen } = await ask(1);
      assert.equal(status, 200);
      assert.deepEqual(valuesOf(seen, "cookie"), ["app=1"]);
      for (const id of valuesOf(seen, "x-request-id")) ids.add(id);
    }
    assert.equal(ids.size, 4);
    await rig.apply(revokedSession(1));
    assert.equal((await ask(1)).status, 401);
    assert.equal((await ask(2)).status, 200);
  });

  test("who leaves the group is refused at once, and permitted again when back", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const ask = oneConnection(rig);
    for (const [change, status] of [
      ["added", 200],
      ["removed", 403],
      ["added", 200],
    ] as const) {
      await rig.apply(members({ [change]: [1] }));
      assert.deepEqual([(await ask(1)).status, (await ask(1)).status], [status, status]);
    }
  });

  test("an upstream is told of whoever asks now, not of whoever asked before", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const ask = oneConnection(rig);
    for (const session of [1, 1, 2, 2, 1]) {
      const { seen } = await ask(session);
      assert.equal(emailIn(seen), emailIn((await ask(session)).seen));
      assert.match(emailIn(seen), new RegExp(`${session}`));
    }
    const renamed = signedIn(1, { email: "renamed-1@example.com" });
    assert.ok(renamed.type === "SessionCreated");
    const { sessionId, userId, profile } = renamed;
    await rig.apply({ type: "SessionRefreshed", sessionId, userId, profile, refreshedAt: 1 as UnixMs });
    assert.equal(emailIn((await ask(1)).seen), "renamed-1@example.com");
  });

  test("a route that is changed meanwhile is the one that counts", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const ask = oneConnection(rig);
    const [before] = rig.deps.config.routes;
    assert.ok(before !== undefined);
    assert.deepEqual(valuesOf((await ask(1)).seen, "x-set"), []);
    await rig.activate([{ ...before, setRequestHeaders: { "X-Set": "by the new one" } }]);
    assert.deepEqual(valuesOf((await ask(1)).seen, "x-set"), ["by the new one"]);
    assert.deepEqual(valuesOf((await ask(1)).seen, "x-set"), ["by the new one"]);
  });
});

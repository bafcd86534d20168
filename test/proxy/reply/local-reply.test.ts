import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bestMatch, signInChallenge } from "../../../src/auth/index.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { canonicaliseRequest } from "../../../src/proxy/message/canonical-request.ts";
import { type Condition, grpcStatus, type LocalReply, localReplyFor } from "../../../src/proxy/reply/local-reply.ts";
import { type ReplyFormat, type RequestKind, replyFormatOf } from "../../../src/proxy/reply/reply-format.ts";

type Sent = Readonly<{
  method?: string;
  url?: string;
  headers?: Readonly<Record<string, string>>;
  upgrade?: "websocket";
}>;

function formatOf(sent: Sent): ReplyFormat {
  const rawHeaders = ["Host", "app.example", ...Object.entries(sent.headers ?? {}).flat()];
  const canonical = canonicaliseRequest({
    method: sent.method ?? "GET",
    url: sent.url ?? "/",
    httpVersion: "1.1",
    rawHeaders,
  });
  assert.ok(canonical.type === "canonical");
  const isRouteOrigin = (origin: string): boolean => origin === "https://spa.example";
  return replyFormatOf(canonical.request, { upgrade: sent.upgrade ?? null, isRouteOrigin });
}

const facts = {
  requestId: "request-1",
  at: 0 as UnixMs,
  host: "app.example",
  url: "https://app.example/x?y=1",
  explain: { allow: [], deny: [] },
  user: { name: "Bob", email: "bob@example.com" },
  details: [],
};

const conditions = {
  "no session": { type: "no-session", reasons: ["user-unauthenticated"] },
  "no right": { type: "no-right", status: 403, reasons: ["groups-unauthorized"] },
  "unknown, no lease": { type: "unknown", why: "lease" },
  "unknown, behind": { type: "unknown", why: "behind" },
} as const satisfies Record<string, Condition>;

const browser = { Accept: "text/html,application/xhtml+xml,*/*;q=0.8" };
const callers: Readonly<Record<RequestKind, Sent>> = {
  navigation: { headers: { "Sec-Fetch-Mode": "navigate", ...browser } },
  fetch: { headers: { "Sec-Fetch-Mode": "cors", Accept: "*/*", Origin: "https://spa.example" } },
  preflight: { method: "OPTIONS", headers: { Origin: "https://spa.example", "Access-Control-Request-Method": "PUT" } },
  upgrade: { upgrade: "websocket", headers: { "Sec-Fetch-Mode": "websocket", Origin: "https://spa.example" } },
  grpc: { method: "POST", headers: { "Content-Type": "application/grpc" } },
  plain: { headers: browser },
};

function summaryOf({ status, body, headers, signIn }: LocalReply): string {
  const kind = body.type === "html" ? "html" : body.contentType.replace(/^application\/|;.*/g, "");
  const extra = [
    signIn === null ? "" : "sign-in",
    headers["grpc-status"] === undefined ? "" : `grpc-status ${headers["grpc-status"]}`,
    headers["access-control-allow-origin"] === undefined ? "" : "cors",
    headers["retry-after"] === undefined ? "" : "retry-after",
  ];
  return [status, kind, ...extra].filter((part) => part !== "").join(" ");
}

/** The table of docs/architecture.md §7, cell by cell. */
const matrix: Readonly<Record<keyof typeof conditions, Readonly<Record<RequestKind, string>>>> = {
  "no session": {
    navigation: "302 text/plain sign-in",
    plain: "302 text/plain sign-in",
    fetch: "401 json cors",
    preflight: "401 json",
    upgrade: "401 json",
    grpc: "401 grpc grpc-status 16",
  },
  "no right": {
    navigation: "403 html",
    plain: "403 html",
    fetch: "403 json cors",
    preflight: "403 json",
    upgrade: "403 json",
    grpc: "403 grpc grpc-status 7",
  },
  "unknown, no lease": {
    navigation: "503 html retry-after",
    plain: "503 html retry-after",
    fetch: "503 json cors retry-after",
    preflight: "503 json retry-after",
    upgrade: "503 json retry-after",
    grpc: "503 grpc grpc-status 14 retry-after",
  },
  "unknown, behind": {
    navigation: "503 html retry-after",
    plain: "503 html retry-after",
    fetch: "503 json cors retry-after",
    preflight: "503 json retry-after",
    upgrade: "503 json retry-after",
    grpc: "503 grpc grpc-status 14 retry-after",
  },
};

describe("the response to each condition and kind of caller", () => {
  for (const [name, condition] of Object.entries(conditions) as [keyof typeof conditions, Condition][]) {
    for (const [kind, sent] of Object.entries(callers) as [RequestKind, Sent][]) {
      test(`${name}, ${kind}: ${matrix[name][kind]}`, () => {
        assert.equal(formatOf(sent).kind, kind);
        const answer = localReplyFor(condition, formatOf(sent), facts);
        assert.equal(summaryOf(answer), matrix[name][kind]);
        assert.equal(answer.headers["x-pomerium-intercepted-response"], "true");
        assert.equal(answer.headers["cache-control"], "no-store");
        assert.equal(answer.headers["x-request-id"], "request-1");
      });
    }
  }
});

describe("a caller that is not a browser is never redirected to sign-in", () => {
  const notRedirected: Readonly<Record<string, Sent>> = {
    "a session handle in Authorization": { headers: { ...browser, Authorization: "Pomerium abc" } },
    "a session handle as a bearer token": { headers: { ...browser, Authorization: "Bearer Pomerium-abc" } },
    "a session handle in its own header": { headers: { ...browser, "X-Pomerium-Authorization": "abc" } },
    "a session handle in the query": { url: "/?a&pomerium_session=abc", headers: browser },
    "a navigation with a handle in a header": {
      headers: { ...browser, "Sec-Fetch-Mode": "navigate", Authorization: "Pomerium abc" },
    },
    "Accept: application/json": { headers: { Accept: "application/json" } },
    "Accept: application/json, */*": { headers: { Accept: "application/json, */*" } },
    "Accept: text/plain": { headers: { Accept: "text/plain" } },
    "HTML with lower quality than JSON": { headers: { Accept: "text/html;q=0.5, application/json" } },
    kubectl: { headers: { "User-Agent": "kubectl/v1.30 (linux/amd64) kubernetes/abc", Accept: "*/*" } },
    "same-origin fetch": { headers: { ...browser, "Sec-Fetch-Mode": "same-origin" } },
    "no-cors image": { headers: { Accept: "image/*", "Sec-Fetch-Mode": "no-cors" } },
    "gRPC-Web": { headers: { ...browser, "Content-Type": "application/grpc-web+proto" } },
  };
  for (const [name, sent] of Object.entries(notRedirected)) {
    test(name, () => {
      const answer = localReplyFor(conditions["no session"], formatOf(sent), facts);
      assert.equal(answer.status, 401);
      assert.equal(answer.signIn, null);
    });
  }
  const mozilla = "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)";
  const anything = { Accept: "*/*" };
  const programs: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    "no headers at all": {},
    curl: { "User-Agent": "curl/8.14.1", ...anything },
    git: { "User-Agent": "git/2.47.3", ...anything },
    wget: { "User-Agent": "Wget/1.25.0", ...anything },
    "Python's requests": { "User-Agent": "python-requests/2.32", ...anything },
    Go: { "User-Agent": "Go-http-client/1.1" },
    "a program that accepts none of our formats": { Accept: "image/png" },
    "a program with a malformed Accept": { Accept: "nonsense" },
    "a program that wants text": { Accept: "text/plain" },
  };
  for (const [name, headers] of Object.entries(programs)) {
    test(`${name}: 401, with the way to sign in as text`, () => {
      const answer = localReplyFor(conditions["no session"], formatOf({ headers }), facts);
      assert.equal(summaryOf(answer), "401 text/plain");
      assert.equal(answer.headers["www-authenticate"], signInChallenge);
      assert.ok(answer.body.type === "text");
      assert.match(answer.body.text, /^Sign-in required: https:\/\/app\.example needs a credential/);
      assert.match(answer.body.text, /\$\(cardea token https:\/\/app\.example\)/);
    });
  }
  test("a program with a refused credential gets that reason; HEAD and POST get the same status as GET", () => {
    const headers = { "User-Agent": "git/2.47.3", ...anything, "X-Pomerium-Authorization": "abc" };
    for (const method of ["GET", "HEAD", "POST"]) {
      const answer = localReplyFor(conditions["no session"], formatOf({ method, headers }), facts);
      assert.equal(summaryOf(answer), "401 text/plain");
      assert.ok(answer.body.type === "text");
      assert.match(answer.body.text, /expired, was revoked, or belongs to another host/);
    }
  });
  const browsers: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    "one that accepts only HTML": { Accept: "text/html" },
    "one that prefers HTML": { Accept: "text/html;q=0.9, application/json;q=0.8" },
    "one that accepts XHTML": { Accept: "application/xhtml+xml, */*" },
    "an old one that accepts anything": { "User-Agent": mozilla, ...anything },
    "an old one without Accept": { "User-Agent": mozilla },
    "an old one that prefers images": { "User-Agent": mozilla, Accept: "image/gif, image/jpeg, */*" },
  };
  for (const [name, headers] of Object.entries(browsers)) {
    test(`a browser without Sec-Fetch-Mode, ${name}: sign-in`, () => {
      assert.equal(localReplyFor(conditions["no session"], formatOf({ headers }), facts).signIn, "redirect");
    });
  }
});

describe("formats", () => {
  test("CORS headers name an origin only if it belongs to a route", () => {
    const sent = { headers: { "Sec-Fetch-Mode": "cors", Origin: "https://evil.example" } };
    const answer = localReplyFor(conditions["no session"], formatOf(sent), facts);
    assert.equal(answer.headers["access-control-allow-origin"], undefined);
    const ownOrigin = localReplyFor(conditions["no session"], formatOf(callers.fetch), facts);
    assert.equal(ownOrigin.headers["access-control-allow-origin"], "https://spa.example");
    assert.equal(ownOrigin.headers["access-control-allow-credentials"], "true");
    assert.equal(ownOrigin.headers["vary"], "Origin");
  });
  test("a denial in JSON has Pomerium's fields", () => {
    const answer = localReplyFor(conditions["no right"], formatOf({ headers: { Accept: "application/json" } }), facts);
    assert.ok(answer.body.type === "text");
    assert.deepEqual(JSON.parse(answer.body.text), { error: "Access denied", request_id: "request-1" });
  });
  test("a script of a page gets the sign-in address; programs and signed-in callers do not", () => {
    const bodyOf = (condition: Condition, sent: Parameters<typeof formatOf>[0]): object => {
      const { body } = localReplyFor(condition, formatOf(sent), facts);
      assert.ok(body.type === "text");
      return JSON.parse(body.text) as object;
    };
    const unauthenticated = { error: "Unauthenticated", request_id: "request-1" };
    const signInAddress = { sign_in_url: new URL("/.pomerium/sign_in", facts.url ?? "").href };
    assert.deepEqual(bodyOf(conditions["no session"], callers.fetch), { ...unauthenticated, ...signInAddress });
    const program = { headers: { Accept: "application/json" } };
    assert.deepEqual(bodyOf(conditions["no session"], program), unauthenticated);
    assert.deepEqual(Object.keys(bodyOf(conditions["no right"], callers.fetch)), ["error", "request_id"]);
  });
  test("kubectl gets a Status object", () => {
    const sent = { headers: { "User-Agent": "kubectl kubernetes/1" } };
    const answer = localReplyFor(conditions["no right"], formatOf(sent), facts);
    assert.ok(answer.body.type === "text");
    const { kind, status, reason, code } = JSON.parse(answer.body.text);
    assert.deepEqual([kind, status, reason, code], ["Status", "Failure", "Forbidden", 403]);
  });
  test("robots.txt is 200 when the caller would be denied, and 503 when the decision is unknown", () => {
    const robots = formatOf({ url: "/robots.txt" });
    for (const condition of [conditions["no session"], conditions["no right"]]) {
      const answer = localReplyFor(condition, robots, facts);
      assert.equal(answer.status, 200);
      assert.ok(answer.body.type === "text" && answer.body.text === "User-agent: *\nDisallow: /\n");
    }
    assert.equal(localReplyFor(conditions["unknown, no lease"], robots, facts).status, 503);
  });
  test("the page of a denial names the user, the reason and the next step; the page of an unknown decision names no user", () => {
    const denied = localReplyFor(conditions["no right"], formatOf(callers.plain), facts).body;
    assert.ok(denied.type === "html" && denied.page.type === "error");
    assert.deepEqual(denied.page.user, facts.user);
    assert.deepEqual(denied.page.explain, facts.explain);
    assert.match(denied.page.signInUrl ?? "", /^\/\.pomerium\/sign_in\?pomerium_redirect_uri=https%3A%2F%2Fapp/);
    const unknown = localReplyFor(conditions["unknown, behind"], formatOf(callers.plain), facts).body;
    assert.ok(unknown.type === "html" && unknown.page.type === "error");
    assert.deepEqual([unknown.page.user, unknown.page.explain, unknown.page.retryUrl], [null, null, facts.url]);
  });
  for (const method of ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
    test(`${method} without a session is 401 with a page that explains how to send it again, never a redirect`, () => {
      for (const kind of ["navigation", "plain"] as const) {
        const answer = localReplyFor(conditions["no session"], formatOf({ ...callers[kind], method }), facts);
        assert.equal(summaryOf(answer), "401 html");
        assert.ok(answer.body.type === "html" && answer.body.page.type === "error");
        assert.equal(answer.body.page.unsent, true);
        assert.equal(answer.body.page.signInUrl, "/.pomerium/sign_in");
        assert.equal(answer.headers["www-authenticate"], signInChallenge);
      }
    });
  }
  test("HEAD without a session is redirected like GET", () => {
    const answer = localReplyFor(conditions["no session"], formatOf({ ...callers.navigation, method: "HEAD" }), facts);
    assert.equal(summaryOf(answer), matrix["no session"].navigation);
  });
  test("a browser that returned from sign-in too often gets a page, and may then try again", () => {
    const signInLoop = {
      sessionCookie: "missing",
      uncoveredBy: "example.org",
      setCookie: "_returns=; Max-Age=0",
    } as const;
    const answer = localReplyFor(conditions["no session"], formatOf(callers.navigation), { ...facts, signInLoop });
    assert.equal(summaryOf(answer), "401 html");
    assert.ok(answer.body.type === "html" && answer.body.page.type === "sign-in-loop");
    assert.equal(answer.body.page.uncoveredBy, "example.org");
    assert.equal(answer.headers["set-cookie"], signInLoop.setCookie);
    const script = localReplyFor(conditions["no session"], formatOf(callers.fetch), { ...facts, signInLoop });
    assert.equal(summaryOf(script), matrix["no session"].fetch);
  });
  test("every other condition has its status", () => {
    const statuses: readonly (readonly [Condition, number])[] = [
      [{ type: "no-route" }, 404],
      [{ type: "bad-request", status: 400 }, 400],
      [{ type: "bad-request", status: 431 }, 431],
      [{ type: "upgrade-not-allowed" }, 403],
      [{ type: "upstream-unreachable" }, 503],
      [{ type: "upstream-broke" }, 502],
      [{ type: "request-timeout" }, 408],
      [{ type: "upstream-timeout" }, 504],
      [{ type: "internal" }, 500],
      [{ type: "no-right", status: 450, reasons: ["device-unauthorized"] }, 450],
      [{ type: "no-right", status: 495, reasons: ["client-certificate-required"] }, 495],
    ];
    for (const [condition, status] of statuses) {
      assert.equal(localReplyFor(condition, formatOf({}), facts).status, status, condition.type);
    }
  });
  test("gRPC statuses are those of docs/pomerium-behaviour.md §6.7", () => {
    const table = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14, 500: 2, 450: 2 };
    for (const [status, code] of Object.entries(table)) assert.equal(grpcStatus(Number(status)), code);
  });
});

test("Accept: highest quality first, then the more specific range, then the order of the header", () => {
  const offers = ["text/html", "application/json"] as const;
  assert.equal(bestMatch("*/*", offers), "text/html");
  assert.equal(bestMatch("application/json, */*", offers), "application/json");
  assert.equal(bestMatch("text/html;q=0, */*", offers), "application/json");
  assert.equal(bestMatch("text/*;q=0.2, application/json;q=0.1", offers), "text/html");
  assert.equal(bestMatch("image/png", offers), undefined);
  assert.equal(bestMatch("text/html;q=2", offers), undefined);
});

test("405 lists the methods that are forwarded", () => {
  for (const caller of Object.values(callers)) {
    const { status, headers } = localReplyFor({ type: "bad-request", status: 405 }, formatOf(caller), facts);
    assert.deepEqual([status, headers["allow"]], [405, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]);
  }
  const { headers } = localReplyFor({ type: "bad-request", status: 400 }, formatOf({}), facts);
  assert.equal(headers["allow"], undefined);
});

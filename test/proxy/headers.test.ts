import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RouteConfig } from "../../src/config/index.ts";
import {
  buildDownstreamHeaders,
  compileResponseRules,
  trailerPairs,
} from "../../src/proxy/headers/downstream-headers.ts";
import {
  buildUpstreamHeaders,
  callerAddress,
  compileHeaderRules,
  forwardedTrailers,
  stripSessionQuery,
  type UpstreamIdentity,
} from "../../src/proxy/headers/upstream-headers.ts";
import { canonicaliseRequest } from "../../src/proxy/message/canonical-request.ts";
import { ownCookies } from "../../src/proxy/message/cookies.ts";
import { route } from "../auth/authorize/support.ts";

const config = {
  jwtClaimsHeaders: { "x-pomerium-claim-email": "email", "x-who": "name" },
  xffNumTrustedHops: 0,
  skipXffAppend: false,
};
const cookies = ownCookies("_pomerium");
/** A reference in a header template. */
const ref = (name: string): string => `\${${name}}`;
const identity: UpstreamIdentity = {
  assertion: "signed",
  claimHeaders: [
    ["x-pomerium-claim-email", "alice@example.com"],
    ["x-who", ""],
  ],
};

type Parts = Readonly<{
  sessionId?: string;
  url?: string;
  route?: Partial<RouteConfig>;
  config?: Partial<typeof config>;
  identity?: UpstreamIdentity | null;
}>;

function upstream(sent: readonly string[], parts: Parts = {}): readonly string[] {
  const rules = compileHeaderRules(
    route({ passIdentityHeaders: true, ...parts.route }),
    { ...config, ...parts.config },
    cookies,
  );
  const canonical = canonicaliseRequest({
    method: "GET",
    url: parts.url ?? "/",
    httpVersion: "1.1",
    rawHeaders: ["Host", "app.example", ...sent],
  });
  assert.ok(canonical.type === "canonical", JSON.stringify(canonical));
  return buildUpstreamHeaders(rules, {
    request: canonical.request,
    authority: "app.example",
    scheme: "https",
    peer: "192.0.2.1",
    upstreamHost: "upstream.internal:81",
    sessionId: parts.sessionId ?? null,
    identity: parts.identity === undefined ? identity : parts.identity,
  });
}

function values(lines: readonly string[], name: string): string[] {
  return lines.filter((_, i) => i % 2 === 1 && lines[i - 1]?.toLowerCase() === name);
}

describe("an identity header has the proxy's value, whatever the caller sends", () => {
  const spoofedNames = [
    "X-Pomerium-Claim-Email",
    "x-pomerium-claim-email",
    "X-POMERIUM-CLAIM-EMAIL",
    "X.Pomerium.Claim.Email",
    "X-PomeriumClaimEmail",
    "XPomerium-Claim-Email",
    "X-Pomerium--Claim-Email",
    "X-Who",
    "XWho",
    "X.Who",
  ];
  for (const name of spoofedNames) {
    test(name, () => {
      const lines = upstream([name, "mallory@example.com"]);
      assert.ok(!lines.includes("mallory@example.com"), lines.join("\n"));
      assert.deepEqual(values(lines, "x-pomerium-claim-email"), ["alice@example.com"]);
    });
  }
  test("a missing claim becomes an empty header, so no value of the caller's remains", () => {
    assert.deepEqual(values(upstream(["X-Who", "mallory"]), "x-who"), [""]);
  });
  test("without pass_identity_headers there is none, and the caller's is removed too", () => {
    const lines = upstream(["X-Pomerium-Claim-Email", "m", "X-Pomerium-Jwt-Assertion", "m"], {
      route: { passIdentityHeaders: false },
    });
    assert.ok(!lines.some((text) => /pomerium/i.test(text)), lines.join("\n"));
    assert.ok(!lines.includes("m"));
  });
  test("a caller's assertion is replaced by the proxy's; the original is forwarded as X-Pomerium-Jwt-Assertion-For", () => {
    const trustedHop = { config: { xffNumTrustedHops: 1 } };
    const lines = upstream(["X-Pomerium-Jwt-Assertion", "theirs"], trustedHop);
    assert.deepEqual(values(lines, "x-pomerium-jwt-assertion"), ["signed"]);
    assert.deepEqual(values(lines, "x-pomerium-jwt-assertion-for"), ["theirs"]);
    const claimed = ["X-Pomerium-Jwt-Assertion", "theirs", "X-Pomerium-Jwt-Assertion-For", "first"];
    assert.deepEqual(values(upstream(claimed, trustedHop), "x-pomerium-jwt-assertion-for"), ["first"]);
    assert.deepEqual(
      values(upstream(claimed), "x-pomerium-jwt-assertion-for"),
      [],
      "without a trusted proxy there is no -For header",
    );
  });
  test("every other header that a proxy would set is removed: Forwarded, X-Forwarded-*, X-Real-IP, X-Original-URL, Impersonate-*", () => {
    for (const name of [
      "Forwarded",
      "X-Forwarded-For",
      "X-Forwarded-Host",
      "X-Forwarded-Proto",
      "X-Forwarded-Uri",
      "X-Forwarded-User",
      "X-Real-IP",
      "X-Original-URL",
      "X-Rewrite-URL",
      "X-Envoy-External-Address",
      "X-Request-Id",
      "Impersonate-User",
    ]) {
      assert.ok(!upstream([name, "forged"]).includes("forged"), name);
    }
  });
  test("a name outside ASCII is sent as UTF-8, and no value can end its header line", () => {
    const lines = upstream([], {
      identity: { assertion: "a", claimHeaders: [["x-who", "Zoë\r\nX-Admin: 1"]] },
    });
    const [value = ""] = values(lines, "x-who");
    assert.equal(Buffer.from(value, "latin1").toString("utf8"), "Zoë  X-Admin: 1");
  });
});

describe("headers of the caller's connection are not forwarded", () => {
  test("hop-by-hop headers", () => {
    const sent = ["TE", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Upgrade", "HTTP2-Settings"];
    const lines = upstream(sent.flatMap((name) => [name, "gone"]));
    assert.ok(!lines.includes("gone"), lines.join("\n"));
  });
  test("headers that Connection names, removed before the proxy adds its own", () => {
    const lines = upstream([
      "Connection",
      "keep-alive, X-Pomerium-Claim-Email, x-pomerium-jwt-assertion, X-Own, X-Request-Id, X-Forwarded-For",
      "X-Own",
      "gone",
    ]);
    assert.ok(!lines.includes("gone"));
    assert.deepEqual(values(lines, "x-pomerium-claim-email"), ["alice@example.com"]);
    assert.deepEqual(values(lines, "x-pomerium-jwt-assertion"), ["signed"]);
    assert.deepEqual(values(lines, "x-forwarded-for"), ["192.0.2.1"]);
  });
  test("all other headers are kept, in order and byte for byte", () => {
    const lines = upstream(["Accept", "*/*", "X-Own", "1", "X-Own", "2", "Authorization", "Basic eA=="]);
    assert.deepEqual(lines.slice(2, 10), ["Accept", "*/*", "X-Own", "1", "X-Own", "2", "Authorization", "Basic eA=="]);
  });
});

describe("the session credential never reaches an upstream", () => {
  const cookieCases: readonly (readonly [string, string | undefined])[] = [
    ["a=1; _pomerium=x; b=2", "a=1; b=2"],
    ["_pomerium=x", undefined],
    ["_pomerium=x; _pomerium_nonce=y; __Host-_pomerium=z; __Secure-_pomerium_csrf=q", undefined],
    ["_Pomerium=x; a=1", "a=1"],
    [" _pomerium = x ; a=1", "a=1"],
    ["_pomeriumish=x; my_pomerium=y", "_pomeriumish=x; my_pomerium=y"],
    ["a=_pomerium=1", "a=_pomerium=1"],
    ["; _pomerium=x", undefined],
    [" a=1 ;_pomerium=x; b=2;", "a=1 ; b=2;"],
    ["_pomerium", undefined],
  ];
  for (const [sent, expected] of cookieCases) {
    test(`Cookie: ${sent}`, () =>
      assert.deepEqual(values(upstream(["Cookie", sent]), "cookie"), expected === undefined ? [] : [expected]));
  }
  for (const value of ["Pomerium abc", "pomerium abc", "Bearer Pomerium-abc", "bearer pomerium-abc"]) {
    test(`Authorization: ${value}`, () =>
      assert.deepEqual(values(upstream(["Authorization", value]), "authorization"), []));
  }
  test("X-Pomerium-Authorization", () => assert.ok(!upstream(["X-Pomerium-Authorization", "abc"]).includes("abc")));
  test("not even in a configured copy of a header", () => {
    const copies = {
      "X-C": ref('pomerium.request.headers["Cookie"]'),
      "X-A": ref('pomerium.request.headers["Authorization"]'),
      "X-P": ref('pomerium.request.headers["X-Pomerium-Authorization"]'),
    };
    const lines = upstream(
      ["Cookie", "_pomerium=secret; a=1", "Authorization", "Pomerium secret", "X-Pomerium-Authorization", "secret"],
      {
        route: { setRequestHeaders: copies },
      },
    );
    assert.ok(!lines.some((text) => text.includes("secret")), lines.join("\n"));
    assert.deepEqual(values(lines, "x-c"), ["a=1"]);
  });
  const queries: readonly (readonly [string, string])[] = [
    ["?pomerium_session=x", ""],
    ["?a=1&pomerium_session=x&b=%zz", "?a=1&b=%zz"],
    ["?pomerium%5Fsession=x&a", "?a"],
    ["?%70omerium_session=x", ""],
    ["?Pomerium_Session=x&a", "?a"],
    ["?a=1;pomerium_session=x;b=2&c", "?a=1;b=2&c"],
    ["?pomerium_session=x&pomerium_session=y&c", "?c"],
    ["?a=pomerium_session", "?a=pomerium_session"],
    ["?", "?"],
    ["", ""],
  ];
  for (const [sent, expected] of queries) test(`query ${sent}`, () => assert.equal(stripSessionQuery(sent), expected));
});

describe("configured request headers", () => {
  test("replace the caller's in any spelling, and expand their references", () => {
    const lines = upstream(["X-Key", "theirs", "x.key", "theirs"], {
      route: { setRequestHeaders: { "X-Key": "ours", "X-Jwt": `Bearer ${ref("pomerium.jwt")}`, "X-Price": "$$5" } },
    });
    assert.ok(!lines.includes("theirs"));
    assert.deepEqual(values(lines, "x-key"), ["ours"]);
    assert.deepEqual(values(lines, "x-jwt"), ["Bearer signed"]);
    assert.deepEqual(values(lines, "x-price"), ["$5"]);
  });
  test("take precedence over removal; removal applies to the caller's and to the proxy's", () => {
    const lines = upstream(["X-A", "1", "X-B", "2"], {
      route: { removeRequestHeaders: ["x-a", "X-B", "X-Forwarded-Host"], setRequestHeaders: { "X-B": "ours" } },
    });
    assert.deepEqual(
      [values(lines, "x-a"), values(lines, "x-b"), values(lines, "x-forwarded-host")],
      [[], ["ours"], []],
    );
  });
  test("are removed in any spelling that a server may take for theirs", () => {
    const lines = upstream(["X-Secret", "theirs", "x.secret", "theirs", "X-Other", "1"], {
      route: { removeRequestHeaders: ["X-Secret"] },
    });
    assert.ok(!lines.includes("theirs"));
    assert.deepEqual(values(lines, "x-other"), ["1"]);
  });
  const own = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Envoy-External-Address"];
  test("replace headers that the proxy sets itself", () => {
    const lines = upstream([], { route: { setRequestHeaders: Object.fromEntries(own.map((name) => [name, "set"])) } });
    for (const name of own) assert.deepEqual(values(lines, name.toLowerCase()), ["set"], name);
  });
  test("can remove even the identity headers", () => {
    const lines = upstream(["X-Pomerium-Claim-Email", "mallory"], {
      route: { removeRequestHeaders: ["X-Pomerium-Jwt-Assertion", "X-Pomerium-Claim-Email"] },
    });
    assert.ok(!lines.includes("signed") && !lines.includes("mallory") && !lines.includes("alice@example.com"));
    assert.deepEqual(values(lines, "x-who"), [""]);
  });
});

test("a trailer is forwarded if a header would be, unless the head has that name or the field affects decisions", () => {
  const passing = ["X-Sum", "1", "Server-Timing", "2"];
  const not = [
    "X-Pomerium-Claim-Email",
    "X-Forwarded-For",
    "Cookie",
    "Authorization",
    "Host",
    "Content-Length",
    "If-Match",
  ]
    .concat(["Transfer-Encoding", "X-Here", "X-Own", "X-Removed", "X_Sum", "Sec-Fetch-Mode", "Expect", "X-Hop"])
    .flatMap((name) => [name, "mallory"]);
  const rules = compileHeaderRules(
    route({ setRequestHeaders: { "X-Own": "ours" }, removeRequestHeaders: ["x-removed"] }),
    config,
    cookies,
  );
  const headers = { "x-here": "", connection: "x-hop" };
  assert.deepEqual(forwardedTrailers(rules, { headers }, [...passing, ...not]), passing);
});

test("announced trailers pass up to a length that all lines of a request share", () => {
  const announced = (count: number): readonly string[] =>
    values(upstream(Array.from({ length: count }, () => ["Trailer", "X-Sum"]).flat(), {}), "trailer");
  assert.deepEqual(announced(2), ["X-Sum", "X-Sum"]);
  assert.deepEqual(announced(200), []);
});

describe("Host", () => {
  const hostOf = (parts: Partial<RouteConfig>, sent: readonly string[] = [], url = "/") => {
    const lines = upstream(sent, { route: parts, url });
    return [values(lines, "host"), values(lines, "x-forwarded-host")];
  };
  test("is the upstream's own by default, and X-Forwarded-Host has the original", () => {
    assert.deepEqual(hostOf({}), [["upstream.internal:81"], ["app.example"]]);
  });
  test("is the caller's with preserve_host_header", () => {
    assert.deepEqual(hostOf({ preserveHostHeader: true }), [["app.example"], []]);
  });
  test("is the value of host_rewrite", () => assert.deepEqual(hostOf({ hostRewrite: "h.example" })[0], ["h.example"]));
  test("is a header's value only if that is a valid host", () => {
    assert.deepEqual(hostOf({ hostRewriteHeader: "x-to" }, ["X-To", "h.example"])[0], ["h.example"]);
    assert.deepEqual(hostOf({ hostRewriteHeader: "x-to" }, ["X-To", "h/../x"])[0], ["upstream.internal:81"]);
  });
  test("is derived from the path if that gives a valid host, and is the upstream's own otherwise", () => {
    const hostPathRegexRewrite = { pattern: "^/(.+)/.+$", substitution: "\\1.example" };
    assert.deepEqual(hostOf({ hostPathRegexRewrite }, [], "/envoy/x?y=/a/b"), [["envoy.example"], ["app.example"]]);
    assert.deepEqual(hostOf({ hostPathRegexRewrite }, [], "/a/b/c")[0], ["upstream.internal:81"]);
    assert.deepEqual(hostOf({ hostPathRegexRewrite }, [], "/x")[0], ["upstream.internal:81"]);
  });
});

describe("X-Forwarded-For", () => {
  const forwarded = (sent: string, parts: Partial<typeof config>) =>
    values(upstream(["X-Forwarded-For", sent], { config: parts }), "x-forwarded-for");
  test("contains only the peer if no proxy is trusted", () =>
    assert.deepEqual(forwarded("1.1.1.1", {}), ["192.0.2.1"]));
  test("keeps as many entries as there are trusted proxies", () => {
    assert.deepEqual(forwarded("6.6.6.6, 1.1.1.1, 2.2.2.2", { xffNumTrustedHops: 2 }), ["1.1.1.1, 2.2.2.2, 192.0.2.1"]);
  });
  test("is unchanged with skip_xff_append", () => {
    assert.deepEqual(forwarded("6.6.6.6, 1.1.1.1", { xffNumTrustedHops: 1, skipXffAppend: true }), ["1.1.1.1"]);
    assert.deepEqual(forwarded("6.6.6.6", { skipXffAppend: true }), []);
  });
  test("comes with X-Envoy-External-Address, the caller's address by the same count, never the caller's own claim", () => {
    const addressOf = (sent: readonly string[], parts: Parts = {}) =>
      values(upstream(sent, parts), "x-envoy-external-address");
    const chain = ["X-Forwarded-For", "6.6.6.6, 1.1.1.1, 2.2.2.2"];
    assert.deepEqual(addressOf([]), ["192.0.2.1"]);
    assert.deepEqual(addressOf([...chain, "X-Envoy-External-Address", "6.6.6.6"]), ["192.0.2.1"]);
    assert.deepEqual(addressOf(chain, { config: { xffNumTrustedHops: 2 } }), ["1.1.1.1"]);
    assert.deepEqual(addressOf(chain, { config: { xffNumTrustedHops: 2, skipXffAppend: true } }), ["1.1.1.1"]);
    assert.deepEqual(addressOf(["X-Forwarded-For", "6.6.6.6"], { config: { xffNumTrustedHops: 2 } }), ["192.0.2.1"]);
    assert.deepEqual(addressOf(["Connection", "X-Envoy-External-Address"]), ["192.0.2.1"]);
    assert.deepEqual(addressOf([], { route: { removeRequestHeaders: ["X-Envoy-External-Address"] } }), []);
  });
  test("yields the caller's address only as far as proxies are trusted", () => {
    assert.equal(callerAddress("1.1.1.1", "192.0.2.1", 0), "192.0.2.1");
    assert.equal(callerAddress("6.6.6.6, 1.1.1.1", "192.0.2.1", 1), "1.1.1.1");
    assert.equal(callerAddress("1.1.1.1", "192.0.2.1", 2), "192.0.2.1");
    assert.equal(callerAddress("<script>", "192.0.2.1", 1), "192.0.2.1");
    assert.equal(callerAddress(undefined, "192.0.2.1", 1), "192.0.2.1");
  });
});

describe("response headers", () => {
  const rules = compileResponseRules(
    route({ setResponseHeaders: { "X-Frame-Options": "SAMEORIGIN", "X-Added": "1" } }),
    cookies,
  );
  const back = (raw: readonly string[]) => buildDownstreamHeaders(rules, raw);
  test("lose hop-by-hop headers and those that Connection names", () => {
    const lines = back([
      "Connection",
      "close, X-Hop",
      "X-Hop",
      "gone",
      "Keep-Alive",
      "gone",
      "Transfer-Encoding",
      "chunked",
      "X-Stay",
      "1",
    ]);
    assert.deepEqual(lines.slice(0, 2), ["X-Stay", "1"]);
    assert.ok(!lines.includes("gone") && !lines.includes("chunked"));
  });
  test("are replaced by configured headers of the same name", () => {
    const lines = back(["x-frame-options", "DENY"]);
    assert.deepEqual(values(lines, "x-frame-options"), ["SAMEORIGIN"]);
    assert.deepEqual(values(lines, "x-added"), ["1"]);
  });
  test("have prefixes of their values rewritten, line by line, and only prefixes", () => {
    const rewrites = compileResponseRules(
      route({
        rewriteResponseHeaders: [
          { header: "location", prefix: "http://inside:8000/two/", value: "https://two.example/" },
          { header: "link", prefix: "<http://inside", value: "<https://out" },
          { header: "set-cookie", prefix: "theirs", value: "_pomerium" },
        ],
      }),
      cookies,
    );
    const sent = [
      "LOCATION",
      "http://inside:8000/two/a?to=http://inside:8000/two/",
      "Location",
      "/http://inside:8000/two/",
    ];
    const lines = buildDownstreamHeaders(rewrites, [
      ...sent,
      "Link",
      "<http://inside/a>",
      "Link",
      "<http://other/b>",
      "Set-Cookie",
      "theirs=1",
      "X-Location",
      "http://inside:8000/two/",
    ]);
    assert.deepEqual(values(lines, "location"), [
      "https://two.example/a?to=http://inside:8000/two/",
      "/http://inside:8000/two/",
    ]);
    assert.deepEqual(values(lines, "link"), ["<https://out/a>", "<http://other/b>"]);
    assert.deepEqual(values(lines, "set-cookie"), [], "a rewrite cannot create a session cookie either");
    assert.deepEqual(values(lines, "x-location"), ["http://inside:8000/two/"]);
  });
  test("never set a session cookie or a header that only the proxy may set", () => {
    const lines = back([
      "Set-Cookie",
      "_pomerium=evil",
      "Set-Cookie",
      "_POMERIUM_nonce=evil; Path=/",
      "Set-Cookie",
      "a=1",
      "X-Pomerium-Intercepted-Response",
      "true",
      "X-Request-Id",
      "theirs",
    ]);
    assert.deepEqual(values(lines, "set-cookie"), ["a=1"]);
    assert.deepEqual(values(lines, "x-pomerium-intercepted-response"), []);
  });
  test("of trailers lose framing fields, cookies and headers that only the proxy may set", () => {
    assert.deepEqual(
      trailerPairs(rules, ["Grpc-Status", "0", "Set-Cookie", "a=1", "Content-Length", "1", "X-Added", "2"]),
      [["Grpc-Status", "0"]],
    );
  });
});

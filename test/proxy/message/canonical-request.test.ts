import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { canonicaliseRequest, parseHost } from "../../../src/proxy/message/canonical-request.ts";
import { fc } from "../../support/property.ts";

const head = (url: string, headers: readonly string[] = ["Host", "app.example"]) =>
  canonicaliseRequest({ method: "GET", url, httpVersion: "1.1", rawHeaders: headers });

function reason(url: string, headers?: readonly string[]): string {
  const result = head(url, headers);
  return result.type === "refused" ? result.reason : `accepted as ${result.request.rawPath}`;
}

describe("a path with two readings is refused", () => {
  const refused: Readonly<Record<string, string>> = {
    "http://app.example/": "target-form",
    "*": "target-form",
    "": "target-form",
    "app.example:443": "target-form",
    "/a%2fb": "encoded-separator",
    "/a%2Fb": "encoded-separator",
    "/a%5cb": "encoded-separator",
    "/a\\b": "backslash",
    "/a%00": "encoded-control-character",
    "/a%0d%0ab": "encoded-control-character",
    "/a%7f": "encoded-control-character",
    "/a%": "percent-encoding",
    "/a%4": "percent-encoding",
    "/a%zz": "percent-encoding",
    "/a%u0041": "percent-encoding",
    "/a#b": "character",
    "/a b": "character",
    "/é": "character",
    "/../a": "dot-segment",
    "/a/..": "dot-segment",
    "/a/./b": "dot-segment",
    "/%2e%2e/a": "dot-segment",
    "/%2E./a": "dot-segment",
    "/.%2e/a": "dot-segment",
    "/a/..;x/b": "dot-segment",
    "/a/..%3bx/b": "dot-segment",
    "/a/.//b": "dot-segment",
    "/a%c0%afb": "not-utf-8",
    "/a%e9": "not-utf-8",
  };
  for (const [url, expectedReason] of Object.entries(refused)) {
    test(`${JSON.stringify(url)}: ${expectedReason}`, () => assert.equal(reason(url), expectedReason));
  }
  test("a target that is too long: 414", () => {
    const result = head(`/${"a".repeat(40_000)}`);
    assert.equal(result.type === "refused" && result.status, 414);
  });
});

describe("a path has one canonical form, which is routed, decided and forwarded", () => {
  const forms: readonly (readonly [url: string, rawPath: string, path: string])[] = [
    ["/", "/", "/"],
    ["/a/b", "/a/b", "/a/b"],
    ["//a///b/", "/a/b/", "/a/b/"],
    ["/%61%62", "/ab", "/ab"],
    ["/file%2Etxt", "/file.txt", "/file.txt"],
    ["/...", "/...", "/..."],
    ["/a..b", "/a..b", "/a..b"],
    ["/.well-known/x", "/.well-known/x", "/.well-known/x"],
    ["/caf%c3%a9", "/caf%C3%A9", "/café"],
    ["/a%20b", "/a%20b", "/a b"],
    ["/a|b[1]", "/a%7Cb%5B1%5D", "/a|b[1]"],
    ["/%40scope", "/%40scope", "/@scope"],
    ["/a;b=1", "/a;b=1", "/a;b=1"],
    ["/%252e%252e/", "/%252e%252e/", "/%2e%2e/"],
  ];
  for (const [url, rawPath, path] of forms) {
    test(`${url} → ${rawPath}`, () => {
      const result = head(`${url}?q=%zz&r`);
      assert.ok(result.type === "canonical");
      assert.deepEqual(
        [result.request.rawPath, result.request.path, result.request.search],
        [rawPath, path, "?q=%zz&r"],
      );
    });
  }

  test("canonicalization is idempotent, and no decoded form hides a separator or a dot segment", () => {
    const piece = fc.oneof(
      fc.constantFrom(
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E",
        "%2f",
        "%61",
        "%41",
        "a",
        ";",
        "%3b",
        "%25",
        "\\",
        "|",
        "%c3%a9",
      ),
      fc.string({ maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const result = head(`/${pieces.join("")}`);
        if (result.type === "refused") return;
        const { rawPath, path, search } = result.request;
        const again = head(rawPath + search);
        assert.ok(again.type === "canonical");
        assert.equal(again.request.rawPath, rawPath);
        assert.equal(decodeURIComponent(rawPath), path);
        assert.doesNotMatch(path, /\/\/|\\|\/\.{1,2}(\/|$)/);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: that none is there is the point
        assert.doesNotMatch(path, /[\u0000-\u001f\u007f]/);
        assert.match(rawPath, /^\/[!-~]*$/);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("headers", () => {
  const refused: readonly (readonly [readonly string[], string])[] = [
    [["Host", "a", "Host", "a"], "two-lines-of-host"],
    [["Host", "a", "HOST", "b"], "two-lines-of-host"],
    [[], "host"],
    [["Host", "a", "X_Y", "1"], "underscore-in-header-name"],
    [["Host", "a", "X-Pomerium_Claim-Email", "1"], "underscore-in-header-name"],
    [["Host", "a", "Authorization", "x", "authorization", "y"], "two-lines-of-authorization"],
    [["Host", "a", "Content-Length", "1", "Content-Length", "1"], "two-lines-of-content-length"],
    [["Host", "a", "Transfer-Encoding", "gzip, chunked"], "transfer-encoding"],
    [["Host", "a", "Transfer-Encoding", "chunked", "Content-Length", "1"], "two-lengths"],
  ];
  for (const [raw, expectedReason] of refused)
    test(`${JSON.stringify(raw)}: ${expectedReason}`, () => assert.equal(reason("/", raw), expectedReason));

  test("more than 1,000 lines: 431", () => {
    const raw = ["Host", "a", ...Array.from({ length: 1_000 }, (_, i) => [`X-${i}`, ""]).flat()];
    const result = head("/", raw);
    assert.equal(result.type === "refused" && result.status, 431);
  });
  test("lines of one name are joined, and cookies are joined by semicolons", () => {
    const result = head("/", ["Host", "a", "X-A", "1", "x-a", "2", "Cookie", "a=1", "Cookie", "b=2"]);
    assert.ok(result.type === "canonical");
    assert.equal(result.request.headers["x-a"], "1, 2");
    assert.equal(result.request.headers["cookie"], "a=1; b=2");
  });
  test("a header named like a property of every object is just a header", () => {
    const result = head("/", ["Host", "a", "__proto__", "x"]);
    assert.equal(result.type === "refused" && result.reason, "underscore-in-header-name");
    const named = head("/", ["Host", "a", "constructor", "x"]);
    assert.ok(named.type === "canonical" && named.request.headers["constructor"] === "x");
  });
  test("a name is read in the same way each time, whatever names came between", () => {
    for (let i = 0; i < 2_000; i++) {
      const refused = head("/", ["Host", "a", "X_Forwarded_For", "x"]);
      assert.equal(refused.type === "refused" && refused.reason, "underscore-in-header-name");
      const two = head("/", ["Host", "a", "ORIGIN", "http://a", "origin", "http://a"]);
      assert.equal(two.type === "refused" && two.reason, "two-lines-of-origin");
      const read = head("/", [
        "Host",
        `h${i % 700}.example:80${i % 10}`,
        `X-Name-${i}`,
        "1",
        `x-name-${i}`,
        "2",
        "7",
        "3",
      ]);
      assert.ok(read.type === "canonical");
      assert.equal(read.request.hostname, `h${i % 700}.example`);
      assert.equal(read.request.port, 800 + (i % 10));
      assert.deepEqual(
        { ...read.request.headers },
        {
          host: `h${i % 700}.example:80${i % 10}`,
          [`x-name-${i}`]: "1, 2",
          "7": "3",
        },
      );
    }
  });
  test("TRACE would echo credentials: 405", () => {
    const result = canonicaliseRequest({ method: "TRACE", url: "/", httpVersion: "1.1", rawHeaders: ["Host", "a"] });
    assert.equal(result.type === "refused" && result.status, 405);
  });
});

describe("an absolute-form target repeats the connection and the Host header, or is refused", () => {
  const read = (scheme: "http" | "https" | undefined, url: string, host: string, httpVersion = "1.1") => {
    const actual = { method: "GET", url, httpVersion, rawHeaders: ["Host", host] };
    const result = canonicaliseRequest(scheme === undefined ? actual : { ...actual, scheme });
    return result.type === "canonical" ? result.request.rawPath + result.request.search : result.reason;
  };
  const rows: readonly (readonly [...Parameters<typeof read>, string])[] = [
    ["http", "http://app.example/a?b", "app.example", "1.1", "/a?b"],
    ["https", "HTTPS://APP.example:443/a", "app.example", "1.1", "/a"],
    ["http", "http://[::1]/a", "[::1]:80", "1.1", "/a"],
    ["http", "http://app.example:443/a", "app.example", "1.1", "target-form"],
    ["http", "https://app.example/a", "app.example", "1.1", "target-form"],
    ["http", "http://other.example/a", "app.example", "1.1", "target-form"],
    ["http", "http://app.example/a/..", "app.example", "1.1", "dot-segment"],
    ["http", "http://app.example/a", "app.example", "1.0", "target-form"],
    ["https", "https://app.example/a", "app.example", "2", "target-form"],
    [undefined, "http://app.example/a", "app.example", "1.1", "target-form"],
  ];
  for (const [scheme, url, host, version, expected] of rows)
    test(`${url} of ${scheme ?? "no connection"}, Host ${host}, HTTP/${version}: ${expected}`, () =>
      assert.equal(read(scheme, url, host, version), expected));
});

describe("CONNECT names a host and a port, the same in the Host header, and has no body", () => {
  const connect = (url: string, ...rawHeaders: string[]) =>
    canonicaliseRequest({ method: "CONNECT", url, httpVersion: "1.1", rawHeaders });
  test("the target names the destination", () => {
    const result = connect("DB.example:5432", "Host", "db.example:5432", "Authorization", "Pomerium x");
    assert.ok(result.type === "canonical");
    const { hostname, port, path, search } = result.request;
    assert.deepEqual({ hostname, port, path, search }, { hostname: "db.example", port: 5432, path: "", search: "" });
  });
  const bad: readonly (readonly [string, string, ...string[]])[] = [
    ["connect-target", "db.example", "Host", "db.example"],
    ["connect-target", "/", "Host", "db.example:5432"],
    ["connect-target", "http://db.example:5432/", "Host", "db.example:5432"],
    ["connect-target", "me@db.example:5432", "Host", "db.example:5432"],
    ["connect-target", "db.example:0", "Host", "db.example:5432"],
    ["connect-target", "db.example:65536", "Host", "db.example:5432"],
    ["connect-target", "db.example:5432/x", "Host", "db.example:5432"],
    ["connect-host", "db.example:5432", "Host", "db.example"],
    ["connect-host", "db.example:5432", "Host", "db.example:22"],
    ["connect-host", "db.example:5432", "Host", "other.example:5432"],
    ["connect-body", "db.example:5432", "Host", "db.example:5432", "Content-Length", "1"],
    ["connect-body", "db.example:5432", "Host", "db.example:5432", "Transfer-Encoding", "chunked"],
    ["host", "db.example:5432"],
  ];
  for (const [reason, url, ...headers] of bad)
    test(`${url} ${headers.join(" ")}: ${reason}`, () => {
      const result = connect(url, ...headers);
      assert.equal(result.type === "refused" && result.reason, reason);
    });
});

describe("the Host header", () => {
  const good: Readonly<Record<string, readonly [string, number | null]>> = {
    "app.example": ["app.example", null],
    "APP.Example:8443": ["app.example", 8_443],
    "127.0.0.1:80": ["127.0.0.1", 80],
    "[::1]": ["[::1]", null],
    "[::1]:8080": ["[::1]", 8_080],
  };
  for (const [value, [hostname, port]] of Object.entries(good)) {
    test(value, () => assert.deepEqual(parseHost(value), { hostname, port }));
  }
  for (const value of [
    "",
    "user@app.example",
    "user:pass@app.example",
    "app.example:",
    "app.example:0",
    "app.example:65536",
    "app.example:8a",
    "app.example:80:80",
    "app.example/x",
    "app.example?x",
    "app.example#x",
    "app.example, b.example",
    "app .example",
    "app.example.",
    ".example",
    "a..b",
    "-a.example",
    "[::1",
    "[zz]",
    "é.example",
    `${"a".repeat(254)}`,
  ]) {
    test(`${JSON.stringify(value.slice(0, 40))} is refused`, () => assert.equal(parseHost(value), undefined));
  }
});

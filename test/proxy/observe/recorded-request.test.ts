/** What a decision record shows of a request: only what the route names, bounded, and never a redacted segment. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RecordedFields } from "../../../src/config/index.ts";
import { recordRulesOf, redacted, traceIdIn } from "../../../src/proxy/observe/recorded-request.ts";
import { fc } from "../../support/property.ts";

const rulesOf = (more: Partial<RecordedFields> = {}) =>
  recordRulesOf({ query: [], headers: ["user-agent"], redactPath: [], ...more });

describe("by default", () => {
  test("the path and the user agent are shown, and neither query nor other headers", () => {
    const rules = rulesOf();
    assert.equal(rules.path("/reports/7"), "/reports/7");
    assert.equal(rules.query("?token=secret&page=2"), undefined);
    const headers = { "user-agent": "curl/8", authorization: "Bearer secret", "x-api-key": "secret" };
    assert.equal(rules.userAgent(headers), "curl/8");
    assert.equal(rules.headers(headers), undefined);
  });

  test("a route may leave out the user agent too", () => {
    assert.equal(rulesOf({ headers: [] }).userAgent({ "user-agent": "curl/8" }), undefined);
  });
});

describe("the query", () => {
  const rules = rulesOf({ query: ["page", "q"] });

  test("only the named parameters are shown, as they were sent", () => {
    assert.equal(rules.query("?page=2&token=secret&q=a%20b&page=3"), "page=2&q=a%20b&page=3");
    assert.equal(rules.query("?token=secret"), undefined);
    assert.equal(rules.query("?"), undefined);
    assert.equal(rules.query(""), undefined);
    assert.equal(rules.query("?page"), "page");
  });

  test("a name in another spelling is another parameter", () => {
    assert.equal(rules.query("?Page=2&%70age=3&pages=4&=page"), undefined);
  });

  test("a second parameter behind a semicolon is not shown", () => {
    assert.equal(rules.query("?page=2;token=secret&q=x"), `page=${redacted}&q=x`);
  });

  test("Cardea's own parameters are never shown, even if the route names them", () => {
    const all = rulesOf({ query: ["pomerium_session_token", "POMERIUM_JWT", "page"] });
    assert.equal(all.query("?pomerium_session_token=secret&POMERIUM_JWT=secret&page=1"), "page=1");
  });

  test("a long query is cut, and says so", () => {
    const shown = rules.query(`?q=${"x".repeat(30_000)}`) ?? "";
    assert.match(shown, /^q=x{1022}…\(\+28978\)$/);
  });
});

describe("headers", () => {
  test("credentials are never shown, even if the route names them", () => {
    const names = ["authorization", "cookie", "x-pomerium-jwt-assertion", "proxy-authorization", "x-team"];
    const headers = Object.fromEntries(names.map((name) => [name, `value of ${name}`]));
    assert.deepEqual(rulesOf({ headers: names }).headers(headers), { "x-team": "value of x-team" });
  });

  test("a referrer is shown without its query, which may hold a token", () => {
    const rules = rulesOf({ headers: ["referer"] });
    assert.deepEqual(rules.headers({ referer: "https://app.example.com/a?token=secret#secret" }), {
      referer: "https://app.example.com/a",
    });
  });

  test("a user agent of 64 KB, with control characters and bytes that are no UTF-8, is short and harmless", () => {
    const sent = `\u001b[31m\u009b2J\u0007bad\u00ff\u00fe${"A".repeat(65_536)}`;
    const shown = rulesOf().userAgent({ "user-agent": sent }) ?? "";
    assert.ok(shown.length < 300, `${shown.length} characters`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: there must be none
    assert.doesNotMatch(shown, /[\u0000-\u001f\u007f-\u009f]/);
    assert.match(shown, /^\u{fffd}\[31m\u{fffd}2J\u{fffd}badÿþA+…\(\+\d+\)$/u);
    assert.equal(JSON.parse(JSON.stringify(shown)), shown);
  });

  test("half of a surrogate pair is replaced", () => {
    assert.equal(rulesOf().userAgent({ "user-agent": "a\ud800b" }), "a\u{fffd}b");
  });
});

describe("the path", () => {
  const rules = rulesOf({ redactPath: ["/reset/*/confirm", "/users/*", "/files/**", "/v1/*/keys/*"] });

  test("segments that a pattern covers are replaced, the others are not", () => {
    const shown: readonly (readonly [string, string])[] = [
      ["/reset/abc123/confirm", `/reset/${redacted}/confirm`],
      ["/users/42", `/users/${redacted}`],
      ["/users/42/mail", `/users/${redacted}/mail`],
      ["/files/a/b/c.txt", `/files/${redacted}/${redacted}/${redacted}`],
      ["/v1/team/keys/secret/x", `/v1/${redacted}/keys/${redacted}/x`],
      ["/other/42", "/other/42"],
      ["/users", "/users"],
      ["/users/", "/users/"],
      ["/", "/"],
      ["", ""],
    ];
    for (const [path, expected] of shown) assert.equal(rules.path(path), expected, path);
  });

  test("another spelling of the path hides nothing from a pattern", () => {
    for (const path of ["/USERS/secret", "/users;v=1/secret", "/%75sers/secret", "/users%2Fsecret", "/users%5csecret"])
      assert.ok(!rules.path(path).includes("secret"), `${path} → ${rules.path(path)}`);
  });

  test("a segment that cannot be decoded counts as covered", () => {
    assert.equal(rules.path("/%ff/secret"), `/${redacted}/${redacted}`);
  });

  test("a path that stops within a pattern is covered as far as it goes", () => {
    assert.equal(rules.path("/v1/secret"), `/v1/${redacted}`);
  });

  test("what follows the first segment of a covered path is never shown, whatever it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 40 }), (text) => {
        const secret = `s3cr3t${encodeURIComponent(text.toWellFormed())}`;
        assert.ok(!rules.path(`/files/${secret}`).includes("s3cr3t"));
        assert.ok(!rules.path(`/files/a/${secret}/b`).includes("s3cr3t"));
      }),
    );
  });

  test("however often a server may decode it, a covered segment is not shown", () => {
    for (const reset of ["%72eset", "%2572eset", "%252572eset", "reset%3bv=1", "reset%253Bv=1"])
      assert.equal(rules.path(`/${reset}/secret/confirm`), `/${reset}/${redacted}/confirm`);
    for (const separator of ["%2f", "%252F", "%25255c"])
      assert.equal(rules.path(`/reset${separator}secret/confirm`), `/reset${separator}${redacted}/confirm`);
    assert.equal(rules.path("/100%25/x"), "/100%25/x", "a percent sign that was meant");
    const deep = `%${"25".repeat(30_000)}41`;
    assert.ok(!rules.path(`/${deep}/secret`).includes("secret"), "more encodings than are read");
  });

  test("a long path is redacted before it is cut", () => {
    const shown = rules.path(`/users/${"s".repeat(5_000)}/${"p".repeat(5_000)}`);
    assert.ok(shown.startsWith(`/users/${redacted}/ppp`) && shown.length < 2_100);
  });
});

test("where paths are redacted, the referer is shown without its path", () => {
  const rules = rulesOf({ headers: ["referer"], redactPath: ["/reset/*"] });
  const shown = (referer: string) => rules.headers({ referer })?.["referer"];
  assert.equal(shown("https://user:pass@app.example.com:8443/reset/secret?q=1"), "https://app.example.com:8443");
  for (const odd of ["/reset/secret", "data:text/html,secret", "secret", ""]) assert.equal(shown(odd), redacted, odd);
  assert.equal(
    rulesOf({ headers: ["referer"] }).headers({ referer: "https://a.example/b?q=1" })?.["referer"],
    "https://a.example/b",
  );
});

test("the trace id is that of a valid traceparent alone", () => {
  const id = "4bf92f3577b34da6a3ce929d0e0e4736";
  assert.equal(traceIdIn({ headers: { traceparent: `00-${id}-00f067aa0ba902b7-01` } }), id);
  for (const sent of ["", "00-zz", `00-${"0".repeat(32)}-00f067aa0ba902b7-01`, `ff-${id}-00f067aa0ba902b7-01`])
    assert.equal(traceIdIn({ headers: { traceparent: sent } }), undefined);
  assert.equal(traceIdIn({ headers: {} }), undefined);
});

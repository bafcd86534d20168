import assert from "node:assert/strict";
import { describe, suite, test } from "node:test";
import type { RouteConfig } from "../../../src/config/index.ts";
import { compileRewrite, withSearch } from "../../../src/proxy/headers/rewrite.ts";
import { compileRouteAnswer } from "../../../src/proxy/routing/redirects.ts";
import { compileRouteTable, matchesWildcard, type RouteTable } from "../../../src/proxy/routing/route-table.ts";
import { route } from "../../auth/authorize/support.ts";

const to = (id: string, parts: Partial<RouteConfig> = {}): RouteConfig => route({ id, ...parts });
const prefix = (value: string): Partial<RouteConfig> => ({ match: { kind: "prefix", value } });

function matched(routes: readonly RouteConfig[], hostname: string, path = "/", port: number | null = null) {
  return compileRouteTable(routes).match({ hostname, port, path })?.id;
}

describe("the first matching route is used", () => {
  test("in file order, even if a later one is longer", () => {
    assert.equal(matched([to("a", prefix("/")), to("b", prefix("/x"))], "app.example", "/x"), "a");
    assert.equal(matched([to("b", prefix("/x")), to("a", prefix("/"))], "app.example", "/x"), "b");
  });
  test("an unknown host, and a path that no route of the host matches, have none", () => {
    assert.equal(matched([to("a")], "other.example"), undefined);
    assert.equal(matched([to("a", prefix("/x"))], "app.example", "/y"), undefined);
  });
  test("an exact host takes precedence over an earlier wildcard, and never falls back to it", () => {
    const wild = to("wild", { host: "*.example" });
    assert.equal(matched([wild, to("exact")], "app.example"), "exact");
    assert.equal(matched([wild, to("exact", prefix("/x"))], "app.example", "/y"), undefined);
    assert.equal(matched([wild, to("exact")], "other.example"), "wild");
  });
  test("a route with a port takes precedence over one without, and matches only that port", () => {
    const any = to("any");
    const at8443 = to("at", { from: new URL("https://app.example:8443"), port: 8_443 });
    assert.equal(matched([any, at8443], "app.example", "/", 8_443), "at");
    assert.equal(matched([any, at8443], "app.example", "/", 9_000), "any");
    assert.equal(matched([at8443], "app.example", "/", 443), undefined);
    assert.equal(matched([to("443", { port: 443 })], "app.example", "/", null), "443");
  });
});

describe("matchers", () => {
  test("a prefix is literal text", () => {
    const routes = [to("a", prefix("/foo"))];
    for (const path of ["/foo", "/foo/", "/foo/bar", "/foobar"])
      assert.equal(matched(routes, "app.example", path), "a");
    assert.equal(matched(routes, "app.example", "/fo"), undefined);
  });
  test("a path matches the whole path", () => {
    const routes = [to("a", { match: { kind: "path", value: "/foo" } })];
    assert.equal(matched(routes, "app.example", "/foo"), "a");
    assert.equal(matched(routes, "app.example", "/foo/"), undefined);
  });
  test("a regular expression must match the whole path", () => {
    const routes = [to("a", { match: { kind: "regex", value: "/a[0-9]+" } })];
    assert.equal(matched(routes, "app.example", "/a12"), "a");
    assert.equal(matched(routes, "app.example", "/a12/x"), undefined);
    assert.equal(matched(routes, "app.example", "/x/a12"), undefined);
  });
  test("a configured path may be percent-encoded", () => {
    assert.equal(matched([to("a", prefix("/a%20b"))], "app.example", "/a b/c"), "a");
  });
});

describe("a path that would match another route without its parameters is ambiguous", () => {
  const routes = compileRouteTable([
    to("admin", prefix("/area/admin")),
    to("report", { match: { kind: "path", value: "/report" } }),
    to("regex", { match: { kind: "regex", value: "/item/[0-9]+" } }),
    to("open", prefix("/")),
  ]);
  const routeIdOf = (rawPath: string): string => {
    const path = decodeURIComponent(rawPath);
    const matched = { hostname: "app.example", port: null, path, rawPath };
    const found = routes.match(matched)?.id;
    assert.equal(routes.refusalOf(matched), found === undefined ? "path-parameters" : undefined, rawPath);
    return found ?? "ambiguous";
  };
  const ambiguous = [
    ...["/area;a=b/admin/x", "/area;/admin", "/area;a;b=c/admin"],
    ...["/area%3Ba=b/admin/x", "/area%3ba/admin", "/area;a%3Bb/admin", "/area%3Ba;b/admin", "/ar%65a;/admin"],
    ...["/report;v=1", "/report;v=1/more", "/report%3B", "/item/7;v=1", "/.pomerium;x/user", "/.well-known;/pomerium"],
  ];
  for (const path of ambiguous) test(`${path}: ambiguous`, () => assert.equal(routeIdOf(path), "ambiguous"));
  const clear = {
    "/area/admin;x": "admin",
    "/area/admin/x;y=1/z": "admin",
    "/other;jsessionid=1": "open",
    "/other;a/area/admin": "open",
    "/a%253Bb/c": "open",
    "/item/x;1": "open",
  };
  for (const [path, id] of Object.entries(clear)) test(`${path}: ${id}`, () => assert.equal(routeIdOf(path), id));
});

test("a wildcard matches any characters, including dots", () => {
  for (const host of ["a.example.com", "a.b.example.com"]) assert.ok(matchesWildcard("*.example.com", host), host);
  for (const host of ["example.com", "a.example.org", "aexample.com"]) {
    assert.ok(!matchesWildcard("*.example.com", host), host);
  }
  assert.ok(matchesWildcard("a*b*c", "axxbxxbc"));
  assert.ok(!matchesWildcard(`${"*a".repeat(40)}b`, "a".repeat(250)), "a hostile pattern is matched quickly");
});

test("an origin belongs to a route only with the route's scheme, host and port", () => {
  const routes = compileRouteTable([to("a"), to("w", { host: "*.wild.example" })]);
  for (const origin of ["https://app.example", "https://x.wild.example"])
    assert.ok(routes.isRouteOrigin(origin), origin);
  for (const origin of [
    "http://app.example",
    "https://evil.example",
    "null",
    "https://app.example/",
    "https://app.example.evil",
  ]) {
    assert.ok(!routes.isRouteOrigin(origin), origin);
  }
});

describe("rewriting", () => {
  const rewrite = (parts: Partial<RouteConfig>, rawPath: string) => compileRewrite(route(parts))(rawPath);
  const cases: readonly (readonly [string, string, string, string])[] = [
    ["/foo", "/", "/foo/bar", "/bar"],
    ["/foo", "/", "/foo", "/"],
    ["/foo/", "/", "/foo/bar", "/bar"],
    ["/", "/base", "/x", "/base/x"],
    ["/", "/base/", "/", "/base/"],
    ["/foo", "/x", "/foobar", "/xbar"],
    ["/a b", "/c", "/a%20b/d", "/c/d"],
  ];
  for (const [from, into, path, expected] of cases) {
    test(`prefix ${from} → ${into}: ${path} becomes ${expected}`, () =>
      assert.equal(rewrite({ ...prefix(from), prefixRewrite: into }, path), expected));
  }
  test("a path or a regular expression replaces the whole path", () => {
    assert.equal(rewrite({ match: { kind: "path", value: "/x" }, prefixRewrite: "/y" }, "/x"), "/y");
  });
  test("groups of a regular expression are numbered as in RE2", () => {
    const regexRewrite = { pattern: "^/a/([a-z]+)/(.*)$", substitution: "/\\2$/\\1" };
    assert.equal(rewrite({ regexRewrite }, "/a/bc/de"), "/de$/bc");
  });
  test("a result that is not a valid path is never sent", () => {
    for (const substitution of ["x", "/..", "/../?q", "?/a", "/#", "/?#"]) {
      assert.equal(rewrite({ regexRewrite: { pattern: "^/a", substitution } }, "/a"), undefined, substitution);
    }
  });
  test("a regular expression may add a query; its bytes stay unchanged", () => {
    const regexRewrite = { pattern: "^/find/([^/]+)$", substitution: "/search?q=\\1&by=path" };
    assert.equal(rewrite({ regexRewrite }, "/find/a%20%3Fb&c"), "/search?q=a%20%3Fb&c&by=path");
    const dots = { pattern: "^/find/(.*)$", substitution: "/search?q=/../\\1" };
    assert.equal(rewrite({ regexRewrite: dots }, "/find/x"), "/search?q=/../x");
  });
  test("a substitution is sent literally", () => {
    const regexRewrite = { pattern: "^/a/(.*)$", substitution: "/café au lait/\\1" };
    assert.equal(rewrite({ regexRewrite }, "/a/b"), "/caf%C3%A9%20au%20lait/b");
  });
  const joined: readonly (readonly [string, string, string])[] = [
    ["/a", "", "/a"],
    ["/a", "?b=1", "/a?b=1"],
    ["/a", "?", "/a?"],
    ["/a?q=x", "", "/a?q=x"],
    ["/a?q=x", "?", "/a?q=x"],
    ["/a?q=x", "?b=1&c", "/a?q=x&b=1&c"],
    ["/a?", "?b=1", "/a?b=1"],
  ];
  for (const [rewritten, search, expected] of joined)
    test(`the request's ${search || "empty query"} after ${rewritten}: ${expected}`, () =>
      assert.equal(withSearch(rewritten, search), expected));
});

describe("routes without an upstream", () => {
  const target = { scheme: "https", hostname: "app.example", port: 8_443, rawPath: "/a/b", search: "?q=1" } as const;
  const nothing = {
    httpsRedirect: null,
    schemeRedirect: null,
    hostRedirect: null,
    portRedirect: null,
    pathRedirect: null,
    prefixRewrite: null,
    responseCode: 301,
    stripQuery: false,
  } as const;
  const location = (redirect: Partial<NonNullable<RouteConfig["redirect"]>>, on: Partial<RouteConfig> = {}) =>
    compileRouteAnswer(route({ ...on, redirect: { ...nothing, ...redirect } }))?.(target).headers["location"];

  test("a redirect changes the parts that it names and keeps the rest", () => {
    assert.equal(location({ hostRedirect: "new.example" }), "https://new.example/a/b?q=1");
    assert.equal(location({ pathRedirect: "/x" }), "https://app.example:8443/x?q=1");
    assert.equal(location({ prefixRewrite: "/x" }, prefix("/a")), "https://app.example:8443/x/b?q=1");
    assert.equal(location({ portRedirect: 444, stripQuery: true }), "https://app.example:444/a/b");
    assert.equal(location({ schemeRedirect: "http" }), "http://app.example/a/b?q=1");
    assert.equal(location({ httpsRedirect: true, portRedirect: 443 }), "https://app.example/a/b?q=1");
  });
  test("a fixed response has the configured status and body", () => {
    const made = compileRouteAnswer(route({ response: { status: 418, body: "tea" } }))?.(target);
    assert.deepEqual([made?.status, made?.body], [418, "tea"]);
  });
});

suite("a lookup in thousands of routes checks no more of them than in ten", () => {
  /** The number of checks of a host's routes during one lookup, with that many routes. */
  function checksFor(count: number, lookUp: (routes: RouteTable) => unknown): number {
    let checks = 0;
    const routes = Array.from({ length: count }, (_, i) => {
      const made = to(`${i}`, {
        host: i % 2 === 0 ? "many.localhost" : `h${i}.wild.localhost`,
        match: { kind: (["prefix", "path", "regex"] as const)[i % 3] ?? "prefix", value: `/part-${i}/x` },
      });
      const { port, from } = made;
      const seen = <Value>(value: Value) => ({
        get: () => {
          checks++;
          return value;
        },
      });
      return Object.defineProperties(made, { port: seen(port), from: seen(from) });
    });
    const last = to("last", { host: "many.localhost", ...prefix("/last") });
    const compiled = compileRouteTable([...routes, last]);
    checks = 0;
    lookUp(compiled);
    return checks;
  }
  for (const [what, lookUp] of [
    ["a path", (routes) => routes.match({ hostname: "many.localhost", port: null, path: "/part-6/x" })],
    ["the last path", (routes) => routes.match({ hostname: "many.localhost", port: null, path: "/last/a" })],
    ["an unknown path", (routes) => routes.match({ hostname: "many.localhost", port: null, path: "/unknown" })],
    ["an unknown host", (routes) => routes.match({ hostname: "unknown.localhost", port: null, path: "/" })],
    ["a host alone, for reserved paths", (routes) => routes.ofHost("many.localhost", null)],
    ["an origin, for pages of other hosts", (routes) => routes.isRouteOrigin("http://many.localhost")],
  ] satisfies readonly (readonly [string, (routes: RouteTable) => unknown])[])
    test(what, () => {
      const few = checksFor(10, lookUp);
      assert.equal(checksFor(4_000, lookUp), few);
      assert.ok(few < 10, String(few));
    });
});

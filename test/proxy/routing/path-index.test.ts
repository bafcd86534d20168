/** Path index: finds the same route as a search through all routes in order. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RE2JS } from "re2js";
import type { RouteConfig } from "../../../src/config/index.ts";
import { compileRouteTable, literalStart, matchesWildcard } from "../../../src/proxy/routing/route-table.ts";
import { route } from "../../auth/authorize/support.ts";
import { fc } from "../../support/property.ts";

/** Checks a route as the configuration defines it, without the index. */
function matchedSlowly(
  routes: readonly RouteConfig[],
  { hostname, port, path }: Readonly<{ hostname: string; port: number | null; path: string }>,
): string | undefined {
  const exact = routes.filter(({ host }) => host === hostname);
  const known =
    exact.length > 0 ? exact : routes.filter(({ host }) => host.includes("*") && matchesWildcard(host, hostname));
  const ordered = [...known.filter((one) => one.port !== null), ...known.filter((one) => one.port === null)];
  return ordered.find(({ match: { kind, value }, port: own }) => {
    if (own !== null && own !== (port ?? 443)) return false;
    if (kind === "path") return path === value;
    return kind === "prefix" ? path.startsWith(value) : RE2JS.compile(value).testExact(path);
  })?.id;
}

const texts = fc
  .array(fc.constantFrom("/", "a", "b", "ab", ".", "-"), { maxLength: 5 })
  .map((parts) => `/${parts.join("")}`);
const expressions = fc
  .array(fc.constantFrom("/", "a", "b", "ab*", "a+", "b?", "a{2}", ".", "\\.", "[ab]", "(a|b)", "(?:/b)", ".*", "^"), {
    maxLength: 5,
  })
  .map((parts) => `/${parts.join("")}`)
  .filter((expression) => {
    try {
      RE2JS.compile(expression);
      return true;
    } catch {
      return false;
    }
  });
const match = fc.oneof(
  texts.map((value) => ({ kind: "prefix" as const, value })),
  texts.map((value) => ({ kind: "path" as const, value })),
  expressions.map((value) => ({ kind: "regex" as const, value })),
  fc.constantFrom("^/a", "(?i)/a", "/a|/b", "/ab|b.*", "a*", "").map((value) => ({ kind: "regex" as const, value })),
);
const hosts = ["x.e", "y.x.e", "e", "*.e", "*.x.e", "y.*", "*", "a*.e", "ab.e"];

test("the index finds the same route as a search in order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ host: fc.constantFrom(...hosts), match, port: fc.constantFrom(null, null, 443, 8_443) }), {
        maxLength: 25,
      }),
      fc.array(
        fc.record({
          hostname: fc.constantFrom("x.e", "y.x.e", "e", "q.e", "ab.e", "q.y.x.e"),
          path: texts,
          port: fc.constantFrom(null, 443, 8_443),
        }),
        { minLength: 1, maxLength: 20 },
      ),
      (parts, requests) => {
        const routes = parts.map((part, n) => route({ id: `route-${n}`, ...part }));
        const compiled = compileRouteTable(routes);
        for (const request of requests)
          assert.equal(compiled.match(request)?.id, matchedSlowly(routes, request), JSON.stringify(request));
      },
    ),
    { numRuns: 500, seed: 11 },
  );
});

test("the literal prefix of an expression is a prefix of every match", () => {
  const cases: Readonly<Record<string, string>> = {
    "/api/v1/.*": "/api/v1/",
    "^/api/v1": "/api/v1",
    "/a\\.b": "/a.b",
    "/ab*": "/a",
    "/ab?c": "/a",
    "/a{2}": "/",
    "/a|/b": "",
    "(?i)/a": "",
    "/x(a|b)": "",
    ".*": "",
    "\\d+": "",
    "/a\\d": "/a",
  };
  for (const [expression, begins] of Object.entries(cases)) assert.equal(literalStart(expression), begins, expression);
});

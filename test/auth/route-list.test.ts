/** The list of routes for a user: those that policy permits, and no others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createRouteCatalog, type ListedRoute } from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import type { UnixMs } from "../../src/events/index.ts";
import { compiled, now, type Person, principal, route, source } from "./authorize/support.ts";

function listFor(
  routes: readonly RouteConfig[],
  person: Person,
  { origin = "https://app.example", at = now as number } = {},
): readonly ListedRoute[] {
  const query = { principal: principal(person), origin: new URL(origin), headers: {}, ip: "192.0.2.1" };
  return drain(createRouteCatalog({ routes, policies: compiled(...routes) }).list({ ...query, now: at as UnixMs }));
}
function drain<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}
const idsFor = (routes: readonly RouteConfig[], person: Person, at?: number): readonly string[] =>
  listFor(routes, person, at === undefined ? {} : { at }).map(({ id }) => id);
const allow = (criteria: object): NonNullable<RouteConfig["policy"]> => source({ allow: { and: [criteria] } });

test("a route is listed exactly for users that its policy permits: allow, deny, not, and", () => {
  const routes = [
    route({ id: "any", allowAnyAuthenticatedUser: true }),
    route({ id: "public", allowPublicUnauthenticatedAccess: true }),
    route({ id: "closed" }),
    route({ id: "eng", policy: allow({ groups: { has: "eng" } }) }),
    route({
      id: "not-sales",
      policy: source({ allow: { and: [{ authenticated_user: true }] }, deny: { or: [{ groups: { has: "sales" } }] } }),
    }),
    route({
      id: "both",
      policy: source({ allow: { and: [{ groups: { has: "eng" } }, { groups: { has: "sales" } }] } }),
    }),
    route({ id: "others", policy: source({ allow: { not: [{ groups: { has: "eng" } }] } }) }),
  ];
  assert.deepEqual(idsFor(routes, { groups: ["eng"] }), ["any", "public", "eng", "not-sales"]);
  assert.deepEqual(idsFor(routes, { groups: ["sales"] }), ["any", "public", "others"]);
  assert.deepEqual(idsFor(routes, { groups: ["eng", "sales"] }), ["any", "public", "eng", "both"]);
});

test("an expired session and a user whose data cannot be decrypted see only public routes", () => {
  const routes = [
    route({ id: "any", allowAnyAuthenticatedUser: true }),
    route({ id: "public", allowPublicUnauthenticatedAccess: true }),
    route({ id: "alice", allowedUsers: ["alice@example.com"] }),
  ];
  assert.deepEqual(idsFor(routes, {}), ["any", "public", "alice"]);
  assert.deepEqual(idsFor(routes, {}, 3_000_000), ["public"]);
  assert.ok(!idsFor(routes, { opens: false }).includes("alice"));
});

test("the list assumes the beginning of the route and any valid certificate, but no particular certificate or device", () => {
  const pki = route({ id: "certificate", requiresClientCertificate: true, allowAnyAuthenticatedUser: true });
  const routes = [
    route({ id: "path", match: { kind: "prefix", value: "/a b" }, policy: allow({ http_path: { is: "/a b" } }) }),
    route({ id: "elsewhere", match: { kind: "path", value: "/c" }, policy: allow({ http_path: { is: "/d" } }) }),
    route({ id: "get", policy: allow({ http_method: { is: "GET" } }) }),
    route({ id: "post", policy: allow({ http_method: { is: "POST" } }) }),
    pki,
    { ...pki, id: "certificate-eng", allowAnyAuthenticatedUser: false, policy: allow({ groups: { has: "eng" } }) },
    route({ id: "particular", policy: allow({ client_certificate: { fingerprint: "0".repeat(64) } }) }),
    route({ id: "device", policy: allow({ device: { is: "any" } }) }),
  ];
  assert.deepEqual(idsFor(routes, {}), ["path", "get", "certificate"]);
});

test("each kind of route states its type and address, with Pomerium's names", () => {
  const any = { allowAnyAuthenticatedUser: true } as const;
  const db = { host: "db.example", port: 5_432 };
  const routes = [
    route({
      ...any,
      id: "1",
      name: "App",
      description: "The app",
      logoUrl: "https://static.example/app.svg",
      from: new URL("https://app.example"),
    }),
    route({
      ...any,
      id: "2",
      name: "db",
      tunnel: { kind: "tcp", targets: [db], behindProxy: false },
      from: new URL("https://db.example"),
    }),
    route({
      ...any,
      id: "3",
      name: "two",
      tunnel: { kind: "tcp", targets: [db, { host: "b.internal", port: 22 }], behindProxy: true },
    }),
    route({
      ...any,
      id: "4",
      name: "dns",
      tunnel: { kind: "udp", targets: [{ host: "dns.internal", port: 53 }], behindProxy: true },
      from: new URL("https://proxy.example:8443"),
    }),
    route({
      ...any,
      id: "5",
      name: "all",
      tunnel: { kind: "tcp", targets: [{ host: "*.internal", port: 22 }], behindProxy: true },
    }),
  ];
  assert.deepEqual(listFor(routes, {}), [
    {
      ...{ id: "1", name: "App", description: "The app", logo_url: "https://static.example/app.svg" },
      ...{ type: "http", from: "https://app.example" },
    },
    {
      ...{ id: "2", name: "db", description: "", logo_url: "", type: "tcp", from: "tcp+https://db.example:5432" },
      connect_command: "cardea tcp db.example:5432",
    },
    {
      ...{ id: "3", name: "two", description: "", logo_url: "", type: "tcp" },
      from: "tcp+https://app.example/db.example:5432/b.internal:22",
      connect_command: "cardea tcp tcp+https://app.example/db.example:5432",
    },
    {
      ...{ id: "4", name: "dns", description: "", logo_url: "", type: "udp" },
      from: "udp+https://proxy.example:8443/dns.internal:53",
      connect_command: "cardea udp udp+https://proxy.example:8443/dns.internal:53",
    },
    { id: "5", name: "all", description: "", logo_url: "", type: "tcp", from: "tcp+https://app.example/*.internal:22" },
  ]);
  const [, own, behind] = listFor(routes, {}, { origin: "https://app.example:9443" });
  assert.equal(own?.connect_command, "cardea tcp db.example:5432 --proxy-url https://db.example:9443");
  assert.equal(behind?.connect_command, "cardea tcp tcp+https://app.example:9443/db.example:5432");
});

test("a route below a path lists its full address", () => {
  const any = { allowAnyAuthenticatedUser: true, from: new URL("https://app.example:8443") } as const;
  const routes = [
    route({ ...any, id: "prefix", match: { kind: "prefix", value: "/admin area" } }),
    route({ ...any, id: "path", match: { kind: "path", value: "/health" } }),
    route({ ...any, id: "root" }),
    route({ ...any, id: "regex", match: { kind: "regex", value: "^/v[0-9]+/.*" } }),
  ];
  assert.deepEqual(
    listFor(routes, {}).map(({ id, from, address }) => [id, from, address]),
    [
      ["prefix", "https://app.example:8443", "https://app.example:8443/admin%20area"],
      ["path", "https://app.example:8443", "https://app.example:8443/health"],
      ["root", "https://app.example:8443", undefined],
      ["regex", "https://app.example:8443", undefined],
    ],
  );
});

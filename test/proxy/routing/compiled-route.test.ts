/** Compiled routes: the routes of a new configuration that must permit an exchange which an earlier one permitted. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, parseConfig, type RouteConfig } from "../../../src/config/index.ts";
import { compileRoutes } from "../../../src/proxy/routing/compiled-route.ts";

const secretOf = (step: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * step + 3) % 256)).toString("base64");
const head = {
  ...{ authenticate_service_url: "https://authenticate.example", address: "127.0.0.1:8443", insecure_server: true },
  ...{ shared_secret: secretOf(7), cookie_secret: secretOf(11) },
  ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example", idp_client_id: "c", idp_client_secret: "s" },
};

function configOf(routes: readonly Readonly<{ id: string; path?: string; host?: string }>[]): Config {
  const written = routes.map(({ id, path, host = "app" }) => ({
    ...{ id, from: `https://${host}.example`, to: "http://upstream.example", allow_any_authenticated_user: true },
    ...(path === undefined ? {} : { path }),
  }));
  const text = JSON.stringify({ ...head, routes: written });
  const parsed = parseConfig(text, "plan.yaml", { env: {}, readFile: () => ({ ok: false, reason: "there are none" }) });
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.config;
}

const route = (config: Config, id: string): RouteConfig => {
  const found = config.routes.find((each) => each.id === id);
  assert.ok(found);
  return found;
};
const plansOf = (config: Config) => compileRoutes(config, { chooserOf: () => () => undefined }, { of: () => null });

const before = route(configOf([{ id: "own" }]), "own");

test("a route that precedes the exchange's own must permit it too", () => {
  const now = configOf([{ id: "door", path: "/" }, { id: "own" }]);
  const successors = plansOf(now).successorsOf(before, route(now, "door"));
  assert.deepEqual(
    successors.map((plan) => plan.route.id),
    ["door", "own"],
  );
});

test("the same route decides alone, even under another id", () => {
  const now = configOf([{ id: "renamed" }]);
  const successors = plansOf(now).successorsOf(before, route(now, "renamed"));
  assert.deepEqual(
    successors.map((plan) => plan.route.id),
    ["renamed"],
  );
});

test("no route permits an exchange whose own route is gone, whatever replaced it", () => {
  const now = configOf([{ id: "other", path: "/" }]);
  assert.deepEqual(plansOf(now).successorsOf(before, route(now, "other")), []);
  assert.deepEqual(plansOf(now).successorsOf(before, undefined), []);
});

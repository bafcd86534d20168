/** `/.pomerium/api/v1/routes`: told to whoever is signed in on that host, while this node knows what it says. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { listRoutes } from "../../../src/auth/index.ts";
import { compiled, route, source } from "../authorize/support.ts";
import { signIn, startWorld, type World } from "./support.ts";

const path = "/.pomerium/api/v1/routes";
const routes = [
  route({ id: "any", name: "App", allowAnyAuthenticatedUser: true }),
  route({ id: "eng", name: "Engineering", policy: source({ allow: { and: [{ groups: { has: "eng" } }] } }) }),
];

function startListing(t: TestContext, replica: Partial<World["replica"]> = {}): Promise<World> {
  const policies = compiled(...routes);
  return startWorld(t, {
    deps: (deps) => ({
      ...deps,
      replica: { ...deps.replica, ...replica },
      routesOf: (asked) => listRoutes({ routes, policies }, asked),
    }),
  });
}

test("each person is told of their own routes, by cookie and by a command line's header", async (t) => {
  const world = await startListing(t);
  for (const [user, expected] of [
    ["alice", ["any", "eng"]],
    ["bob", ["any"]],
  ] as const) {
    const visitor = world.visitor();
    await signIn(world, visitor, user);
    const answer = await visitor.request(world.url("app", path));
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.match(String(answer.headers["content-type"]), /^application\/json/);
    const body = JSON.parse(answer.body) as { routes: { id: string }[] };
    assert.deepEqual(
      body.routes.map(({ id }) => id),
      expected,
    );
    const token = /_pomerium=([^;]+)/.exec(visitor.cookieHeader(new URL(world.url("app"))))?.[1] ?? assert.fail();
    const cli = await world.visitor().request(world.url("app", path), {
      headers: { accept: "application/json", authorization: `Bearer Pomerium-${token}` },
    });
    assert.deepEqual(JSON.parse(cli.body), body);
    assert.equal((await visitor.request(world.url("app", path), { method: "HEAD" })).status, 200);
    for (const method of ["POST", "PUT", "DELETE"])
      assert.equal((await visitor.request(world.url("app", path), { method })).status, 405, method);
  }
});

test("nobody is told anything without a session: sign-in for a browser, 401 for the rest, and after a revocation too", async (t) => {
  const world = await startListing(t);
  const visitor = world.visitor();
  const first = await visitor.request(world.url("app", path));
  assert.equal(first.status, 302);
  assert.equal(first.location?.pathname, "/.pomerium/sign_in");
  const headers = { "x-pomerium-authorization": "bm8.bm8.bm8" };
  assert.equal((await visitor.request(world.url("app", path), { headers })).status, 401);
  await signIn(world, visitor, "alice");
  const json = { headers: { accept: "application/json" } };
  assert.equal((await visitor.request(world.url("app", path), json)).status, 200);
  const [session] = [...world.replica.projection.sessions()];
  await world.submit({ type: "revokeSession", sessionId: session?.sessionId ?? assert.fail(), reason: "operator" });
  const after = await visitor.request(world.url("app", path), json);
  assert.equal(after.status, 401);
  assert.doesNotMatch(after.body, /routes|Engineering/);
});

test("a node whose lease is over tells nobody, and a process without routes has no such list", async (t) => {
  const stale = await startListing(t, { overdueMs: () => 1 });
  const visitor = stale.visitor();
  await signIn(stale, visitor, "alice");
  const answer = await visitor.request(stale.url("app", path));
  assert.equal(answer.status, 503);
  assert.equal(answer.headers["retry-after"], "1");
  const without = await startWorld(t);
  const other = without.visitor();
  await signIn(without, other, "alice");
  assert.equal((await other.request(without.url("app", path))).status, 404);
});

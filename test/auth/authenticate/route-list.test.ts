/** `/.pomerium/api/v1/routes`: lists routes for a signed-in caller of that host, while the node has a lease. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createRouteCatalog } from "../../../src/auth/index.ts";
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
      routes: createRouteCatalog({ routes, policies }),
    }),
  });
}

test("each user sees their own routes, by cookie or by a header of a command-line client", async (t) => {
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

test("without a session, or after a revocation, nothing is listed: browsers are sent to sign-in, other callers get 401", async (t) => {
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

test("a node whose lease has ended lists nothing, and a process without routes has no such endpoint", async (t) => {
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

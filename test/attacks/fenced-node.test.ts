/**
 * A node that has lost its brokers receives no revocations. Receipts count it as fenced after a while, so from then on
 * it must reveal no identity, neither on routes nor on its own pages.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthDeps, readLeasedSignInStatus } from "../../src/auth/index.ts";
import { signIn, startWorld, type World } from "../auth/authenticate/support.ts";

/** A world whose node has a lease that the test controls. */
async function startFenceable(t: Parameters<typeof startWorld>[0]): Promise<World & { lease: { overdueMs: number } }> {
  const lease = { overdueMs: -1_000 };
  let deps: AuthDeps | undefined;
  const world = await startWorld(t, {
    deps(plain) {
      const replica = Object.create(plain.replica, { overdueMs: { value: () => lease.overdueMs } });
      deps = { ...plain, replica };
      return deps;
    },
    plugins: () => [
      (app) =>
        app.get("/operators-only", async (request, reply) => {
          assert.ok(deps !== undefined);
          return reply.send(await readLeasedSignInStatus(deps, request).then(({ type }) => type));
        }),
    ],
  });
  return Object.assign(world, { lease });
}

test("a fenced node reveals no identity and serves no operator", async (t) => {
  const world = await startFenceable(t);
  const alice = world.visitor();
  await signIn(world, alice, "alice");
  const identity = world.url("app", "/.pomerium/user");
  const pages = [world.url("app", "/.pomerium/"), world.url("authenticate", "/.pomerium/")];
  const operators = world.url("authenticate", "/operators-only");
  assert.equal((await alice.request(identity)).status, 200);
  assert.equal((await alice.request(operators)).body, "signed-in");

  // The lease is over, but within its grace period: routes that serve when stale continue; no operator is served.
  world.lease.overdueMs = 1;
  assert.equal((await alice.request(identity)).status, 200);
  assert.equal((await alice.request(operators)).body, "behind");

  world.lease.overdueMs = Number.POSITIVE_INFINITY;
  for (const page of [identity, ...pages]) {
    const answer = await alice.request(page);
    assert.equal(answer.status, 503, page);
    assert.doesNotMatch(answer.body, /alice/i);
  }
  assert.equal((await alice.request(operators)).body, "behind");
  assert.equal(
    (await world.visitor().request(world.url("app", "/.pomerium/"))).status,
    200,
    "a visitor without a session is still served",
  );

  world.lease.overdueMs = -1_000;
  assert.equal((await alice.request(identity)).status, 200);
});

/**
 * A node that has lost touch hears of no revocation. Its receipts count it as fenced off after a while, so from then on
 * it must say nothing of anybody: neither on routes nor beside them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthDeps, readLeasedSignInStatus } from "../../src/auth/index.ts";
import { signIn, startWorld, type World } from "../auth/authenticate/support.ts";

/** A world whose node has a lease that a test sets. */
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

test("a fenced node went on saying who is signed in, and let administrators of the past read everything", async (t) => {
  const world = await startFenceable(t);
  const alice = world.visitor();
  await signIn(world, alice, "alice");
  const identity = world.url("app", "/.pomerium/user");
  const pages = [world.url("app", "/.pomerium/"), world.url("authenticate", "/.pomerium/")];
  const operators = world.url("authenticate", "/operators-only");
  assert.equal((await alice.ask(identity)).status, 200);
  assert.equal((await alice.ask(operators)).body, "signed-in");

  world.lease.overdueMs = 1; // over, but within what the node was granted: routes that serve when stale go on, no operator does
  assert.equal((await alice.ask(identity)).status, 200);
  assert.equal((await alice.ask(operators)).body, "behind");

  world.lease.overdueMs = Number.POSITIVE_INFINITY;
  for (const page of [identity, ...pages]) {
    const answer = await alice.ask(page);
    assert.equal(answer.status, 503, page);
    assert.doesNotMatch(answer.body, /alice/i);
  }
  assert.equal((await alice.ask(operators)).body, "behind");
  assert.equal((await world.visitor().ask(world.url("app", "/.pomerium/"))).status, 200, "nobody is still nobody");

  world.lease.overdueMs = -1_000;
  assert.equal((await alice.ask(identity)).status, 200);
});

/** `/.pomerium/jwt`: gives the pages of one host the visitor's assertion, if the operator enables it. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { decodeJwt } from "jose";
import { signIn, startWorld, type World } from "./support.ts";

const path = "/.pomerium/jwt";

function startIssuing(t: TestContext, replica: Partial<World["replica"]> = {}): Promise<World> {
  return startWorld(t, {
    deps: (deps) => ({
      ...deps,
      replica: { ...deps.replica, ...replica },
      assertionFor: async ({ session }, hostname) => {
        const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
        return `${part({ alg: "none" })}.${part({ aud: hostname, sid: session.sessionId })}.x`;
      },
    }),
  });
}

test("a signed-in visitor receives the assertion for that host, but not without a session or after a revocation", async (t) => {
  const world = await startIssuing(t);
  const visitor = world.visitor();
  const script = { headers: { accept: "application/json" } };
  assert.equal((await visitor.request(world.url("app", path), script)).status, 401);
  assert.equal((await visitor.request(world.url("app", path))).location?.pathname, "/.pomerium/sign_in");
  await signIn(world, visitor, "alice");
  const answer = await visitor.request(world.url("app", path), script);
  const [session] = [...world.replica.projection.sessions()];
  assert.deepEqual(
    [answer.status, answer.headers["content-type"], answer.headers["cache-control"]],
    [200, "application/jwt", "no-store"],
  );
  assert.deepEqual(decodeJwt(answer.body), { aud: "app.localhost", sid: session?.sessionId });
  assert.equal((await visitor.request(world.url("app", path), { method: "POST" })).status, 405);
  await world.submit({ type: "revokeSession", sessionId: session?.sessionId ?? assert.fail(), reason: "operator" });
  assert.equal((await visitor.request(world.url("app", path), script)).status, 401);
});

test("a node whose lease has ended issues no assertion, and without the flag the address does not exist", async (t) => {
  let overdueMs = 0;
  const world = await startIssuing(t, { overdueMs: () => overdueMs });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  assert.equal((await visitor.request(world.url("app", path))).status, 200);
  overdueMs = 1;
  assert.equal((await visitor.request(world.url("app", path))).status, 503);
  const without = await startWorld(t);
  const other = without.visitor();
  await signIn(without, other, "alice");
  assert.equal((await other.request(without.url("app", path))).status, 404);
});

test("an assertion above the bound of identity headers is refused with its code", async (t) => {
  const world = await startWorld(t, { deps: (deps) => ({ ...deps, assertionFor: async () => null }) });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const answer = await visitor.request(world.url("app", path), { headers: { accept: "application/json" } });
  assert.equal(answer.status, 403);
  assert.match(answer.body, /ERR_AUTH_IDENTITY_TOO_LARGE/);
});

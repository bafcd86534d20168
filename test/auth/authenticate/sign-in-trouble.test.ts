/**
 * Signing in while something is amiss: a provider that refuses or is down, a broker that is away, a node that is
 * behind.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CommandRequest, CommandResult } from "../../../src/events/index.ts";
import { BrokerUnavailableError, type Databroker } from "../../../src/replication/index.ts";
import { delayedFanout } from "../../support/delayed-fanout.ts";
import { signIn, signInUpToCallback, startWorld, type WorldOptions } from "./support.ts";

const sessions = (world: Awaited<ReturnType<typeof startWorld>>): number =>
  [...world.replica.projection.sessions()].length;

test("who cancels at the provider is told so, in the provider's words, and may begin again towards the same page", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const form = await visitor.navigate(world.url("app", "/wanted"));
  const back = await visitor.navigate(form.url, { form: { cancel: "1" } });
  assert.equal(back.status, 401);
  assert.match(back.body, /access_denied/);
  const again = /href="([^"]+sign_in[^"]+)"/.exec(back.body)?.[1]?.replaceAll("&amp;", "&") ?? assert.fail(back.body);
  const second = await visitor.navigate(again);
  assert.equal(second.url.origin, world.idpUrl.origin);
  const end = await visitor.navigate(second.url, { form: { user: "alice", password: "x" } });
  assert.equal(end.url.href, world.url("app", "/wanted"));
});

test("the words of somebody who is not the provider are not shown", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const fake = world.url("authenticate", "/oauth2/callback?error=access_denied&error_description=call+555-evil");
  const answer = await visitor.request(fake);
  assert.equal(answer.status, 400);
  assert.ok(!answer.body.includes("555-evil"));
});

test("a provider that is down fails the sign-in with a clear page, and the next one when it is back succeeds", async (t) => {
  const world = await startWorld(t, {
    deps: (deps, built) => ({
      ...deps,
      providerOf: () => ({ ...built.oidc, begin: (...args) => (down ? begin() : built.oidc.begin(...args)) }),
    }),
  });
  let down = true;
  const { createLocalFetch, createOidcClient } = await import("../../../src/auth/index.ts");
  const local = createLocalFetch({ timeoutMs: 1_000 });
  t.after(() => local.close());
  const nobody = createOidcClient(
    {
      issuer: new URL("http://idp.localhost:1"),
      clientId: "cardea",
      clientSecret: "x",
      scopes: ["openid"],
      requestParams: {},
      redirectUri: new URL(world.url("authenticate", "/oauth2/callback")),
    },
    local,
    () => Date.now(),
  );
  const begin = () => nobody.begin(async () => "state", { account: "current" });
  const visitor = world.visitor();
  const answer = await visitor.navigate(world.url("app"));
  assert.equal(answer.status, 502);
  assert.match(answer.body, /is not responding/);
  assert.deepEqual(world.warnings.length, 1);
  down = false;
  assert.equal((await signIn(world, visitor, "alice")).status, 200);
});

test("without an identity provider sign-in says what is missing", async (t) => {
  const world = await startWorld(t, { deps: (deps) => ({ ...deps, providerOf: () => undefined }) });
  const answer = await world.visitor().navigate(world.url("app"));
  assert.equal(answer.status, 500);
  assert.match(answer.body, /idp_provider_url/);
});

test("a double click on the callback is one exchange and one session, and both clicks arrive", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const [first, second] = await Promise.all([visitor.request(callback), visitor.request(callback)]);
  assert.equal(first.status, 302);
  assert.equal(second.status, 302);
  assert.equal(sessions(world), 1);
  assert.equal((await visitor.navigate(second.location ?? "")).status, 200);
  const reloaded = await visitor.navigate(callback);
  assert.equal(reloaded.body, "hello alice of admins,eng at app.localhost/");
  assert.equal(sessions(world), 1);
  // The provider revokes what a code has brought when it comes a second time; it did not.
  const [session] = [...world.replica.projection.sessions()];
  const tokens = await world.deps.databroker.tokens(session?.sessionId ?? assert.fail());
  assert.equal((await world.oidc.refresh(tokens ?? assert.fail())).type, "tokens");
});

test("a code that was used up elsewhere is refused by the provider, and the page leads to a new sign-in", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const state = callback.searchParams.get("state") ?? "";
  const opened = (await world.deps.stateCipher.open("sign-in state", state, 60)) as { nonce: string; verifier: string };
  await world.oidc.finish(callback.search, { ...opened, state }); // another authenticate process has taken the code
  const answer = await visitor.request(callback);
  assert.equal(answer.status, 400);
  assert.match(answer.body, /invalid_grant/);
  assert.match(answer.body, /sign_in/);
  assert.equal(sessions(world), 0);
});

type Submit = Databroker["submit"];
const withSubmit = (submit: (inner: Submit) => Submit): WorldOptions => ({
  deps: (deps) => ({
    ...deps,
    databroker: { ...deps.databroker, submit: submit((request) => deps.databroker.submit(request)) },
  }),
});

test("a broker that is choosing a leader is asked again with the same command, and nobody notices", async (t) => {
  const seen: string[] = [];
  let failures = 3;
  const world = await startWorld(
    t,
    withSubmit((inner) => async (request) => {
      seen.push(request.commandId);
      if (failures-- > 0) return away(request);
      return inner(request);
    }),
  );
  assert.equal((await signIn(world, world.visitor(), "alice")).status, 200);
  assert.equal(seen.length, 4);
  assert.equal(new Set(seen).size, 1);
  assert.equal(sessions(world), 1);
});

test("when the log stays away after the code was used up, the same callback completes the sign-in later", async (t) => {
  let down = true;
  const world = await startWorld(
    t,
    withSubmit((inner) => async (request) => {
      if (!down) return inner(request);
      throw new BrokerUnavailableError("no broker answers");
    }),
  );
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const answer = await visitor.request(callback);
  assert.equal(answer.status, 503);
  assert.equal(answer.headers["retry-after"], "1");
  assert.match(answer.body, /you are not signed in/);
  assert.ok(answer.body.includes("/oauth2/callback?"), "the page leads back to the same callback");
  assert.deepEqual(visitor.cookie("authenticate.localhost", "_pomerium_authenticate"), undefined);
  down = false;
  const done = await visitor.navigate(callback);
  assert.equal(done.body, "hello alice of admins,eng at app.localhost/");
  assert.equal(sessions(world), 1);
});

test("a write whose outcome was unknown, and that happened, is not done twice", async (t) => {
  let lost = 1;
  const world = await startWorld(
    t,
    withSubmit((inner) => async (request) => {
      const result = await inner(request);
      return lost-- > 0 ? away(request) : result;
    }),
  );
  assert.equal((await signIn(world, world.visitor(), "alice")).status, 200);
  assert.equal(sessions(world), 1);
});

function away(request: CommandRequest): CommandResult {
  return { type: "unavailable", commandId: request.commandId, message: "no broker leads", retryAfterMs: 50 };
}

test("landing on a node that the fan-out reaches a minute late is one round trip and no loop", async (t) => {
  const world = await startWorld(t, { fanout: (inner) => delayedFanout(inner, { delayMs: 60_000 }) });
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const before = performance.now();
  const hops: string[] = [];
  for (let next: URL | null = callback; next !== null; ) {
    const answer: Awaited<ReturnType<typeof visitor.request>> = await visitor.request(next);
    hops.push(`${answer.status} ${answer.url.hostname}${answer.url.pathname}`);
    next = answer.location;
  }
  assert.deepEqual(hops, [
    "302 authenticate.localhost/oauth2/callback",
    "302 app.localhost/.pomerium/callback/",
    "200 app.localhost/",
  ]);
  assert.ok(performance.now() - before < 50_000, "nobody waited for the fan-out");
});

test("a node that cannot catch up says 503 on every host, and never sends to sign in", async (t) => {
  let reach: "reached" | "behind" | "lost" = "reached";
  const world = await startWorld(t, {
    deps: (deps) => ({ ...deps, catchUp: async (link) => (reach === "reached" ? deps.catchUp(link) : reach) }),
  });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  await visitor.navigate(world.url("wiki"));
  const link = (await world.visitor().request(world.url("app"))).location ?? assert.fail();
  reach = "behind";
  for (const url of [
    world.url("app", "/.pomerium/"),
    world.url("app", "/.pomerium/user"),
    world.url("authenticate", "/.pomerium/"),
    link.href,
  ]) {
    const answer = await visitor.request(url);
    assert.equal(answer.status, 503, url);
    assert.equal(answer.headers["retry-after"], "1");
    assert.match(answer.body, /still signed in/);
    assert.deepEqual(answer.setCookies, []);
  }
  reach = "lost";
  assert.match((await visitor.request(world.url("app", "/.pomerium/"))).body, /You are not signed in/);
  assert.equal((await visitor.navigate(link, { until: world.idpUrl.href })).location?.origin, world.idpUrl.origin);
});

test("authenticate that has not heard of a revocation waits for what the proxy has seen, instead of handing over again", async (t) => {
  let wanted = 0;
  const world = await startWorld(t, {
    deps: (deps) => ({
      ...deps,
      async catchUp(link) {
        wanted = Math.max(wanted, link.position);
        return behind ? "behind" : deps.catchUp(link);
      },
    }),
  });
  let behind = false;
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const [session] = [...world.replica.projection.sessions()];
  await world.submit({ type: "revokeSession", sessionId: session?.sessionId ?? assert.fail(), reason: "operator" });
  const refused = await visitor.request(world.url("app"));
  assert.equal(refused.status, 302);
  behind = true;
  const answer = await visitor.request(refused.location ?? "");
  assert.equal(answer.status, 503);
  assert.equal(wanted, world.replica.applied.position);
});

test("an XMLHttpRequest is told to sign in, not redirected into a provider's page", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const link = (await visitor.request(world.url("app"))).location ?? assert.fail();
  const answer = await visitor.request(link, {
    headers: { "x-requested-with": "xmlHttpRequest", accept: "application/json" },
  });
  assert.equal(answer.status, 401);
  assert.equal(JSON.parse(answer.body).Status, 401);
});

test("an answer by form post is brought again by the browser, with its cookies", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const stranger = world.visitor(); // a cross-site POST carries no Lax cookies
  const answer = await stranger.request(new URL("/oauth2/callback", callback), {
    form: Object.fromEntries(callback.searchParams),
    headers: { origin: world.idpUrl.origin },
  });
  assert.equal(answer.status, 303);
  const back = await visitor.navigate(answer.location ?? "");
  assert.equal(back.body, "hello alice of admins,eng at app.localhost/");
});

test("with a strict session cookie the chain of redirects ends on a page of ours, which goes on by itself", async (t) => {
  const world = await startWorld(t, { cookie: { sameSite: "strict" } });
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const answer = await visitor.navigate(callback);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["refresh"], `0;url=${world.url("app", "/")}`);
  assert.match(visitor.lineOf("app.localhost", "_pomerium") ?? "", /SameSite=Strict/);
  assert.equal((await visitor.request(world.url("app"))).status, 200);
});

/** Sign-in during failures: a provider that refuses or is down, an unreachable broker, a node that lags. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CommandRequest, CommandResult } from "../../../src/events/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { delayedFanout } from "../../support/delayed-fanout.ts";
import { signIn, signInUpToCallback, startWorld, type WorldOptions } from "./support.ts";

const sessions = (world: Awaited<ReturnType<typeof startWorld>>): number =>
  [...world.replica.projection.sessions()].length;

test("a user who cancels at the provider sees its error and can retry towards the same page", async (t) => {
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

test("an error text that the provider did not send is not shown", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const fake = world.url("authenticate", "/oauth2/callback?error=access_denied&error_description=call+555-evil");
  const answer = await visitor.request(fake);
  assert.equal(answer.status, 400);
  assert.ok(!answer.body.includes("555-evil"));
});

test("while the provider is down sign-in fails with a clear page, and it succeeds once the provider is back", async (t) => {
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
  const unreachable = createOidcClient(
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
  const begin = () => unreachable.begin(async () => "state", { account: "current" });
  const visitor = world.visitor();
  const answer = await visitor.navigate(world.url("app"));
  assert.equal(answer.status, 502);
  assert.match(answer.body, /isn&#39;t answering/);
  assert.deepEqual(world.warnings.length, 1);
  down = false;
  assert.equal((await signIn(world, visitor, "alice")).status, 200);
});

test("without an identity provider, sign-in names the missing setting", async (t) => {
  const world = await startWorld(t, { deps: (deps) => ({ ...deps, providerOf: () => undefined }) });
  const answer = await world.visitor().navigate(world.url("app"));
  assert.equal(answer.status, 500);
  assert.match(answer.body, /idp_provider_url/);
});

test("two concurrent requests to the callback cause one exchange and one session, and both succeed", async (t) => {
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
  // The provider would revoke the tokens if the code were presented twice; they still work.
  const [session] = [...world.replica.projection.sessions()];
  const tokens = await world.deps.databroker.tokens(session?.sessionId ?? assert.fail());
  assert.equal((await world.oidc.refresh(tokens ?? assert.fail())).type, "tokens");
});

test("a code that was already used is refused by the provider, and the page links to a new sign-in", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const state = callback.searchParams.get("state") ?? "";
  const opened = (await world.deps.stateCipher.open("sign-in state", state, 60)) as { nonce: string; verifier: string };
  await world.oidc.finish(callback.search, { ...opened, state }); // another authenticate process has used the code
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

test("while brokers elect a leader the same command is retried, and the sign-in succeeds", async (t) => {
  const seen: string[] = [];
  let failures = 3;
  const world = await startWorld(
    t,
    withSubmit((inner) => async (request) => {
      seen.push(request.commandId);
      if (failures-- > 0) return noLeader(request);
      return inner(request);
    }),
  );
  assert.equal((await signIn(world, world.visitor(), "alice")).status, 200);
  assert.equal(seen.length, 4);
  assert.equal(new Set(seen).size, 1);
  assert.equal(sessions(world), 1);
});

test("if the log is unavailable after the code was used, the same callback completes the sign-in later", async (t) => {
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
  assert.ok(answer.body.includes("/oauth2/callback?"), "the page links to the same callback");
  assert.deepEqual(visitor.cookie("authenticate.localhost", "_pomerium_authenticate"), undefined);
  down = false;
  const done = await visitor.navigate(callback);
  assert.equal(done.body, "hello alice of admins,eng at app.localhost/");
  assert.equal(sessions(world), 1);
});

test("a write that succeeded with an unknown outcome is not repeated", async (t) => {
  let lost = 1;
  const world = await startWorld(
    t,
    withSubmit((inner) => async (request) => {
      const result = await inner(request);
      return lost-- > 0 ? noLeader(request) : result;
    }),
  );
  assert.equal((await signIn(world, world.visitor(), "alice")).status, 200);
  assert.equal(sessions(world), 1);
});

function noLeader(request: CommandRequest): CommandResult {
  return { type: "unavailable", commandId: request.commandId, message: "no broker leads", retryAfterMs: 50 };
}

test("a node that receives the new session a minute late by fan-out still completes the sign-in without a loop", async (t) => {
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
  assert.ok(performance.now() - before < 50_000, "the sign-in did not wait for the fan-out");
});

test("a node that cannot catch up answers 503 on every host and never redirects to sign-in", async (t) => {
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
  assert.match((await visitor.request(world.url("app", "/.pomerium/"))).body, /You&#39;re not signed in/);
  assert.equal((await visitor.navigate(link, { until: world.idpUrl.href })).location?.origin, world.idpUrl.origin);
});

test("an authenticate node that lags behind a revocation waits for the position that the proxy has seen, instead of handing over again", async (t) => {
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

test("an XMLHttpRequest receives 401, not a redirect to the provider", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const link = (await visitor.request(world.url("app"))).location ?? assert.fail();
  const answer = await visitor.request(link, {
    headers: { "x-requested-with": "xmlHttpRequest", accept: "application/json" },
  });
  assert.equal(answer.status, 401);
  assert.equal(JSON.parse(answer.body).Status, 401);
});

test("a form_post callback is repeated by the browser as a GET with its cookies", async (t) => {
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

test("with SameSite=strict the redirects end on a page of the proxy that continues by itself", async (t) => {
  const world = await startWorld(t, { cookie: { sameSite: "strict" } });
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const answer = await visitor.navigate(callback);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["refresh"], `0;url=${world.url("app", "/")}`);
  assert.match(visitor.lineOf("app.localhost", "_pomerium") ?? "", /SameSite=Strict/);
  assert.equal((await visitor.request(world.url("app"))).status, 200);
});

test("in a region that is cut off a callback submits once, and its retry records the same session later", async (t) => {
  const seen: string[] = [];
  let cut = true;
  const world = await startWorld(
    t,
    withSubmit((inner) => async (request) => {
      const { commandId } = request;
      seen.push(commandId);
      if (!cut) return inner(request);
      const lost = { message: "the home region is unreachable", code: "home-unreachable", outcome: "unknown" } as const;
      return { type: "unavailable", commandId, retryAfterMs: 5_000, ...lost };
    }),
  );
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const answer = await visitor.request(callback);
  assert.deepEqual([answer.status, answer.headers["retry-after"], seen.length], [503, "5", 1]);
  assert.ok(answer.body.includes("/oauth2/callback?"), "the page links to the same callback");
  cut = false;
  assert.equal((await visitor.navigate(callback)).body, "hello alice of admins,eng at app.localhost/");
  assert.equal(new Set(seen).size, 1, "one command id");
  assert.equal(sessions(world), 1);
});

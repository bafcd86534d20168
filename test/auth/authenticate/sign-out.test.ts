/** Sign-out: recorded in the log, forwarded to the provider, and only at the request of the user. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt } from "jose";
import { ProviderError } from "../../../src/auth/index.ts";
import type { ProviderTokens, SessionId } from "../../../src/events/index.ts";
import { signIn, startWorld, type World } from "./support.ts";

const onlySession = (world: World): SessionId => {
  const [session] = [...world.replica.projection.sessions()];
  return session?.sessionId ?? assert.fail("no session");
};
const statusOf = (world: World, id: SessionId): string => world.replica.projection.sessionStatus(id).status;
const tokensOf = async (world: World): Promise<ProviderTokens> =>
  (await world.deps.databroker.tokens(onlySession(world))) ?? assert.fail();

test("signing out on a route ends the session in the log, the tokens and the session at the provider", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  await visitor.navigate(world.url("wiki"));
  const tokens = await tokensOf(world);
  const sessionId = onlySession(world);

  const first = await visitor.request(world.url("app", "/.pomerium/sign_out"));
  assert.equal(first.status, 302);
  assert.equal(first.headers["cache-control"], "no-store");
  assert.equal(first.location?.searchParams.get("pomerium_end_session"), sessionId);
  assert.equal(visitor.cookie("app.localhost", "_pomerium"), undefined);

  const second = await visitor.request(first.location ?? "");
  assert.equal(second.status, 302);
  assert.equal(statusOf(world, sessionId), "revoked", "revoked before the redirect to the provider");
  assert.match(String(second.headers["cardea-position"]), /^[1-9]\d*$/, "where the log has it");
  assert.equal(visitor.cookie("authenticate.localhost", "_pomerium_authenticate"), undefined);
  const atProvider = second.location ?? assert.fail();
  assert.equal(atProvider.origin, world.idpUrl.origin);
  assert.equal(decodeJwt(atProvider.searchParams.get("id_token_hint") ?? "").sub, "alice");
  assert.equal(atProvider.searchParams.get("client_id"), "cardea");
  assert.equal(
    atProvider.searchParams.get("post_logout_redirect_uri"),
    world.url("authenticate", "/.pomerium/signed_out"),
  );

  const end = await visitor.navigate(atProvider);
  assert.equal(end.url.href.split("?")[0], world.url("authenticate", "/.pomerium/signed_out"));
  assert.match(end.body, /You&#39;re signed out/);
  const outcome = await world.oidc.refresh(tokens);
  assert.ok(outcome.type === "refused", "the provider has revoked the refresh token");
  assert.equal(outcome.error.error, "invalid_grant");
  assert.equal(await world.deps.databroker.tokens(sessionId), undefined, "the vault has deleted them");
  const wiki = await visitor.navigate(world.url("wiki"));
  assert.equal(wiki.url.origin, world.idpUrl.origin, "every route requires sign-in again");
});

test("a POST signs out as well, from a page of the same origin", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const sessionId = onlySession(world);
  await visitor.navigate(world.url("app", "/.pomerium/sign_out"), { form: {}, until: world.idpUrl.href });
  assert.equal(statusOf(world, sessionId), "revoked");
});

test("signed_out and the sign-out itself lead to the configured address", async (t) => {
  const world = await startWorld(t, { settings: { signoutRedirectUrl: new URL("https://www.example.com/bye") } });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const out = await visitor.navigate(
    world.url("app", "/.pomerium/sign_out?pomerium_redirect_uri=https://evil.example"),
    {
      until: world.idpUrl.href,
    },
  );
  assert.equal(out.location?.searchParams.get("post_logout_redirect_uri"), "https://www.example.com/bye");
  const page = await visitor.request(world.url("app", "/.pomerium/signed_out"));
  assert.match(page.body, /https:\/\/www\.example\.com\/bye/);
});

test("an unsigned sign-out shows a confirmation, whose button ends the session", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const sessionId = onlySession(world);
  const page = await visitor.request(
    world.url("authenticate", "/.pomerium/sign_out?pomerium_redirect_uri=https://evil.example"),
  );
  assert.equal(page.status, 200);
  assert.match(page.body, /Sign out\?/);
  assert.match(page.body, /alice@example\.com/);
  assert.ok(!page.body.includes("evil.example"));
  assert.equal(statusOf(world, sessionId), "active");

  const action = /action="([^"]+)"/.exec(page.body)?.[1]?.replaceAll("&amp;", "&") ?? assert.fail();
  const out = await visitor.request(action, { form: {} });
  assert.equal(statusOf(world, sessionId), "revoked");
  assert.equal(out.location?.origin, world.idpUrl.origin);
});

test("a page of another site cannot sign a user out (sign-out CSRF)", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const sessionId = onlySession(world);
  const elsewhere = [
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { referer: "https://evil.example/" },
    { origin: "https://evil.example" },
  ] as const;
  for (const headers of elsewhere) {
    const first = await visitor.request(world.url("app", "/.pomerium/sign_out"), { headers });
    assert.equal(first.location?.searchParams.get("pomerium_end_session"), null);
    assert.deepEqual(first.setCookies, [], "the route's cookie is kept as well");
    const confirmation = await visitor.request(first.location ?? "", { headers });
    assert.match(confirmation.body, /Sign out\?/);
    const posted = await visitor.request(world.url("authenticate", "/.pomerium/sign_out"), { form: {}, headers });
    assert.equal(posted.status, headers && "referer" in headers ? 200 : 400);
  }
  assert.equal(statusOf(world, sessionId), "active");
  assert.equal((await visitor.request(world.url("app"))).status, 200);
});

test("an attacker's own signed sign-out link shows the victim a confirmation", async (t) => {
  const world = await startWorld(t);
  const victim = world.visitor();
  await signIn(world, victim, "alice");
  const victims = onlySession(world);
  const attacker = world.visitor();
  await signIn(world, attacker, "bob");
  const own = (await attacker.request(world.url("app", "/.pomerium/sign_out"))).location ?? assert.fail();
  const page = await victim.request(own);
  assert.match(page.body, /Sign out\?/);
  assert.equal(statusOf(world, victims), "active");

  const unnamed = (await world.visitor().request(world.url("app", "/.pomerium/sign_out"))).location ?? assert.fail();
  assert.match((await victim.request(unnamed)).body, /Sign out\?/, "nor does a link that names no session");
  const confirm = await world.visitor().request(world.url("authenticate", "/.pomerium/sign_out"));
  assert.equal(confirm.location?.pathname, "/.pomerium/signed_out", "a visitor without a session sees no confirmation");
  assert.equal(statusOf(world, victims), "active");
});

test("signing out ends the route's session even if the authenticate host's cookie is gone", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const sessionId = onlySession(world);
  visitor.forget("authenticate.localhost");
  await visitor.navigate(world.url("app", "/.pomerium/sign_out"), { until: world.idpUrl.href });
  assert.equal(statusOf(world, sessionId), "revoked");
});

test("signing out twice, or without a session, shows neither an error nor a confirmation", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const link = (await visitor.request(world.url("app", "/.pomerium/sign_out"))).location ?? assert.fail();
  assert.equal((await visitor.request(link)).status, 302);
  assert.equal((await visitor.request(link)).status, 302, "the same link again");
  const again = await visitor.navigate(world.url("app", "/.pomerium/sign_out"));
  assert.match(again.body, /You&#39;re signed out/);
});

test("a cookie of a revoked session is cleared without a confirmation", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  await world.submit({ type: "revokeSession", sessionId: onlySession(world), reason: "operator" });
  const out = await visitor.request(world.url("authenticate", "/.pomerium/sign_out"));
  assert.equal(out.location?.pathname, "/.pomerium/signed_out");
  assert.equal(visitor.cookie("authenticate.localhost", "_pomerium_authenticate"), undefined);
});

test("a sign-out that cannot be recorded reports that the user is still signed in", async (t) => {
  let down = false;
  const world = await startWorld(t, {
    deps: (deps) => ({
      ...deps,
      sleep: async () => {},
      databroker: {
        ...deps.databroker,
        submit: async (request) =>
          down
            ? { type: "unavailable", commandId: request.commandId, message: "no", retryAfterMs: 10_000 }
            : deps.databroker.submit(request),
      },
    }),
  });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const link = (await visitor.request(world.url("app", "/.pomerium/sign_out"))).location ?? assert.fail();
  down = true;
  const answer = await visitor.request(link);
  assert.equal(answer.status, 503);
  assert.match(answer.body, /still signed in/);
  assert.ok(visitor.cookie("authenticate.localhost", "_pomerium_authenticate"));
  assert.equal(statusOf(world, onlySession(world)), "active");
  down = false;
  assert.equal((await visitor.request(link)).status, 302);
  assert.equal(statusOf(world, onlySession(world)), "revoked");
});

test("a provider that is down or hangs does not block sign-out", async (t) => {
  const never = new Promise<never>(() => {});
  for (const trouble of ["down", "hangs"] as const) {
    const failing = (): Promise<never> =>
      trouble === "hangs" ? never : Promise.reject(new ProviderError("down", { kind: "silent" }));
    const world = await startWorld(t, {
      deps: (deps, built) => ({
        ...deps,
        sleep: async () => {},
        providerOf: () => ({ ...built.oidc, revoke: failing, logoutUrl: failing }),
      }),
    });
    const visitor = world.visitor();
    await signIn(world, visitor, "alice");
    const end = await visitor.navigate(world.url("app", "/.pomerium/sign_out"));
    assert.match(end.body, /You&#39;re signed out/, trouble);
    assert.equal(statusOf(world, onlySession(world)), "revoked");
  }
});

test("signing out does not wait for a projection", async (t) => {
  let behind = false;
  const world = await startWorld(t, {
    deps: (deps) => ({ ...deps, catchUp: async (link) => (behind ? "behind" : deps.catchUp(link)) }),
  });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  behind = true;
  await visitor.navigate(world.url("app", "/.pomerium/sign_out"), { until: world.idpUrl.href });
  assert.equal(statusOf(world, onlySession(world)), "revoked");
});

test("a redirect address of a sign-out is followed only if enabled, and only to a route", async (t) => {
  const usual = "https://www.example.com/bye";
  const start = (signOutToRoutes: boolean): Promise<World> =>
    startWorld(t, { settings: { signOutToRoutes, signoutRedirectUrl: new URL(usual) } });
  const redirectAfter = async (world: World, named: string): Promise<string | null | undefined> => {
    const visitor = world.visitor();
    await signIn(world, visitor, "alice");
    const query = `?pomerium_redirect_uri=${encodeURIComponent(named)}`;
    const atProvider = await visitor.navigate(world.url("app", `/.pomerium/sign_out${query}`), {
      until: world.idpUrl.href,
    });
    return atProvider.location?.searchParams.get("post_logout_redirect_uri");
  };
  const [enabled, disabled] = [await start(true), await start(false)];
  assert.equal(await redirectAfter(disabled, disabled.url("wiki", "/a")), usual);
  assert.equal(await redirectAfter(enabled, enabled.url("wiki", "/a")), enabled.url("wiki", "/a"));
  assert.equal(await redirectAfter(enabled, "https://evil.example/"), usual);
  assert.equal(await redirectAfter(enabled, "javascript:alert(1)"), usual);
});

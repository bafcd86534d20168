/** Sign-in from a route's page to the identity provider and back, with a real provider and a real broker. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { cookieValue } from "../../../src/auth/index.ts";
import {
  type Command,
  decodeEvents,
  type GroupId,
  genesis,
  type Hash,
  linkOf,
  type NeededLink,
  type Position,
  type SessionId,
  tagOf,
  type UnixMs,
} from "../../../src/events/index.ts";
import { signIn, startWorld, subjectId } from "./support.ts";

test("a first visit ends on the requested page, signed in, with host-only cookies", async (t) => {
  const world = await startWorld(t, { par: "never" });
  const visitor = world.visitor();
  const first = await visitor.request(world.url("app", "/x?b=2&a=1"));
  assert.equal(first.status, 302);
  assert.equal(first.location?.origin, new URL(world.url("authenticate")).origin);
  assert.equal(first.location?.pathname, "/.pomerium/sign_in");
  assert.equal(first.location?.searchParams.get("pomerium_redirect_uri"), world.url("app", "/x?b=2&a=1"));
  assert.equal(first.location?.searchParams.get("pomerium_seen"), null, "no credential was refused");

  const redirect = await visitor.request(first.location ?? "");
  assert.equal(redirect.status, 302);
  assert.equal(redirect.headers["cache-control"], "no-store");
  assert.equal(redirect.headers["referrer-policy"], "no-referrer");
  const authorizationQuery = redirect.location?.searchParams;
  assert.equal(redirect.location?.origin, world.idpUrl.origin);
  assert.equal(authorizationQuery?.get("response_type"), "code");
  assert.equal(authorizationQuery?.get("code_challenge_method"), "S256");
  assert.equal(authorizationQuery?.get("redirect_uri"), world.url("authenticate", "/oauth2/callback"));
  assert.match(authorizationQuery?.get("nonce") ?? "", /^[\w-]{40,}$/);

  const form = await visitor.navigate(redirect.location ?? "");
  const back = await visitor.navigate(form.url, { form: { user: "alice", password: "x" } });
  assert.equal(back.status, 200, back.body);
  assert.equal(back.url.href, world.url("app", "/x?b=2&a=1"));
  assert.equal(back.body, "hello alice of admins,eng at app.localhost/x?b=2&a=1");

  assert.deepEqual([...visitor.cookieNames("app.localhost")].sort(), [
    "_pomerium",
    "_pomerium_nonce",
    "_pomerium_returns",
  ]);
  assert.deepEqual([...visitor.cookieNames("authenticate.localhost")].sort(), [
    "_pomerium_authenticate",
    "_pomerium_csrf",
  ]);
  for (const [host, name] of [
    ["app.localhost", "_pomerium"],
    ["app.localhost", "_pomerium_nonce"],
    ["app.localhost", "_pomerium_returns"],
    ["authenticate.localhost", "_pomerium_authenticate"],
    ["authenticate.localhost", "_pomerium_csrf"],
  ] as const) {
    const line = visitor.lineOf(host, name) ?? "";
    for (const wanted of ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"]) assert.ok(line.includes(wanted), line);
    assert.ok(!/domain/i.test(line), line);
  }
});

test("a sign-in records a session, a user, groups from the claim, and tokens in the vault", async (t) => {
  const world = await startWorld(t);
  await signIn(world, world.visitor(), "alice");
  const { projection } = world.replica;
  const [session, ...others] = [...projection.sessions()];
  assert.deepEqual(others, []);
  assert.equal(session?.userId, subjectId(world, "alice"));
  assert.ok(session?.status === "active" && session.idpId === "demo");
  const profile = world.replica.open(session.profile, session.userId);
  assert.equal(profile?.subject, "alice");
  assert.equal(profile?.email, "alice@example.com");
  assert.equal(profile?.emailVerified, true);
  assert.equal(profile?.claims["exp"], undefined, "a claim of the token, not of the user");
  assert.deepEqual([...projection.groupsOf(session.userId, Date.now() as UnixMs)].sort(), ["admins", "eng"]);
  const tokens = await world.deps.databroker.tokens(session.sessionId);
  assert.ok(tokens?.accessToken && tokens.refreshToken && tokens.idToken);
});

test("a sign-in's handle names the log position that its session needs, and the incarnation of its epoch", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const line = visitor.lineOf("app.localhost", "_pomerium") ?? "";
  const handle = await world.deps.handles.verify(line.slice(line.indexOf("=") + 1, line.indexOf(";")));
  assert.ok(handle !== "invalid" && handle.needs !== null);
  const { incarnation, ...link } = handle.needs;
  const read = await world.broker.databroker("proxy").read(genesis, { limit: link.position, waitMs: 0 });
  const events = read.type === "page" ? decodeEvents(read.page.entries, genesis) : [];
  const opened = events[0]?.event;
  assert.ok(opened?.type === "EpochOpened" && incarnation === tagOf(opened.incarnation));
  const needed = events.find(({ position }) => position === link.position);
  assert.ok(needed !== undefined);
  assert.deepEqual(link, linkOf(needed));
});

test("a second route needs one round trip and no visit to the provider", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const second = await visitor.navigate(world.url("wiki", "/page"));
  assert.equal(second.body, "hello alice of admins,eng at wiki.localhost/page");
  assert.equal([...world.replica.projection.sessions()].length, 1, "the same session");
});

test("the cookie of one route is valid for no other route and not for the authenticate host", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  await visitor.navigate(world.url("wiki"));
  const stolen = visitor.cookie("app.localhost", "_pomerium") ?? "";
  const thief = world.visitor();
  for (const host of ["wiki", "app"] as const) {
    const answer = await thief.request(world.url(host), { headers: { cookie: `_pomerium=${stolen}` } });
    assert.equal(answer.status, host === "app" ? 200 : 302, host);
  }
  const here = await thief.request(world.url("authenticate", "/.pomerium/"), {
    headers: { cookie: `_pomerium_authenticate=${stolen}` },
  });
  assert.match(here.body, /You&#39;re not signed in/);
  const authenticate = visitor.cookie("authenticate.localhost", "_pomerium_authenticate") ?? "";
  const redirect = await thief.request(world.url("app"), { headers: { cookie: `_pomerium=${authenticate}` } });
  assert.equal(redirect.status, 302, "nor the other way round");
});

test("thirty tabs that start at once in a browser without a cookie all reach their page", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const paths = Array.from({ length: 30 }, (_, i) => `/tab-${i}`);
  const tabs = await Promise.all(
    paths.map((path) => visitor.navigate(world.url("app", path), { until: world.idpUrl.href })),
  );
  assert.deepEqual(visitor.cookieNames("authenticate.localhost"), ["_pomerium_csrf"]);
  assert.deepEqual(visitor.cookieNames("app.localhost"), ["_pomerium_nonce"]);
  assert.ok(visitor.cookieHeader(new URL(world.url("authenticate"))).length < 200, "headers stay small");
  for (const i of [0, 13, 29]) {
    const form = await visitor.navigate(tabs[i]?.location ?? "");
    let back = await visitor.navigate(form.url, { form: { user: "bob", password: "x" } });
    // Another tab's response replaced this tab's cookie, so the sign-in restarts once with the cookie that remained.
    if (back.url.origin === world.idpUrl.origin)
      back = await visitor.navigate(back.url, { form: { user: "bob", password: "x" } });
    assert.equal(back.url.href, world.url("app", `/tab-${i}`), back.body);
    assert.equal(back.status, 200);
  }
});

test("tabs that start later share the cookie, and each of their sign-ins succeeds", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await visitor.navigate(world.url("app"));
  const tabs = await Promise.all(
    ["/a", "/b", "/c", "/d", "/e", "/f", "/g"].map((path) =>
      visitor.navigate(world.url("app", path), { until: world.idpUrl.href }),
    ),
  );
  for (const tab of tabs) {
    const form = await visitor.navigate(tab.location ?? "");
    const back = await visitor.navigate(form.url, { form: { user: "bob", password: "x" } });
    assert.equal(back.status, 200);
    assert.match(back.url.pathname, /^\/[a-g]$/);
  }
});

test("a page with a very long address is restored, or at least its path", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const long = `/report?${"q=1234567890&".repeat(120)}`;
  assert.equal((await signIn(world, visitor, "alice", world.url("app", long))).url.href, world.url("app", long));
  const other = world.visitor();
  const longer = `/report?${"q=1234567890&".repeat(500)}`;
  assert.equal((await signIn(world, other, "alice", world.url("app", longer))).url.href, world.url("app", "/report"));
});

test("where the provider takes pushed requests, nothing but a reference to them is in the browser", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const redirect = await visitor.navigate(world.url("app", "/x"), { until: world.idpUrl.href });
  assert.deepEqual([...(redirect.location?.searchParams.keys() ?? [])].sort(), ["client_id", "request_uri"]);
});

test("a network that starts sign-ins too fast pushes no more requests, and still signs in", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const first = await visitor.request(world.url("app", "/x"));
  const keys = new Set<string>();
  // The budget refills meanwhile, so many requests at once use it up, also on a slow machine.
  for (let i = 0; i < 50 && keys.size < 2; i++) {
    const answers = await Promise.all(Array.from({ length: 20 }, () => visitor.request(first.location ?? "")));
    for (const { location } of answers) keys.add([...(location?.searchParams.keys() ?? [])].sort().join(" "));
  }
  assert.ok(keys.has("client_id request_uri"));
  assert.equal(keys.size, 2, [...keys].join("; "));
  assert.match((await signIn(world, visitor, "alice")).body, /^hello alice/);
});

test("a signed-in user who requests sign-in can choose another account", async (t) => {
  const world = await startWorld(t, { par: "never" });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const signInRedirect = await visitor.navigate(
    world.url("app", "/.pomerium/sign_in?pomerium_redirect_uri=http%3A%2F%2Fevil.example"),
    {
      until: world.idpUrl.href,
    },
  );
  assert.equal(signInRedirect.location?.searchParams.get("prompt"), "login");
  const form = await visitor.navigate(signInRedirect.location ?? "");
  const back = await visitor.navigate(form.url, { form: { user: "bob", password: "x" } });
  assert.equal(back.url.href, world.url("app", "/.pomerium/"), "a redirect to another site is ignored");
  assert.match((await visitor.request(world.url("app"))).body, /^hello bob/);
});

test("above the maximum of sessions per user the oldest session ends", async (t) => {
  const world = await startWorld(t, { settings: { maxSessionsPerUser: 2 } });
  const visitors = [world.visitor(), world.visitor(), world.visitor()];
  for (const visitor of visitors) await signIn(world, visitor, "alice");
  const answers = await Promise.all(visitors.map((visitor) => visitor.request(world.url("app"))));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [302, 200, 200],
  );
});

test("a suspended user sees a page after the provider, and can sign in again once restored", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const userId = subjectId(world, "alice");
  await world.submit({ type: "suspendUser", userId, reason: "test" });
  const refused = await signIn(world, visitor, "alice");
  assert.equal(refused.status, 403);
  assert.match(refused.body, /suspended/);
  assert.equal(refused.url.pathname, "/oauth2/callback", "no redirect");
  assert.equal((await signIn(world, world.visitor(), "bob")).status, 200, "other users are not affected");
  await world.submit({ type: "restoreUser", userId });
  assert.match((await signIn(world, visitor, "alice")).body, /^hello alice/);
});

test("a revoked session leads to the provider, not into a redirect loop", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const [session] = [...world.replica.projection.sessions()];
  await world.submit({ type: "revokeSession", sessionId: session?.sessionId as SessionId, reason: "operator" });
  const refused = await visitor.request(world.url("app"));
  assert.ok(refused.location?.searchParams.get("pomerium_seen"), "the proxy states the log position that it has seen");
  const form = await visitor.navigate(world.url("app"));
  assert.equal(form.url.origin, world.idpUrl.origin);
});

test("a session that is about to end is not handed over, so clock skew cannot cause a redirect loop", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  world.clockMs = 14 * 3_600_000 - 20_000;
  const form = await visitor.navigate(world.url("wiki"));
  assert.equal(form.url.origin, world.idpUrl.origin);
});

test("a route's host shows the user's identity as a page and as JSON", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  assert.match((await visitor.request(world.url("app", "/.pomerium/"))).body, /You&#39;re not signed in/);
  const json = { accept: "application/json" };
  const stranger = await visitor.request(world.url("app", "/.pomerium/user"), { headers: json });
  assert.equal(stranger.status, 401);
  assert.deepEqual(JSON.parse(stranger.body), { error: "Unauthenticated", request_id: "request-1" });
  const script = { "sec-fetch-mode": "cors", accept: "text/html" };
  assert.equal((await visitor.request(world.url("app", "/.pomerium/user"), { headers: script })).status, 401);
  assert.equal((await visitor.request(world.url("app", "/.pomerium/user"))).status, 302);

  await signIn(world, visitor, "alice", world.url("app", "/.pomerium/user"));
  const me = await visitor.request(world.url("app", "/.pomerium/user"), { headers: json });
  assert.equal(me.status, 200);
  assert.equal(me.headers["cache-control"], "no-store");
  const claims = JSON.parse(me.body) as Record<string, unknown>;
  assert.equal(claims["sub"], "alice");
  assert.equal(claims["email"], "alice@example.com");
  assert.deepEqual(claims["groups"], ["admins", "eng"]);
  for (const name of ["iss", "aud", "exp", "iat", "jti"]) assert.ok(!(name in claims), name);
  const page = await visitor.request(world.url("app", "/.pomerium/"));
  assert.match(page.body, /alice@example\.com/);
  const session = [...world.replica.projection.sessions()][0];
  const tokens = await world.deps.databroker.tokens(session?.sessionId as SessionId);
  for (const secret of [
    tokens?.accessToken,
    tokens?.refreshToken,
    tokens?.idToken,
    visitor.cookie("app.localhost", "_pomerium"),
  ])
    assert.ok(secret && !page.body.includes(secret), "no token on a page");
  assert.match((await visitor.request(world.url("authenticate", "/.pomerium/"))).body, /alice@example\.com/);
});

test("groups that the provider claims count only if groups_from_claim is set", async (t) => {
  const world = await startWorld(t, { settings: { groupsFromClaim: null } });
  const visitor = world.visitor();
  assert.equal((await signIn(world, visitor, "alice")).body, "hello alice of  at app.localhost/");
  assert.equal(world.replica.projection.group("eng" as GroupId), undefined);
});

test("with a cookie domain one cookie serves all routes below it", async (t) => {
  const world = await startWorld(t, { cookie: { domain: "localhost" } });
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  assert.match(visitor.lineOf("localhost", "_pomerium") ?? "", /Domain=localhost/);
  assert.equal((await visitor.request(world.url("wiki"))).status, 200);
  const header = visitor.cookieHeader(new URL(world.url("wiki")));
  assert.equal(
    cookieValue(header, "_pomerium_authenticate"),
    undefined,
    "cookies of the proxy itself stay with their host",
  );
});

test("a caller without scripts keeps an address of 3,000 characters through its redirects", async (t) => {
  const world = await startWorld(t);
  const page = world.url("app", `/x?q=${"0123456789".repeat(300)}`);
  const back = await signIn(world, world.visitor(), "alice", page);
  assert.equal(back.url.href, page);
});

test("the page that restores a long address exists only on route hosts, and no HPKE key is served", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const answer = await visitor.request(world.url("app", "/.pomerium/return?pomerium_redirect_uri=%2F%5Cevil.example"));
  assert.equal(answer.status, 200);
  assert.doesNotMatch(answer.body, /evil/);
  assert.equal(
    (await visitor.request(world.url("app", "/.pomerium/address.js"))).headers["content-type"],
    "text/javascript; charset=utf-8",
  );
  for (const host of ["app", "authenticate"])
    assert.equal((await visitor.request(world.url(host, "/.well-known/pomerium/hpke-public-key"))).status, 404, host);
  assert.equal((await visitor.request(world.url("nowhere", "/.pomerium/return"))).status, 404);
});

test("a sign-in that began by a history that the log has lost is refused after a revocation, and begins anew", async (t) => {
  const appliedLinks: NeededLink[] = [];
  let isLost = false;
  const sent: Command[] = [];
  const world = await startWorld(t, {
    deps: (deps) => ({
      ...deps,
      databroker: {
        ...deps.databroker,
        submit: (request) => {
          sent.push(request.command);
          return deps.databroker.submit(request);
        },
      },
      replica: Object.create(deps.replica, {
        appliedLink: {
          get(): NeededLink {
            const link = deps.replica.appliedLink;
            appliedLinks.push(link);
            return isLost
              ? { ...link, position: (link.position + 500) as Position, hash: "f".repeat(64) as Hash }
              : link;
          },
        },
      }),
    }),
  });
  const beginning = () => sent.findLast((command) => command.type === "createSession")?.begunLink;
  const visitor = world.visitor();
  assert.equal((await signIn(world, visitor, "alice")).status, 200);
  assert.deepEqual(beginning(), appliedLinks[0]);
  assert.match(beginning()?.incarnation ?? "", /^.{8}$/);
  const userId = subjectId(world, "alice");
  const cut = await world.submit({ type: "revokeUserSessions", userId, reason: "operator" });
  assert.ok(cut.type === "done" && (await world.replica.waitFor(cut.link, 5_000)) === "reached");
  isLost = true;
  const refused = await signIn(world, world.visitor(), "alice");
  assert.equal(refused.status, 400);
  assert.match(refused.body, /You were signed out/);
  assert.equal(beginning()?.hash, "f".repeat(64));
  isLost = false;
  assert.equal((await signIn(world, world.visitor(), "alice")).status, 200);
});

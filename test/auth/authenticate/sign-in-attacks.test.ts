/**
 * Attacks on sign-in: forged, replayed, started in another browser, planted by a sibling host, or redirected to another
 * site.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { signUrl } from "../../../src/auth/authenticate/sign-in/signed-url.ts";
import { createValueCipher } from "../../../src/auth/index.ts";
import { deriveKey } from "../../../src/replication/wire/index.ts";
import { secret, signIn, signInUpToCallback, startWorld } from "./support.ts";

test("a callback with a forged, changed or missing state or code, or one of another sign-in, is refused", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const good = await signInUpToCallback(world, visitor, "alice");
  const other = await signInUpToCallback(world, visitor, "bob", world.url("app", "/other"));
  const forgedBox = createValueCipher({
    keys: [new Uint8Array(32).fill(9)],
    nowS: () => Math.floor(Date.now() / 1_000),
  });
  const forged = await forgedBox.seal("sign-in state", {});
  const cases: Readonly<Record<string, (url: URL) => void>> = {
    "no state": (url) => url.searchParams.delete("state"),
    "an empty state": (url) => url.searchParams.set("state", ""),
    "an invented state": (url) => url.searchParams.set("state", "AAAA"),
    "a state sealed with another key": (url) => url.searchParams.set("state", forged),
    "a changed state": (url) =>
      url.searchParams.set("state", `${url.searchParams.get("state")?.slice(0, -12)}AAAAAAAAAAAA`),
    "a doubled state": (url) => url.searchParams.append("state", url.searchParams.get("state") ?? ""),
    "no code": (url) => url.searchParams.delete("code"),
    "an invented code": (url) => url.searchParams.set("code", "made-up"),
    // The verifier in the state does not belong to this code, so the provider refuses it (PKCE).
    "the code of another sign-in": (url) => url.searchParams.set("code", other.searchParams.get("code") ?? ""),
    "another issuer": (url) => url.searchParams.set("iss", "https://evil.example"),
  };
  for (const [what, change] of Object.entries(cases)) {
    const url = new URL(good);
    change(url);
    const answer = await visitor.request(url);
    assert.ok(answer.status === 400 || answer.status === 502, `${what}: ${answer.status}`);
    assert.equal(visitor.cookie("authenticate.localhost", "_pomerium_authenticate"), undefined, what);
    assert.equal(answer.headers["referrer-policy"], "no-referrer", what);
  }
  assert.equal([...world.replica.projection.sessions()].length, 0);
});

test("a sign-in that took longer than half an hour must be restarted", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  world.clockMs = 31 * 60_000;
  const answer = await visitor.request(callback);
  assert.equal(answer.status, 400);
  assert.match(answer.body, /30 minutes/);
});

test("a provider's callback in a browser that did not start the sign-in is refused", async (t) => {
  const world = await startWorld(t);
  const callback = await signInUpToCallback(world, world.visitor(), "alice");
  const stranger = world.visitor();
  const answer = await stranger.request(callback);
  assert.equal(answer.status, 400);
  assert.match(answer.body, /was not started in this browser/);
  assert.ok(answer.body.includes(world.url("app", "/")), "the page links to a new start");
  assert.deepEqual(stranger.cookieNames("authenticate.localhost"), []);

  const busy = world.visitor();
  await busy.navigate(world.url("wiki"), { until: world.idpUrl.href });
  const again = await busy.request(callback);
  assert.equal(again.status, 302, "a browser with its own pending sign-in starts again");
  assert.equal(again.location?.href, world.url("app", "/"));
  assert.equal(busy.cookie("authenticate.localhost", "_pomerium_authenticate"), undefined);
  assert.equal([...world.replica.projection.sessions()].length, 0);
});

test("a callback on a route's host that another browser started is refused (login CSRF)", async (t) => {
  const world = await startWorld(t);
  const attacker = world.visitor();
  const callback = await signInUpToCallback(world, attacker, "bob");
  const handover = (await attacker.navigate(callback, { until: world.url("app") })).location;
  assert.equal(handover?.pathname, "/.pomerium/callback/");

  const victim = world.visitor();
  const refused = await victim.request(handover ?? "");
  assert.equal(refused.status, 400);
  assert.equal(refused.headers["referrer-policy"], "no-referrer");
  assert.deepEqual(victim.cookieNames("app.localhost"), []);

  const busy = world.visitor();
  await busy.request(world.url("app"));
  const nonce = busy.cookie("app.localhost", "_pomerium_nonce");
  const anew = await busy.request(handover ?? "");
  assert.equal(anew.status, 302);
  assert.equal(anew.location?.href, world.url("app", "/"));
  assert.deepEqual(busy.cookieNames("app.localhost"), ["_pomerium_nonce"]);
  assert.equal(busy.cookie("app.localhost", "_pomerium_nonce"), nonce);
});

test("a handover is valid only for its own host, for a few minutes, and unchanged", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const handover = (await visitor.navigate(callback, { until: world.url("app") })).location ?? assert.fail();
  await visitor.request(world.url("wiki")); // sets a nonce there as well
  const cases: Readonly<Record<string, (url: URL) => void>> = {
    "on another route's host": (url) => {
      url.hostname = "wiki.localhost";
    },
    "towards another site": (url) => url.searchParams.set("pomerium_redirect_uri", "http://evil.example/"),
    "without a signature": (url) => url.searchParams.delete("pomerium_signature"),
    "with a later expiry": (url) => url.searchParams.set("pomerium_expiry", "9999999999"),
    "turned programmatic": (url) => url.searchParams.set("pomerium_programmatic", "true"),
    "with another session": (url) => url.searchParams.set("pomerium_session_encrypted", "AAAA"),
    "with a parameter doubled": (url) => url.searchParams.append("pomerium_nonce", "x"),
  };
  for (const [what, change] of Object.entries(cases)) {
    const url = new URL(handover);
    change(url);
    const answer = await visitor.request(url);
    assert.equal(answer.status, 400, what);
    assert.ok(!answer.setCookies.some((line) => line.startsWith("_pomerium=")), what);
  }
  world.clockMs = 390_000;
  assert.match((await visitor.request(handover)).body, /expired/);
  world.clockMs = -90_000;
  assert.match((await visitor.request(handover)).body, /from the future/);
  world.clockMs = 0;
  assert.equal((await visitor.navigate(handover)).body, "hello alice of admins,eng at app.localhost/");
});

test("a handover replayed after sign-out grants no access", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const handover = (await visitor.navigate(callback, { until: world.url("app") })).location ?? assert.fail();
  await visitor.navigate(handover);
  await visitor.navigate(world.url("app", "/.pomerium/sign_out"));
  const replayed = await visitor.request(handover);
  assert.equal(replayed.status, 302, "it is signed, and this browser's own");
  assert.equal((await visitor.request(world.url("app"))).status, 302, "but its session has ended");
});

test("a handle that is sealed with another key is not accepted as a handover", async (t) => {
  const world = await startWorld(t, {
    deps: (deps) => ({
      ...deps,
      handleCipher: {
        ...deps.handleCipher,
        // As if the authenticate service sealed with the key of sign-in attempts.
        seal: (purpose, value) => deps.stateCipher.seal(purpose, value),
      },
    }),
  });
  const answer = await signIn(world, world.visitor(), "alice");
  assert.equal(answer.status, 400);
  assert.match(answer.body, /could not be read/);
});

test("a host that no route names never redirects to sign-in, so no handle is issued for it", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (const path of [
    "/.pomerium/sign_in",
    "/.pomerium/user",
    "/.pomerium/api/v1/login?pomerium_redirect_uri=http%3A%2F%2Flocalhost%3A9",
  ]) {
    const answer = await visitor.request(world.url("app", path), { headers: { host: "evil.example" } });
    assert.ok(answer.status === 404 || answer.status === 401, `${path}: ${answer.status}`);
    assert.equal(answer.location, null);
    assert.ok(!answer.body.includes("pomerium_signature"));
    const otherPort = await visitor.request(world.url("app", path), { headers: { host: "app.localhost:1" } });
    assert.equal(otherPort.location, null, "nor for another port of a known host");
  }
});

test("a redirect address on another host is ignored", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const answer = await visitor.request(world.url("app", "/.pomerium/sign_in?pomerium_redirect_uri=//evil.example"));
  const to = answer.location?.searchParams.get("pomerium_redirect_uri");
  assert.equal(to, world.url("app", "/.pomerium/"));
});

test("a sign-in link of the authenticate host must be signed, unchanged and recent", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const link = (await visitor.request(world.url("app"))).location ?? assert.fail();
  const changed = new URL(link);
  changed.searchParams.set("pomerium_redirect_uri", "https://evil.example/");
  const bare = world.url("authenticate", "/.pomerium/sign_in?pomerium_redirect_uri=https%3A%2F%2Fevil.example");
  for (const url of [changed, new URL(bare)]) {
    const answer = await visitor.request(url);
    assert.equal(answer.status, 400);
    assert.match(answer.body, /not created by this installation/);
    assert.ok(!answer.body.includes("evil.example"));
  }
  world.clockMs = 6 * 60_000 + 1_000;
  assert.match((await visitor.request(link)).body, /expired/);
});

test("even a signed link cannot redirect to a host that no route names", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const [key] = world.deps.settings.urlKeys;
  for (const [name, value] of [
    ["pomerium_redirect_uri", "https://evil.example/"],
    ["pomerium_callback_uri", "https://evil.example/.pomerium/callback/"],
  ] as const) {
    const link = new URL(world.url("authenticate", "/.pomerium/sign_in"));
    link.searchParams.set("pomerium_redirect_uri", world.url("app"));
    link.searchParams.set(name, value);
    const answer = await visitor.request(signUrl(link, key ?? assert.fail(), Math.floor(Date.now() / 1_000)));
    assert.equal(answer.status, 400, name);
    assert.equal(answer.location, null);
  }
});

test("cookies that a sibling host plants are ignored on https", async (t) => {
  // The browser enforces the __Host- prefix. This tests the other half: the unprefixed name is not read on https.
  const world = await startWorld(t);
  const https = { ...world.deps, settings: { ...world.deps.settings, isRouteOrigin: () => true } };
  const { beginSignIn } = await import("../../../src/auth/index.ts");
  const planted = "p".repeat(32);
  const { location, setCookies } = beginSignIn(
    https,
    new URL("https://app.example.com/"),
    `_pomerium_nonce=${planted}`,
  );
  assert.match(setCookies[0] ?? "", /^__Host-_pomerium_nonce=/);
  assert.match(setCookies[0] ?? "", /; Secure; SameSite=Lax$/);
  assert.ok(!(setCookies[0] ?? "").includes(planted) && !location.includes(planted));
});

test("signed URLs, sign-in attempts and handovers use three different keys", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const state = callback.searchParams.get("state") ?? "";
  const now = (): number => Math.floor(Date.now() / 1_000);
  const open = (purpose: string) =>
    createValueCipher({ keys: [deriveKey(secret, purpose)], nowS: now }).open("sign-in state", state, 600);
  assert.ok(await open("sign-in attempts"));
  assert.equal(await open("session handover"), undefined);
  assert.equal(await open("signed urls"), undefined);
});

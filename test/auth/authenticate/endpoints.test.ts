/** Endpoints that every host serves without a session (docs/pomerium-behaviour.md §2.3), and how the others refuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { signIn, startWorld } from "./support.ts";

test("every host serves ping and healthz to GET and HEAD, and to no other method", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (const host of ["app", "authenticate", "unknown"]) {
    for (const path of ["/ping", "/healthz"]) {
      const url = world.url(host, path);
      const got = await visitor.request(url);
      assert.equal(got.status, 200);
      assert.equal(got.body, "OK\n");
      assert.equal(got.headers["content-type"], "text/plain; charset=utf-8");
      const head = await visitor.request(url, { method: "HEAD" });
      assert.equal(head.status, 200);
      assert.equal(head.body, "");
      for (const method of ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"]) {
        const refused = await visitor.request(url, { method });
        assert.equal(refused.status, 405, `${method} ${url}`);
        assert.equal(refused.headers["allow"], "GET, HEAD");
      }
    }
  }
});

test("the well-known document names the requested host, with and without a trailing slash", async (t) => {
  const world = await startWorld(t);
  for (const path of ["/.well-known/pomerium", "/.well-known/pomerium/"]) {
    const answer = await world.visitor().request(world.url("app", path));
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["access-control-allow-origin"], "*");
    assert.match(String(answer.headers["content-type"]), /^application\/json/);
    assert.deepEqual(JSON.parse(answer.body), {
      issuer: world.url("app", "/"),
      authentication_callback_endpoint: world.url("authenticate", "/oauth2/callback"),
      jwks_uri: world.url("app", "/.well-known/pomerium/jwks.json"),
      frontchannel_logout_uri: world.url("app", "/.pomerium/sign_out"),
      backchannel_logout_uri: world.url("authenticate", "/.pomerium/backchannel_logout"),
    });
  }
});

test("the JWKS holds only public keys, is cacheable for a minute, has a strong validator and is readable from every origin", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (const host of ["app", "authenticate"]) {
    const url = world.url(host, "/.well-known/pomerium/jwks.json");
    const answer = await visitor.request(url);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["access-control-allow-origin"], "*");
    assert.equal(answer.headers["cache-control"], "max-age=60");
    const { keys } = JSON.parse(answer.body) as { keys: Record<string, string>[] };
    assert.equal(keys.length, 1);
    for (const name of ["kty", "crv", "x", "y", "kid", "alg", "use"]) assert.ok(keys[0]?.[name], name);
    assert.equal(keys[0]?.["d"], undefined);
    const etag = String(answer.headers["etag"]);
    assert.match(etag, /^"[^"]+"$/);
    for (const validator of [etag, `"other", ${etag}`, `W/${etag}`, "*"]) {
      const same = await visitor.request(url, { headers: { "if-none-match": validator } });
      assert.equal(same.status, 304, validator);
      assert.equal(same.body, "");
      assert.equal(same.headers["etag"], etag);
      assert.equal(same.headers["access-control-allow-origin"], "*");
    }
    assert.equal((await visitor.request(url, { headers: { "if-none-match": '"other"' } })).status, 200);
    assert.equal((await visitor.request(url, { method: "POST" })).status, 405);
  }
});

test("the prefix redirects to its trailing slash, and the authenticate host serves its root and robots.txt", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (const host of ["app", "authenticate"]) {
    const answer = await visitor.request(world.url(host, "/.pomerium"));
    assert.equal(answer.status, 301);
    assert.equal(answer.location?.href, world.url(host, "/.pomerium/"));
  }
  const root = await visitor.request(world.url("authenticate"));
  assert.equal(root.status, 302);
  assert.equal(root.location?.pathname, "/.pomerium/");
  const robots = await visitor.request(world.url("authenticate", "/robots.txt"));
  assert.equal(robots.body, "User-agent: *\nDisallow: /\n");
});

test("endpoints that start or end a session refuse HEAD", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  for (const url of [
    world.url("app", "/.pomerium/sign_out"),
    world.url("app", "/.pomerium/sign_in"),
    world.url("app", "/.pomerium/callback/"),
    world.url("authenticate", "/.pomerium/sign_out"),
    world.url("authenticate", "/.pomerium/sign_in"),
    world.url("authenticate", "/oauth2/callback"),
  ]) {
    const answer = await visitor.request(url, { method: "HEAD" });
    assert.equal(answer.status, 405, url);
    assert.deepEqual(answer.setCookies, []);
  }
  for (const path of ["/.pomerium/", "/.pomerium/user", "/.well-known/pomerium/jwks.json"])
    assert.equal((await visitor.request(world.url("app", path), { method: "HEAD" })).status, 200, path);
});

test("an unknown address under the prefix is 404, as a page, or as JSON if the caller accepts only JSON", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (const host of ["app", "authenticate"]) {
    const url = world.url(host, "/.pomerium/nothing");
    const page = await visitor.request(url);
    assert.equal(page.status, 404);
    assert.match(page.body, /There is no page at this address/);
    assert.equal(page.headers["x-pomerium-intercepted-response"], "true");
    assert.match(String(page.headers["content-security-policy"]), /default-src 'none'/);
    assert.equal(page.headers["cache-control"], "no-store");
    const json = await visitor.request(url, { headers: { accept: "application/json" } });
    assert.equal(json.status, 404);
    const body = JSON.parse(json.body) as Record<string, unknown>;
    assert.equal(body["Status"], 404);
    assert.equal(body["RequestID"], "request-1");
    assert.ok(body["description"]);
    const both = await visitor.request(url, { headers: { accept: "application/json, text/html" } });
    assert.match(String(both.headers["content-type"]), /^text\/html/);
  }
});

test("odd methods, bodies and paths are refused and log no warning", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const ask = async (path: string, more: Parameters<typeof visitor.request>[1]): Promise<number> =>
    (await visitor.request(world.url("app", path), more)).status;
  assert.equal(await ask("/.pomerium/sign_out", { method: "PROPFIND" }), 405);
  assert.equal(
    await ask("/.pomerium/sign_out", { method: "POST", body: "{", headers: { "content-type": "application/json" } }),
    400,
  );
  assert.equal(
    await ask("/.pomerium/sign_out", { method: "POST", body: "x", headers: { "content-type": "text/odd" } }),
    415,
  );
  const long = "a=".padEnd(70_000, "b");
  const form = { "content-type": "application/x-www-form-urlencoded" };
  assert.equal(await ask("/.pomerium/sign_out", { method: "POST", body: long, headers: form }), 413);
  assert.equal(await ask("/.pomerium/user%2f", {}), 404);
  assert.equal(await ask("//.pomerium/user", {}), 302, "not under the prefix: the route decides");
  assert.deepEqual(world.warnings, []);
});

test("the user page of the authenticate host accepts a signed address and drops its query, and refuses an unsigned one", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const { signUrl } = await import("../../../src/auth/authenticate/sign-in/signed-url.ts");
  const url = new URL(world.url("authenticate", "/.pomerium/?pomerium_redirect_uri=https%3A%2F%2Fapp.example"));
  const [key] = world.deps.settings.urlKeys;
  const signed = signUrl(url, key ?? assert.fail(), Math.floor(Date.now() / 1_000));
  const answer = await visitor.request(signed);
  assert.equal(answer.status, 302);
  assert.equal(answer.location?.search, "");
  assert.equal((await visitor.request(url)).status, 400);
});

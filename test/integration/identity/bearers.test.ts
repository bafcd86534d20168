// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Bearer tokens of a real identity provider as credentials. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { decodeJwt } from "jose";
import { waitFor } from "../../support/wait-for.ts";
import { bearing, echoOf, type Installation, shared, startInstallation } from "./installation.ts";
import { revokeSession } from "./operator.ts";

const forwards = {
  set_request_headers: { "X-Access": "${pomerium.access_token}", "X-Id": "${pomerium.id_token}" },
  allow_any_authenticated_user: true,
};
const identified = { allow_any_authenticated_user: true, pass_identity_headers: true };

const installation = shared((t) =>
  startInstallation(t, ({ url, upstream, sparePort }) => ({
    decision_api: { address: `127.0.0.1:${sparePort}`, trusted_proxies: ["127.0.0.1"] },
    jwt_claims_headers: { "X-Email": "email" },
    routes: [
      { from: url("app"), to: upstream, ...forwards },
      { from: url("access"), to: upstream, bearer_token_format: "idp_access_token", ...identified },
      { from: url("id"), to: upstream, bearer_token_format: "idp_identity_token", ...identified },
      { from: url("plain"), to: upstream, allow_public_unauthenticated_access: true },
      {
        from: url("bob"),
        to: upstream,
        bearer_token_format: "idp_access_token",
        allowed_users: ["bob@example.com"],
      },
      {
        from: url("audience"),
        to: upstream,
        bearer_token_format: "idp_access_token",
        idp_access_token_allowed_audiences: ["https://api.example.com"],
        ...identified,
      },
      {
        from: url("second"),
        to: upstream,
        idp_client_id: "second",
        idp_client_secret: "the client secret of second",
        bearer_token_format: "idp_identity_token",
        ...identified,
      },
    ],
  })),
);

async function tokensOf(at: Installation, user: string): Promise<Readonly<{ access: string; id: string }>> {
  at.provider.person.name = user;
  const { headers } = echoOf(await at.visitor().navigate(at.url("app")));
  return { access: String(headers["x-access"]), id: String(headers["x-id"]) };
}

test("an access token of the provider identifies its owner for policy, and any other token is refused", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  const { headers } = echoOf(await cli.request(at.url("access"), bearing(access)));
  assert.equal(headers["x-email"], "alice@example.com");
  assert.equal(decodeJwt(String(headers["x-pomerium-jwt-assertion"])).sub, "alice");
  // The upstream must not get the credential: with it, it could act as alice.
  assert.equal(headers.authorization, undefined);

  assert.equal((await cli.request(at.url("bob"), bearing(access))).status, 403);
  const bob = await tokensOf(at, "bob");
  assert.equal((await cli.request(at.url("bob"), bearing(bob.access))).status, 200);
  for (const wrong of [`${access}x`, "nonsense", bob.id]) {
    const answer = await cli.request(at.url("access"), bearing(wrong));
    assert.equal(answer.status, 403, wrong);
  }
  // Without a token, the route redirects to sign-in as usual.
  assert.equal((await at.visitor().request(at.url("access"))).status, 302);
});

test("the provider is called once for a token, and not for further requests", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  echoOf(await cli.request(at.url("access"), bearing(access)));
  const lookups = at.provider.requestedPaths.filter((path) => path === "/me").length;
  at.provider.state.down = true;
  for (let i = 0; i < 5; i++) echoOf(await cli.request(at.url("access"), bearing(access)));
  assert.equal(at.provider.requestedPaths.filter((path) => path === "/me").length, lookups);
  assert.match(await at.services.registry.metrics(), /cardea_bearer_tokens_looked_at_total\{result="accepted"\} [1-9]/);
  // An unknown token cannot be checked now, so it is neither accepted nor refused.
  const unseen = await cli.request(at.url("access"), bearing("never-seen"));
  assert.equal(unseen.status, 503);
  at.provider.state.down = false;
  assert.equal((await cli.request(at.url("access"), bearing("never-seen"))).status, 403);
});

test("an identity token is accepted only for the client it was issued to", async () => {
  const at = installation();
  const { id, access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  assert.equal(echoOf(await cli.request(at.url("id"), bearing(id))).headers["x-email"], "alice@example.com");
  assert.equal((await cli.request(at.url("second"), bearing(id))).status, 403);
  assert.equal((await cli.request(at.url("id"), bearing(access))).status, 403);
  const [head, body] = id.split(".");
  assert.equal((await cli.request(at.url("id"), bearing(`${head}.${body}.AAAA`))).status, 403);
});

test("without a token format, a bearer token is forwarded to the upstream unchecked", async () => {
  const at = installation();
  const { headers } = echoOf(await at.visitor().request(at.url("plain"), bearing("for-the-upstream")));
  assert.equal(headers.authorization, "Bearer for-the-upstream");
});

test("a token whose session was revoked is refused on every route", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  const { headers } = echoOf(await cli.request(at.url("access"), bearing(access)));
  const sessionId = String(decodeJwt(String(headers["x-pomerium-jwt-assertion"]))["sid"]);
  await revokeSession(at, sessionId);
  for (let i = 0; i < 3; i++) assert.equal((await cli.request(at.url("access"), bearing(access))).status, 403);
});

test("with configured audiences an access token must be signed and name one of them", async () => {
  const at = installation();
  const { access, id } = await tokensOf(at, "alice");
  const cli = at.visitor();
  for (const wrong of [access, id, await at.provider.accessTokenFor("https://other.example.com")])
    assert.equal((await cli.request(at.url("audience"), bearing(wrong))).status, 403);
  const right = await at.provider.accessTokenFor("https://api.example.com", { email: "alice@example.com" });
  const { headers } = echoOf(await cli.request(at.url("audience"), bearing(right)));
  assert.equal(headers["x-email"], "alice@example.com");
  // Without audiences the provider checks the same token, and does not know it.
  assert.equal((await cli.request(at.url("access"), bearing(right))).status, 403);
});

test("the decision API treats the bearer token of a forwarded request the same way", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const authRequest = async (host: string, token: string) =>
    at.visitor().request(`http://127.0.0.1:${at.sparePort}/auth-request`, {
      headers: {
        ...bearing(token).headers,
        "x-original-method": "GET",
        "x-original-url": at.url(host),
        "x-forwarded-for": "192.0.2.1",
      },
    });
  const permitted = await authRequest("access", access);
  assert.equal(permitted.status, 200);
  assert.equal(permitted.headers["x-email"], "alice@example.com");
  assert.equal((await authRequest("bob", access)).status, 403);
  assert.equal((await authRequest("access", "made-up")).status, 403);
  assert.equal((await authRequest("app", access)).status, 401);
});

test("the record of a sign-in by a token has the caller's address, also where another proxy asks for a decision", async () => {
  const at = installation();
  const first = await tokensOf(at, "alice");
  const direct = echoOf(await at.visitor().request(at.url("access"), bearing(first.access)));
  const second = await tokensOf(at, "bob");
  const asked = await at.visitor().request(`http://127.0.0.1:${at.sparePort}/auth-request`, {
    headers: {
      ...bearing(second.access).headers,
      "x-original-method": "GET",
      "x-original-url": at.url("access"),
      "x-forwarded-for": "192.0.2.7",
    },
  });
  assert.equal(asked.status, 200, asked.body);
  for (const [assertion, ip] of [
    [direct.headers["x-pomerium-jwt-assertion"], "127.0.0.1"],
    [asked.headers["x-pomerium-jwt-assertion"], "192.0.2.7"],
  ]) {
    const sessionId = String(decodeJwt(String(assertion))["sid"]);
    const line = await waitFor(`the record of the session ${sessionId}`, () =>
      readFileSync(at.auditFile, "utf8")
        .split("\n")
        .find((one) => one.includes(`"session:${sessionId}"`) && one.includes('"createSession"')),
    );
    assert.equal(JSON.parse(line).ip, ip);
  }
});

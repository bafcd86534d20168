// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Bearer tokens of a real identity provider as credentials. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt } from "jose";
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
        idp_client_secret: "the secret of second and nobody else",
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

test("an access token of the provider is its owner, and policy decides about them; another token is nobody's", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  const { headers } = echoOf(await cli.request(at.url("access"), bearing(access)));
  assert.equal(headers["x-email"], "alice@example.com");
  assert.equal(decodeJwt(String(headers["x-pomerium-jwt-assertion"])).sub, "alice");
  // A credential is not the upstream's: with it, it could come back as alice.
  assert.equal(headers.authorization, undefined);

  assert.equal((await cli.request(at.url("bob"), bearing(access))).status, 403);
  const bob = await tokensOf(at, "bob");
  assert.equal((await cli.request(at.url("bob"), bearing(bob.access))).status, 200);
  for (const wrong of [`${access}x`, "nonsense", bob.id]) {
    const answer = await cli.request(at.url("access"), bearing(wrong));
    assert.equal(answer.status, 403, wrong);
  }
  // Without a token, people are asked to sign in as everywhere.
  assert.equal((await at.visitor().request(at.url("access"))).status, 302);
});

test("the provider is asked about a token once, and every further request asks nobody", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  echoOf(await cli.request(at.url("access"), bearing(access)));
  const asked = at.provider.requestedPaths.filter((path) => path === "/me").length;
  at.provider.state.down = true;
  for (let i = 0; i < 5; i++) echoOf(await cli.request(at.url("access"), bearing(access)));
  assert.equal(at.provider.requestedPaths.filter((path) => path === "/me").length, asked);
  assert.match(await at.services.registry.metrics(), /cardea_bearer_tokens_looked_at_total\{result="accepted"\} [1-9]/);
  // One that nobody has seen cannot be judged: it is neither let in nor called wrong.
  const unseen = await cli.request(at.url("access"), bearing("never-seen"));
  assert.equal(unseen.status, 503);
  at.provider.state.down = false;
  assert.equal((await cli.request(at.url("access"), bearing("never-seen"))).status, 403);
});

test("an identity token counts for the client that it was made for, and for no other", async () => {
  const at = installation();
  const { id, access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  assert.equal(echoOf(await cli.request(at.url("id"), bearing(id))).headers["x-email"], "alice@example.com");
  assert.equal((await cli.request(at.url("second"), bearing(id))).status, 403);
  assert.equal((await cli.request(at.url("id"), bearing(access))).status, 403);
  const [head, body] = id.split(".");
  assert.equal((await cli.request(at.url("id"), bearing(`${head}.${body}.AAAA`))).status, 403);
});

test("where no format is set, a bearer token is between the caller and the upstream", async () => {
  const at = installation();
  const { headers } = echoOf(await at.visitor().request(at.url("plain"), bearing("for-the-upstream")));
  assert.equal(headers.authorization, "Bearer for-the-upstream");
});

test("a token whose session was revoked opens nothing again, on any route", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  const { headers } = echoOf(await cli.request(at.url("access"), bearing(access)));
  const sessionId = String(decodeJwt(String(headers["x-pomerium-jwt-assertion"]))["sid"]);
  await revokeSession(at, sessionId);
  for (let i = 0; i < 3; i++) assert.equal((await cli.request(at.url("access"), bearing(access))).status, 403);
});

test("with audiences an access token must be signed and name one of them", async () => {
  const at = installation();
  const { access, id } = await tokensOf(at, "alice");
  const cli = at.visitor();
  for (const wrong of [access, id, await at.provider.accessTokenFor("https://other.example.com")])
    assert.equal((await cli.request(at.url("audience"), bearing(wrong))).status, 403);
  const right = await at.provider.accessTokenFor("https://api.example.com", { email: "alice@example.com" });
  const { headers } = echoOf(await cli.request(at.url("audience"), bearing(right)));
  assert.equal(headers["x-email"], "alice@example.com");
  // The same token where no audience is asked for is the provider's to judge, and it knows nothing of it.
  assert.equal((await cli.request(at.url("access"), bearing(right))).status, 403);
});

test("whoever asks about a request for somebody else is told the same of its bearer token", async () => {
  const at = installation();
  const { access } = await tokensOf(at, "alice");
  const askFor = async (host: string, token: string) =>
    at.visitor().request(`http://127.0.0.1:${at.sparePort}/auth-request`, {
      headers: {
        ...bearing(token).headers,
        "x-original-method": "GET",
        "x-original-url": at.url(host),
        "x-forwarded-for": "192.0.2.1",
      },
    });
  const permitted = await askFor("access", access);
  assert.equal(permitted.status, 200);
  assert.equal(permitted.headers["x-email"], "alice@example.com");
  assert.equal((await askFor("bob", access)).status, 403);
  assert.equal((await askFor("access", "made-up")).status, 403);
  assert.equal((await askFor("app", access)).status, 401);
});

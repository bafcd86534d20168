// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Bearer tokens of a real identity provider, and of other issuers, as credentials. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { decodeJwt, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { waitFor } from "../../support/wait-for.ts";
import { bearing, echoOf, type Installation, startInstallation } from "./installation.ts";
import { revokeSession } from "./operator.ts";

const forwards = {
  set_request_headers: { "X-Access": "${pomerium.access_token}", "X-Id": "${pomerium.id_token}" },
  allow_any_authenticated_user: true,
};
const identified = { allow_any_authenticated_user: true, pass_identity_headers: true };

const start = (t: TestContext): Promise<Installation> =>
  startInstallation(t, ({ url, upstream }) => ({
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
  }));

async function tokensOf(at: Installation, user: string): Promise<Readonly<{ access: string; id: string }>> {
  at.provider.person.name = user;
  const { headers } = echoOf(await at.visitor().go(at.url("app")));
  return { access: String(headers["x-access"]), id: String(headers["x-id"]) };
}

test("an access token of the provider is its owner, and policy decides about them; another token is nobody's", async (t) => {
  const at = await start(t);
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  const { headers } = echoOf(await cli.ask(at.url("access"), bearing(access)));
  assert.equal(headers["x-email"], "alice@example.com");
  assert.equal(decodeJwt(String(headers["x-pomerium-jwt-assertion"])).sub, "alice");
  // A credential is not the upstream's: with it, it could come back as alice.
  assert.equal(headers.authorization, undefined);

  assert.equal((await cli.ask(at.url("bob"), bearing(access))).status, 403);
  const bob = await tokensOf(at, "bob");
  assert.equal((await cli.ask(at.url("bob"), bearing(bob.access))).status, 200);
  for (const wrong of [`${access}x`, "nonsense", bob.id]) {
    const answer = await cli.ask(at.url("access"), bearing(wrong));
    assert.equal(answer.status, 403, wrong);
  }
  // Without a token, people are asked to sign in as everywhere.
  assert.equal((await at.visitor().ask(at.url("access"))).status, 302);
});

test("the provider is asked about a token once, and every further request asks nobody", async (t) => {
  const at = await start(t);
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  echoOf(await cli.ask(at.url("access"), bearing(access)));
  const asked = at.provider.asked.filter((path) => path === "/me").length;
  at.provider.state.down = true;
  for (let i = 0; i < 5; i++) echoOf(await cli.ask(at.url("access"), bearing(access)));
  assert.equal(at.provider.asked.filter((path) => path === "/me").length, asked);
  // One that nobody has seen cannot be judged: it is neither let in nor called wrong.
  const unseen = await cli.ask(at.url("access"), bearing("never-seen"));
  assert.equal(unseen.status, 503);
  at.provider.state.down = false;
  assert.equal((await cli.ask(at.url("access"), bearing("never-seen"))).status, 403);
});

test("an identity token counts for the client that it was made for, and for no other", async (t) => {
  const at = await start(t);
  const { id, access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  assert.equal(echoOf(await cli.ask(at.url("id"), bearing(id))).headers["x-email"], "alice@example.com");
  assert.equal((await cli.ask(at.url("second"), bearing(id))).status, 403);
  assert.equal((await cli.ask(at.url("id"), bearing(access))).status, 403);
  const [head, body] = id.split(".");
  assert.equal((await cli.ask(at.url("id"), bearing(`${head}.${body}.AAAA`))).status, 403);
});

test("where no format is set, a bearer token is between the caller and the upstream", async (t) => {
  const at = await start(t);
  const { headers } = echoOf(await at.visitor().ask(at.url("plain"), bearing("for-the-upstream")));
  assert.equal(headers.authorization, "Bearer for-the-upstream");
});

test("a token whose session was revoked opens nothing again, on any route", async (t) => {
  const at = await start(t);
  const { access } = await tokensOf(at, "alice");
  const cli = at.visitor();
  const { headers } = echoOf(await cli.ask(at.url("access"), bearing(access)));
  const sessionId = String(decodeJwt(String(headers["x-pomerium-jwt-assertion"]))["sid"]);
  await revokeSession(at, sessionId);
  for (let i = 0; i < 3; i++) assert.equal((await cli.ask(at.url("access"), bearing(access))).status, 403);
});

test("with audiences an access token must be signed and name one of them", async (t) => {
  const at = await start(t);
  const { access, id } = await tokensOf(at, "alice");
  const cli = at.visitor();
  for (const wrong of [access, id, await at.provider.accessTokenFor("https://other.example.com")])
    assert.equal((await cli.ask(at.url("audience"), bearing(wrong))).status, 403);
  const right = await at.provider.accessTokenFor("https://api.example.com", { email: "alice@example.com" });
  const { headers } = echoOf(await cli.ask(at.url("audience"), bearing(right)));
  assert.equal(headers["x-email"], "alice@example.com");
  // The same token where no audience is asked for is the provider's to judge, and it knows nothing of it.
  assert.equal((await cli.ask(at.url("access"), bearing(right))).status, 403);
});

async function startIssuer(
  t: TestContext,
): Promise<Readonly<{ issuer: string; sign(claims: JWTPayload): Promise<string> }>> {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: "w1", alg: "ES256", use: "sig" };
  const server = createServer((req, res) => {
    res.setHeader("content-type", "application/json");
    res.end(JSON.stringify(req.url === "/keys" ? { keys: [jwk] } : { issuer, jwks_uri: `${issuer}/keys` }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const issuer = `http://issuer.localhost:${(server.address() as AddressInfo).port}`;
  const sign = (claims: JWTPayload): Promise<string> => {
    const nowS = Math.floor(Date.now() / 1_000);
    const whole = { iss: issuer, aud: "cardea", sub: "build-7", iat: nowS, exp: nowS + 600, ...claims };
    return new SignJWT(whole).setProtectedHeader({ alg: "ES256", kid: "w1", typ: "JWT" }).sign(privateKey);
  };
  return { issuer, sign };
}

test("a pipeline's token is let in as the pipeline, and only from an issuer that the route names", async (t) => {
  const [pipeline, cluster] = [await startIssuer(t), await startIssuer(t)];
  const at = await startInstallation(t, ({ url, upstream }) => ({
    identity_providers: {
      pipeline: { issuer: pipeline.issuer, audiences: ["cardea"] },
      cluster: { issuer: cluster.issuer, audiences: ["cardea"], jwks_url: `${cluster.issuer}/keys` },
    },
    bearer_token_format: "jwt",
    jwt_claims_headers: ["repository"],
    routes: [
      { from: url("both"), to: upstream, ...identified },
      {
        from: url("pipeline"),
        to: upstream,
        identity_providers: ["pipeline"],
        pass_identity_headers: true,
        policy: { allow: { and: [{ user: { is: "pipeline/build-7" } }, { "claim/repository": { is: "wiki" } }] } },
      },
    ],
  }));
  const cli = at.visitor();
  const token = await pipeline.sign({ repository: "wiki" });
  const { headers } = echoOf(await cli.ask(at.url("pipeline"), bearing(token)));
  assert.equal(decodeJwt(String(headers["x-pomerium-jwt-assertion"])).sub, "pipeline/build-7");
  assert.equal(headers["x-pomerium-claim-repository"], "wiki");
  assert.equal((await cli.ask(at.url("pipeline"), bearing(await pipeline.sign({ repository: "other" })))).status, 403);

  const fromCluster = await cluster.sign({ repository: "wiki" });
  assert.equal((await cli.ask(at.url("both"), bearing(fromCluster))).status, 200);
  assert.equal((await cli.ask(at.url("pipeline"), bearing(fromCluster))).status, 403);
  const cases: Readonly<Record<string, JWTPayload>> = {
    "of another audience": { aud: "somebody-else" },
    "that is over": { exp: Math.floor(Date.now() / 1_000) - 600 },
    "of an issuer that nobody named": { iss: "http://issuer.localhost:1" },
    "of the other issuer, signed with the wrong key": { iss: cluster.issuer },
    "without a subject": { sub: "" },
  };
  for (const [what, claims] of Object.entries(cases)) {
    const { sub, ...rest } = claims;
    const wrong = await pipeline.sign(sub === "" ? { ...rest, sub: undefined as never } : claims);
    assert.equal((await cli.ask(at.url("both"), bearing(wrong))).status, 403, what);
  }
});

test("an issuer that is taken out of a route's list is out for what is open, too", async (t) => {
  const pipeline = await startIssuer(t);
  const routesOf = (at: Pick<Installation, "url">, upstream: string, format: string) => [
    { from: at.url("both"), to: upstream, bearer_token_format: format, ...identified },
  ];
  let upstreamUrl = "";
  const at = await startInstallation(t, ({ url, upstream }) => {
    upstreamUrl = upstream;
    return {
      identity_providers: { pipeline: { issuer: pipeline.issuer, audiences: ["cardea"] } },
      routes: routesOf({ url }, upstream, "jwt"),
    };
  });
  const cli = at.visitor();
  const token = await pipeline.sign({});
  assert.equal((await cli.ask(at.url("both"), bearing(token))).status, 200);
  await at.activate({ routes: routesOf(at, upstreamUrl, "default") });
  await waitFor("the token to be the upstream's affair", async () => {
    const answer = await cli.ask(at.url("both"), bearing(token));
    return answer.status === 302 || answer.status === 401;
  });
});

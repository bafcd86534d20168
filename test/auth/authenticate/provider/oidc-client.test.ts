/** OpenID Connect client: which responses of the provider are accepted, and how each of the others is classified. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateKeyPair, SignJWT } from "jose";
import { ProviderError } from "../../../../src/auth/index.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { finish, type OddProvider, redirectUri, startOddProvider } from "../odd-provider.ts";

type Kind = ProviderError["kind"];
const assertFails = (promise: Promise<unknown>, kind: Kind, error = ""): Promise<void> =>
  assert.rejects(
    promise,
    (thrown) => {
      assert.ok(thrown instanceof ProviderError, String(thrown));
      assert.deepEqual({ kind: thrown.kind, error: thrown.error }, { kind, error });
      return true;
    },
    `${kind} ${error}`,
  );

test("userinfo overrides claims of the ID token, except those that describe the token itself", async (t) => {
  const provider = await startOddProvider(t);
  provider.userinfo = {
    sub: "alice",
    name: "From userinfo",
    iss: "https://evil.example",
    sid: "s2",
    email: "a@b.example",
    email_verified: "true",
  };
  const { profile, tokens } = await finish(provider);
  assert.equal(profile.issuer, provider.issuer);
  assert.equal(profile.subject, "alice");
  assert.equal(profile.name, "From userinfo");
  assert.equal(profile.email, "a@b.example");
  assert.equal(profile.emailVerified, true);
  assert.deepEqual(profile.claims["groups"], ["eng"]);
  assert.deepEqual(profile.claims["iss"], [provider.issuer]);
  assert.deepEqual(profile.claims["sid"], ["s1"]);
  for (const passing of ["exp", "iat", "nonce"]) assert.equal(profile.claims[passing], undefined, passing);
  assert.ok(tokens.accessToken && tokens.refreshToken && tokens.idToken && tokens.accessTokenExpiresAt);
});

test("idp_request_params cannot override the protocol parameters of a request", async (t) => {
  const provider = await startOddProvider(t);
  const url = await provider.client.begin(
    async ({ nonce, verifier }) => `state-of-${nonce.length}-${verifier.length}`,
    {
      account: "current",
    },
  );
  assert.equal(url.searchParams.get("state"), "state-of-43-43");
  assert.equal(url.searchParams.get("prompt"), "select_account");
  assert.equal(url.searchParams.get("redirect_uri"), redirectUri.href);
  assert.equal(url.searchParams.get("client_id"), "cardea");
});

test("an ID token that fails verification is refused", async (t) => {
  const now = Math.floor(Date.now() / 1_000);
  const invalid: Readonly<Record<string, (provider: OddProvider) => void>> = {
    "another key": (provider) => {
      provider.signing = "another key";
    },
    "no signature": (provider) => {
      provider.signing = "none";
    },
    "another issuer": (provider) => {
      provider.claims = { sub: "alice", iss: "https://evil.example" };
    },
    "another audience": (provider) => {
      provider.claims = { sub: "alice", aud: "another-client" };
    },
    "several audiences, authorised for another": (provider) => {
      provider.claims = { sub: "alice", aud: ["cardea", "other"], azp: "other" };
    },
    "another nonce": (provider) => {
      provider.claims = { sub: "alice", nonce: "nonce-2" };
    },
    "no nonce": (provider) => {
      provider.claims = { sub: "alice", nonce: undefined };
    },
    expired: (provider) => {
      provider.claims = { sub: "alice", exp: now - 60 };
    },
    "no subject": (provider) => {
      provider.claims = { sub: undefined };
    },
    "userinfo of another user": (provider) => {
      provider.userinfo = { sub: "bob" };
    },
  };
  for (const [what, change] of Object.entries(invalid)) {
    const provider = await startOddProvider(t);
    change(provider);
    await assert.rejects(finish(provider), (thrown) => {
      assert.ok(thrown instanceof ProviderError, `${what}: ${thrown}`);
      assert.equal(thrown.kind, "untrue", `${what}: ${thrown.cause}`);
      return true;
    });
  }
});

test("a response without an ID token is refused", async (t) => {
  const provider = await startOddProvider(t);
  provider.instead = (path) =>
    path === "/token" ? { body: { access_token: "a", token_type: "Bearer", expires_in: 300 } } : undefined;
  await assertFails(finish(provider), "untrue");
});

test("responses of a provider are classified as silence, refusal or nonsense", async (t) => {
  const cases: readonly (readonly [
    Kind,
    string,
    { status: number; headers?: Record<string, string>; body: unknown },
  ])[] = [
    ["refused", "invalid_grant", { status: 400, body: { error: "invalid_grant", error_description: "used" } }],
    ["refused", "temporarily_unavailable", { status: 400, body: { error: "temporarily_unavailable" } }],
    ["silent", "", { status: 503, body: "down for maintenance" }],
    ["silent", "", { status: 502, body: "<html>bad gateway</html>" }],
    ["silent", "", { status: 200, body: "<html>a captive portal</html>" }],
    ["refused", "invalid_client", { status: 401, body: { error: "invalid_client" } }],
    [
      "refused",
      "unauthorized",
      { status: 401, headers: { "www-authenticate": 'Basic realm="idp"' }, body: { error: "invalid_client" } },
    ],
  ];
  for (const [kind, error, answer] of cases) {
    const provider = await startOddProvider(t);
    provider.instead = (path) => (path === "/token" ? answer : undefined);
    await assertFails(finish(provider), kind, error);
  }
});

test("a provider that hangs counts as silent after the time-out, and its discovery is tried again after a pause", async (t) => {
  const provider = await startOddProvider(t);
  let hang = true;
  provider.instead = () => (hang ? new Promise(() => {}) : undefined);
  const began = performance.now();
  await assertFails(
    provider.client.begin(async () => "s", { account: "current" }),
    "silent",
  );
  assert.ok(performance.now() - began < 30_000);
  hang = false;
  const begins = async (): Promise<boolean> =>
    provider.client
      .begin(async () => "s", { account: "current" })
      .then(() => true)
      .catch(() => false);
  await waitFor("discovery to be tried again", begins);
});

test("a discovery document of another issuer is refused", async (t) => {
  const provider = await startOddProvider(t, { issuer: "https://evil.example" });
  await assertFails(
    provider.client.begin(async () => "s", { account: "current" }),
    "untrue",
  );
});

test("discovery and keys are read once for many sign-ins, and an unknown key causes at most one more read", async (t) => {
  const provider = await startOddProvider(t);
  await Promise.all([1, 2, 3, 4].map(() => finish(provider)));
  assert.equal(provider.count("/.well-known/openid-configuration"), 1);
  const before = provider.count("/jwks");
  provider.signing = "another key";
  for (let i = 0; i < 5; i++) await assert.rejects(finish(provider));
  assert.ok(provider.count("/jwks") - before <= 1, `${provider.count("/jwks") - before} fetches`);
});

test("keys that the provider replaces are read within seconds, and a withdrawn key stops counting", async (t) => {
  const at = { now: 0 };
  const provider = await startOddProvider(t, {}, () => at.now);
  const { tokens } = await finish(provider);
  const old = tokens.idToken ?? assert.fail();
  assert.equal((await provider.client.verifyIdentityToken(old)).profile.subject, "alice");
  await provider.rotateKeys();
  await assertFails(finish(provider), "untrue");
  at.now = 10_000;
  assert.equal((await finish(provider)).profile.subject, "alice", "an unknown key has the keys read again");
  await assertFails(provider.client.verifyIdentityToken(old), "untrue");
});

test("discovery and keys survive an outage for a while, and no longer", async (t) => {
  const at = { now: 0 };
  const provider = await startOddProvider(t, {}, () => at.now);
  const { tokens } = await finish(provider);
  const token = tokens.idToken ?? assert.fail();
  provider.instead = (path) =>
    path === "/jwks" || path.startsWith("/.well-known") ? { status: 503, body: "" } : undefined;
  at.now = 59 * 60_000;
  assert.equal((await provider.client.verifyIdentityToken(token)).profile.subject, "alice");
  at.now = 61 * 60_000;
  await assertFails(provider.client.verifyIdentityToken(token), "silent");
  assert.equal(provider.client.status(), "down");
  provider.instead = () => undefined;
  at.now += 2 * 60_000;
  assert.equal((await provider.client.verifyIdentityToken(token)).profile.subject, "alice");
});

test("a flood of tokens with unknown keys is no flood at the provider, even while its key endpoint fails", async (t) => {
  const provider = await startOddProvider(t);
  const foreign = await generateKeyPair("RS256");
  const token = (i: number): Promise<string> =>
    new SignJWT({ sub: "alice" })
      .setProtectedHeader({ alg: "RS256", kid: `unknown-${i}` })
      .setIssuer(provider.issuer)
      .setAudience("cardea")
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(foreign.privateKey);
  provider.instead = (path) => (path === "/jwks" ? { status: 503, body: "down" } : undefined);
  for (let i = 0; i < 50; i++) await assertFails(provider.client.verifyIdentityToken(await token(i)), "silent");
  const whileDown = provider.count("/jwks");
  assert.ok(whileDown <= 5, `${whileDown} fetches of keys while they could not be read`);
  provider.instead = () => undefined;
  await waitFor("the keys to be read", async () => {
    const failure: unknown = await provider.client.verifyIdentityToken(await token(0)).catch((error: unknown) => error);
    return failure instanceof ProviderError && failure.kind === "untrue";
  });
  const before = provider.count("/jwks");
  for (let i = 0; i < 50; i++) await assertFails(provider.client.verifyIdentityToken(await token(i)), "untrue");
  assert.ok(provider.count("/jwks") - before <= 1, "unknown keys are no reason to ask each time");
});

test("pushed requests: a refusal does not stop a sign-in unless they are required, and silence does", async (t) => {
  for (const [metadata, answer, expected] of [
    [{}, { status: 400, body: { error: "unauthorized_client" } }, "plain"],
    [
      { require_pushed_authorization_requests: true },
      { status: 400, body: { error: "unauthorized_client" } },
      "refused",
    ],
    [{}, { status: 503, body: "down" }, "silent"],
    [{}, { status: 201, body: { request_uri: "urn:example:1", expires_in: 60 } }, "pushed"],
  ] as const) {
    const provider = await startOddProvider(t);
    provider.metadata = { ...metadata, pushed_authorization_request_endpoint: `${provider.issuer}/par` };
    provider.instead = (path) => (path === "/par" ? answer : undefined);
    const begun = await provider.client
      .begin(async () => "s", { account: "current" })
      .then(
        ({ searchParams }) => (searchParams.has("request_uri") ? "pushed" : "plain"),
        (error: unknown) => (error instanceof ProviderError ? error.kind : String(error)),
      );
    assert.equal(begun, expected, JSON.stringify(metadata));
    const sent = provider.seen.find(({ path }) => path === "/par")?.body;
    assert.equal(sent?.get("code_challenge_method"), "S256");
  }
});

test("the client secret is sent by a method that the provider supports", async (t) => {
  for (const [methods, method] of [
    [["client_secret_post"], "post"],
    [["client_secret_basic"], "basic"],
    [undefined, "basic"],
    [["client_secret_basic", "client_secret_post"], "post"],
  ] as const) {
    const provider = await startOddProvider(t, { token_endpoint_auth_methods_supported: methods });
    await finish(provider);
    const tokenRequest = provider.seen.find(({ path }) => path === "/token");
    if (method === "post") {
      assert.equal(tokenRequest?.body.get("client_secret"), "s:e/c r&e+t");
      assert.equal(tokenRequest?.authorization, undefined);
    } else {
      assert.equal(tokenRequest?.body.get("client_secret"), null);
      assert.equal(
        tokenRequest?.authorization,
        `Basic ${Buffer.from("cardea:s%3Ae%2Fc+r%26e%2Bt").toString("base64")}`,
      );
    }
  }
});

test("a refresh without an ID token keeps the old token's claims, updated from userinfo", async (t) => {
  const provider = await startOddProvider(t);
  const { tokens } = await finish(provider);
  provider.refreshedIdToken = "without";
  provider.userinfo = { sub: "alice", name: "Renamed" };
  const outcome = await provider.client.refresh(tokens);
  assert.ok(outcome.type === "tokens" && outcome.problem === null);
  const fresh = outcome.tokens;
  assert.notEqual(fresh.accessToken, tokens.accessToken);
  assert.notEqual(fresh.refreshToken, tokens.refreshToken);
  assert.equal(fresh.idToken, tokens.idToken);
  const { profile } = await provider.client.describe(fresh);
  assert.equal(profile.name, "Renamed");
  assert.deepEqual(profile.claims["groups"], ["eng"]);
});

test("a refresh for another subject is refused", async (t) => {
  const provider = await startOddProvider(t);
  const { tokens } = await finish(provider);
  provider.claims = { sub: "mallory" };
  const outcome = await provider.client.refresh(tokens);
  assert.ok(outcome.type === "refused");
  assert.equal(outcome.error.error, "subject_changed");
});

test("the tokens of a refresh whose ID token cannot be verified are kept", async (t) => {
  const provider = await startOddProvider(t);
  const { tokens } = await finish(provider);
  provider.signing = "another key";
  const outcome = await provider.client.refresh(tokens);
  assert.ok(outcome.type === "tokens");
  assert.equal(outcome.problem?.kind, "untrue");
  assert.notEqual(outcome.tokens.refreshToken, tokens.refreshToken);
  assert.equal(outcome.tokens.idToken, tokens.idToken, "the unverified ID token is not kept");
  provider.signing = "good";
  assert.equal((await provider.client.refresh(outcome.tokens)).type, "tokens");
});

test("a failed refresh reports whether the token may have been used", async (t) => {
  const provider = await startOddProvider(t);
  const { tokens } = await finish(provider);
  const cases = [
    [{ status: 400, body: { error: "invalid_client" } }, "not-used"],
    [{ status: 429, body: { error: "slow_down" } }, "not-used"],
    [{ status: 400, body: { error: "invalid_grant" } }, "refused"],
    [{ status: 500, body: { error: "server_error" } }, "unknown"],
    [{ status: 503, body: "down" }, "unknown"],
    [{ status: 200, body: "<html>" }, "unknown"],
  ] as const;
  for (const [answer, expected] of cases) {
    provider.instead = (path) => (path === "/token" ? answer : undefined);
    assert.equal((await provider.client.refresh(tokens)).type, expected, JSON.stringify(answer));
  }
  provider.instead = (path) => (path === "/token" ? new Promise(() => {}) : undefined);
  assert.equal((await provider.client.refresh(tokens)).type, "unknown", "no answer in time");
  provider.close();
  assert.equal((await provider.client.refresh(tokens)).type, "not-used", "no connection");
});

test("a provider without end-session and revocation endpoints receives no request at sign-out", async (t) => {
  const provider = await startOddProvider(t, { revocation_endpoint: undefined });
  const { tokens } = await finish(provider);
  assert.equal(await provider.client.logoutUrl({ idToken: tokens.idToken, returnTo: null }), null);
  await provider.client.revoke(tokens);
  assert.equal(provider.count("/revoke"), 0);
});

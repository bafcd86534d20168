/** GitHub client: what of GitHub's answers becomes the profile, and which failures cost a person nothing. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  createGitHubClient,
  createLocalFetch,
  type ProviderClient,
  ProviderError,
} from "../../../../src/auth/index.ts";
import { type GitHubServer, startGitHub } from "../../../support/github-server.ts";

const redirectUri = new URL("http://authenticate.localhost:1/oauth2/callback/github");
const state = "the state";

async function start(t: TestContext): Promise<Readonly<{ github: GitHubServer; client: ProviderClient }>> {
  const github = await startGitHub(t);
  const local = createLocalFetch({ timeoutMs: 5_000 });
  t.after(() => local.close());
  const { clientId, clientSecret, origin: issuer } = github;
  const settings = {
    issuer,
    clientId,
    clientSecret,
    scopes: ["user:email", "read:org"],
    requestParams: {},
    redirectUri,
  };
  return { github, client: createGitHubClient(settings, local, () => Date.now()) };
}

/** The query of GitHub's redirect, and the secrets of the sign-in. */
async function authorize(client: ProviderClient) {
  let secrets = { nonce: "", verifier: "" };
  const url = await client.begin(
    async (made) => {
      secrets = made;
      return state;
    },
    { account: "current" },
  );
  const response = await fetch(url.href.replace("github.localhost", "127.0.0.1"), { redirect: "manual" });
  return { url, secrets, query: new URL(response.headers.get("location") ?? "").search };
}

async function signIn(client: ProviderClient) {
  const { secrets, query } = await authorize(client);
  return client.finish(query, { ...secrets, state });
}

const rejected = async (promise: Promise<unknown>): Promise<readonly [string, string]> => {
  const error = await promise.then(
    () => assert.fail("it was accepted"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ProviderError, String(error));
  return [error.kind, error.error];
};

test("the sign-in URL has PKCE and the scopes, and asks for another account when that is wanted", async (t) => {
  const { client } = await start(t);
  const { url } = await authorize(client);
  assert.equal(url.pathname, "/login/oauth/authorize");
  assert.equal(url.searchParams.get("code_challenge_method"), "S256");
  assert.equal(url.searchParams.get("scope"), "user:email read:org");
  const other = await client.begin(async () => state, { account: "another" });
  assert.equal(other.searchParams.get("prompt"), "select_account");
});

test("a renamed account stays the same person, and another account with its old name is another", async (t) => {
  const { github, client } = await start(t);
  const before = (await signIn(client)).profile;
  github.account.login = "renamed";
  const after = (await signIn(client)).profile;
  assert.deepEqual([before.subject, before.issuer], [after.subject, after.issuer]);
  Object.assign(github.account, { id: 7, login: "octocat" });
  assert.notEqual((await signIn(client)).profile.subject, before.subject);
});

test("only an address that GitHub has verified is the person's e-mail", async (t) => {
  const { github, client } = await start(t);
  const unverified = { email: "ceo@example.com", primary: true, verified: false, visibility: null };
  github.account.emails = [unverified, { email: "real@example.com", primary: false, verified: true, visibility: null }];
  const { profile } = await signIn(client);
  assert.deepEqual([profile.email, profile.emailVerified], ["real@example.com", true]);
  github.account.emails = [unverified];
  const none = (await signIn(client)).profile;
  assert.deepEqual([none.email, none.emailVerified, none.claims["email"]], ["", false, undefined]);
});

test("more teams than a page holds are all read, and more than 5,000 are an error that takes nothing away", async (t) => {
  const { github, client } = await start(t);
  const teams = (count: number) => Array.from({ length: count }, (_, i) => ({ slug: `t${i}`, organization: "o" }));
  github.account.teams = teams(250);
  assert.equal((await signIn(client)).profile.claims["groups"]?.length, 250);
  github.account.teams = teams(1_001);
  const { tokens, profile } = await signIn(client);
  assert.equal(profile.claims["groups"]?.length, 1_001);
  github.account.teams = teams(5_000);
  assert.equal((await client.describe(tokens)).profile.claims["groups"]?.length, 5_000);
  github.account.teams = teams(5_001);
  assert.deepEqual(await rejected(client.describe(tokens)), ["silent", ""]);
});

test("a page with fewer entries than asked for does not end a list that has a next page", async (t) => {
  const { github, client } = await start(t);
  github.account.teams = Array.from({ length: 250 }, (_, i) => ({ slug: `t${i}`, organization: "o" }));
  github.state.missing = 1;
  assert.equal((await signIn(client)).profile.claims["groups"]?.length, 248);
});

test("without a scope its claims are empty, and a rate limit takes nothing away", async (t) => {
  const { github, client } = await start(t);
  github.state.granted = ["user:email"];
  const { profile } = await signIn(client);
  assert.deepEqual([profile.claims["groups"], profile.email], [[], "octocat@example.com"]);
  github.state.granted = "all";
  const { tokens } = await signIn(client);
  github.state.rateLimited = true;
  assert.deepEqual(await rejected(client.describe(tokens)), ["silent", ""]);
});

test("one 401 is not the end: the token counts as withdrawn only if GitHub says so", async (t) => {
  const { github, client } = await start(t);
  const { tokens } = await signIn(client);
  github.state.apiStatus = 401;
  assert.deepEqual(await rejected(client.describe(tokens)), ["silent", ""]);
  github.state.apiStatus = null;
  assert.equal((await client.describe(tokens)).profile.subject, "583231");
  github.tokens.clear();
  assert.deepEqual(await rejected(client.describe(tokens)), ["refused", "invalid_grant"]);
});

test("a GitHub App's refresh tokens are valid once, and a wrong client secret is no refused token", async (t) => {
  const { github, client } = await start(t);
  github.state.expires = true;
  const { tokens } = await signIn(client);
  const first = await client.refresh(tokens);
  assert.ok(first.type === "tokens" && first.tokens.refreshToken !== tokens.refreshToken);
  const again = await client.refresh(tokens);
  assert.deepEqual([again.type, again.type === "refused" && again.error.error], ["refused", "invalid_grant"]);
  Object.assign(github, { clientSecret: "another one" });
  const misconfigured = await client.refresh(first.tokens);
  assert.equal(misconfigured.type, "not-used", "the session continues, and the token is presented later");
});

test("an answer is refused with another state, a code of another sign-in, or a code used before", async (t) => {
  const { github, client } = await start(t);
  const [first, second] = [await authorize(client), await authorize(client)];
  assert.deepEqual(await rejected(client.finish(first.query, { ...first.secrets, state: "other" })), ["untrue", ""]);
  const crossed = client.finish(first.query, { ...second.secrets, state });
  assert.deepEqual(await rejected(crossed), ["refused", "bad_verification_code"], "GitHub checks the PKCE verifier");
  await client.finish(second.query, { ...second.secrets, state });
  const again = client.finish(second.query, { ...second.secrets, state });
  assert.deepEqual(await rejected(again), ["refused", "bad_verification_code"]);
  const foreign = client.finish(`${second.query}&iss=https://evil.example`, { ...second.secrets, state });
  assert.deepEqual(await rejected(foreign), ["untrue", ""]);
  assert.equal(github.tokens.size, 1);
});

test("a sign-out deletes the token, and no token of GitHub is a credential here", async (t) => {
  const { github, client } = await start(t);
  const { tokens } = await signIn(client);
  await client.revoke(tokens);
  assert.equal(github.tokens.size, 0);
  assert.equal(await client.logoutUrl({ idToken: null, returnTo: null }), null);
  for (const token of [client.verifyAccessToken("gho_x", null), client.verifyIdentityToken("gho_x")])
    assert.deepEqual(await rejected(token), ["untrue", ""]);
});

test("whether GitHub answers is known after a check, and an outage ends", async (t) => {
  const { github, client } = await start(t);
  assert.equal(client.status(), "unknown");
  await client.check();
  assert.equal(client.status(), "up");
  github.state.apiStatus = 503;
  assert.deepEqual(await rejected(client.check()), ["silent", ""]);
  assert.equal(client.status(), "down");
  github.state.apiStatus = null;
  await client.check();
  assert.equal(client.status(), "up");
});

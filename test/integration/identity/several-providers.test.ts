/** Several identity providers at once: each with its own sessions, keys, client and health. */
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { test } from "node:test";
import { exportJWK } from "jose";
import { type AppleServer, startApple } from "../../support/apple-server.ts";
import { type GitHubServer, startGitHub } from "../../support/github-server.ts";
import { startProvider, type TestProvider } from "../../support/oidc-provider.ts";
import type { Visitor, VisitorResponse } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, type Installation, shared, startInstallation } from "./installation.ts";

const everyone = { allow_any_authenticated_user: true, pass_identity_headers: true };
const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();
const clientKeys = generateKeyPairSync("ec", { namedCurve: "P-256" });
const applePem = pemOf(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);

const others: { partners?: TestProvider; github?: GitHubServer; apple?: AppleServer } = {};
const partners = (): TestProvider => others.partners ?? assert.fail("not started");
const github = (): GitHubServer => others.github ?? assert.fail("not started");
const apple = (): AppleServer => others.apple ?? assert.fail("not started");

const installation = shared((t) =>
  startInstallation(t, async ({ url, upstream }) => {
    const publicKey = { ...(await exportJWK(clientKeys.publicKey)), kid: "client-1", use: "sig", alg: "ES256" };
    const callback = (name: string): string => url("authenticate", `/oauth2/callback/${name}`);
    const metadata = { token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [publicKey] } };
    const started = await startProvider(
      t,
      [{ id: "cardea", secret: "", redirectUris: [callback("partners")], metadata }],
      { hostname: "partners.localhost", par: "required" },
    );
    const [hub, fruit] = [await startGitHub(t), await startApple(t, applePem)];
    Object.assign(others, { partners: started, github: hub, apple: fruit });
    const route = (host: string, names?: readonly string[]) => ({
      from: url(host),
      to: upstream,
      ...everyone,
      ...(names === undefined ? {} : { sign_in_providers: names }),
    });
    return {
      jwt_claims_headers: ["email", "groups", "name", "login"],
      groups_from_claim: "groups",
      refresh_interval: "1s",
      sign_in_providers: {
        partners: {
          ...{ provider: "oidc", title: "Partner accounts", provider_url: started.issuer.href, client_id: "cardea" },
          ...{ private_key: pemOf(clientKeys.privateKey), key_id: "client-1" },
          scopes: ["openid", "email", "profile", "groups", "offline_access"],
        },
        github: {
          ...{ provider: "github", provider_url: hub.origin.href },
          ...{ client_id: hub.clientId, client_secret: hub.clientSecret },
        },
        apple: {
          ...{ provider: "apple", provider_url: fruit.issuer.href, client_id: fruit.clientId },
          ...{ team_id: fruit.teamId, key_id: fruit.keyId, private_key: applePem },
        },
      },
      routes: [
        route("app"),
        route("both", ["default", "partners"]),
        route("wiki", ["partners"]),
        route("code", ["github"]),
        route("fruit", ["apple"]),
      ],
    };
  }),
);

/** Follows the redirects to the page on which a person chooses. */
async function chooser(visitor: Visitor, at: Installation, host = "both"): Promise<VisitorResponse> {
  const { end } = await follow(visitor, at.url(host));
  assert.match(end.body, /data-page="choose-provider"/, end.body);
  return end;
}

function choiceOf(page: VisitorResponse, title: string): string {
  const links = [...page.body.matchAll(/<a class="button" href="([^"]+)"><span><bdi>([^<]+)</g)];
  const link = links.find(([, , text]) => text === title)?.[1];
  return (link ?? assert.fail(`no ${title} in ${page.body}`)).replaceAll("&amp;", "&");
}

const subjectOf = (answer: VisitorResponse): unknown => {
  const assertion = String(echoOf(answer).headers["x-pomerium-jwt-assertion"]).split(".")[1] ?? "";
  return JSON.parse(Buffer.from(assertion, "base64url").toString()).sub;
};

test("a route with several providers lets the person choose, and the page depends on nothing but itself", async () => {
  const at = installation();
  const page = await chooser(at.visitor(), at);
  assert.equal(page.status, 200);
  assert.match(page.body, /to open both\.localhost/);
  assert.deepEqual(
    [...page.body.matchAll(/<bdi>([^<]+)<\/bdi><\/?(?:span|small)/g)].map(([, title]) => title),
    ["idp.localhost", "Partner accounts"],
  );
  assert.match(String(page.headers["content-security-policy"]), /^default-src 'none'; style-src 'sha256-/);
  assert.equal(page.headers["cache-control"], "no-store");
  assert.equal(page.headers["referrer-policy"], "no-referrer");
  assert.deepEqual(page.setCookies, [], "nothing remembers that a choice was offered");
});

test("parameters are pushed where the provider demands it, and the client proves itself with its key", async () => {
  const at = installation();
  const visitor = at.visitor();
  const page = await chooser(visitor, at);
  partners().person.name = "pat";
  const { hops, end } = await follow(visitor, choiceOf(page, "Partner accounts"));
  assert.equal(subjectOf(end), "pat");
  const authorize = hops.find(({ hostname, pathname }) => hostname === "partners.localhost" && pathname === "/auth");
  assert.deepEqual([...(authorize?.searchParams.keys() ?? [])].sort(), ["client_id", "request_uri"]);
  const back = hops.find(({ pathname }) => pathname.startsWith("/oauth2/"));
  assert.equal(back?.pathname, "/oauth2/callback/partners");
  assert.equal(back?.searchParams.get("iss"), partners().issuer.origin);
  assert.ok(partners().requestedPaths.includes("/request"));
});

test("a session counts only on routes that allow its provider", async () => {
  const at = installation();
  const visitor = at.visitor();
  partners().person.name = "pat";
  assert.equal(subjectOf((await follow(visitor, at.url("wiki"))).end), "pat");
  assert.equal(subjectOf((await follow(visitor, at.url("both"))).end), "pat", "another route of the same provider");
  const { hops, end } = await follow(visitor, at.url("app"));
  assert.ok(
    hops.some(({ hostname }) => hostname === "idp.localhost"),
    "the default provider signs the person in",
  );
  assert.equal(subjectOf(end), "alice");
  const cookie = /_pomerium=([^;]+)/.exec(visitor.cookieHeader(new URL(at.url("wiki"))))?.[1] ?? "";
  for (const [host, status] of [
    ["app", 401],
    ["code", 401],
  ] as const) {
    const answer = await at.visitor().request(at.url(host), { headers: { authorization: `Pomerium ${cookie}` } });
    assert.equal(answer.status, status, host);
  }
});

test("people of different providers with one subject are different people", async () => {
  const at = installation();
  const [here, there] = [at.visitor(), at.visitor()];
  partners().person.name = "alice";
  const groups = at.provider.person.claims;
  at.provider.person.claims = { groups: ["staff"] };
  const claimOf = (answer: VisitorResponse) => echoOf(answer).headers["x-pomerium-claim-groups"];
  const local = await follow(here, at.url("app"));
  const remote = await follow(there, at.url("wiki"));
  assert.deepEqual([subjectOf(local.end), subjectOf(remote.end)], ["alice", "alice"]);
  assert.deepEqual([claimOf(local.end), claimOf(remote.end)], ["staff", ""]);
  at.provider.person.claims = groups;
});

test("an answer is accepted only at the callback of the provider that was asked, and only with its issuer", async () => {
  const at = installation();
  const visitor = at.visitor();
  const page = await chooser(visitor, at);
  const honest = await visitor.navigate(choiceOf(page, "Partner accounts"), {
    until: at.url("authenticate", "/oauth2"),
  });
  const answer = honest.location ?? assert.fail(honest.body);
  const refused = async (change: (url: URL) => void): Promise<string> => {
    const changed = new URL(answer);
    change(changed);
    const { status, body } = await visitor.request(changed);
    assert.ok(status >= 400 && status < 600, `${status} ${changed.pathname}`);
    return body;
  };
  const codesBefore = codesReceived();
  for (const path of ["/oauth2/callback", "/oauth2/callback/github", "/oauth2/callback/apple"]) {
    const body = await refused((url) => {
      url.pathname = path;
    });
    assert.match(body, /answer came from another identity provider/, path);
  }
  await refused((url) => url.searchParams.set("iss", at.provider.issuer.origin));
  await refused((url) => url.searchParams.delete("iss"));
  // A refresh counts once its body has arrived.
  await waitFor("no code to be sent anywhere", () => codesReceived() === codesBefore);
});

/** Requests for tokens that were no refresh: sessions of other tests are refreshed meanwhile. */
function codesReceived(): number {
  const { requestedPaths, refreshTokenUses } = partners();
  const refreshes = [...refreshTokenUses.values()].reduce((sum, uses) => sum + uses, 0);
  return requestedPaths.filter((path) => path === "/token").length - refreshes;
}

test("a choice cannot be changed, and another provider cannot be chosen", async () => {
  const at = installation();
  const page = await chooser(at.visitor(), at);
  const link = new URL(choiceOf(page, "Partner accounts"));
  const own = new URL(choiceOf(page, "idp.localhost"));
  link.searchParams.set("pomerium_chosen_idp_id", own.searchParams.get("pomerium_chosen_idp_id") ?? "");
  assert.equal((await at.visitor().request(link)).status, 400);
});

test("a provider that is down is marked where people choose, and sign-in to it offers a way on", async () => {
  const at = installation();
  partners().state.down = true;
  const visitor = at.visitor();
  const tried = await follow(visitor, choiceOf(await chooser(visitor, at), "Partner accounts"));
  assert.equal(tried.end.status, 502);
  assert.match(tried.end.body, /isn&#39;t answering/);
  const again = /href="([^"]+)"[^>]*>Try again</.exec(tried.end.body)?.[1]?.replaceAll("&amp;", "&") ?? "";
  const marked = await visitor.request(again);
  assert.match(marked.body, /Partner accounts<\/bdi><small>Not responding right now/);
  assert.doesNotMatch(marked.body, /idp\.localhost<\/bdi><small>/);
  assert.equal(subjectOf((await follow(visitor, choiceOf(marked, "idp.localhost"))).end), "alice");
  partners().state.down = false;
  const later = at.visitor();
  await waitFor("the provider to be used again", async () => {
    const { end } = await follow(later, at.url("wiki"));
    return end.status === 200;
  });
  assert.doesNotMatch((await chooser(at.visitor(), at)).body, /Not responding/);
});

test("GitHub: the number is the subject, the e-mail is a verified one, and teams are groups", async () => {
  const at = installation();
  const { hops, end } = await follow(at.visitor(), at.url("code"));
  assert.ok(hops.some(({ pathname }) => pathname === "/login/oauth/authorize"));
  const { headers } = echoOf(end);
  assert.equal(subjectOf(end), "583231");
  assert.deepEqual(
    ["email", "groups", "name", "login"].map((claim) => headers[`x-pomerium-claim-${claim}`]),
    ["octocat@example.com", "github/justice-league", "The Octocat", "octocat"],
  );
});

test("GitHub: a team that a person left ends at the next refresh, though the token does not expire", async () => {
  const at = installation();
  const visitor = at.visitor();
  await follow(visitor, at.url("code"));
  const { teams } = github().account;
  github().account.teams = [{ slug: "retired", organization: "github" }];
  const groups = async () => echoOf(await visitor.request(at.url("code"))).headers["x-pomerium-claim-groups"];
  await waitFor("new claims", async () => (await groups()) === "github/retired");
  github().state.apiStatus = 503;
  const asked = github().requests.length;
  await waitFor("a refresh to fail", () => github().requests.length > asked + 4);
  assert.equal((await visitor.request(at.url("code"))).status, 200, "an outage signs no one out");
  github().state.apiStatus = null;
  github().account.teams = teams;
});

test("GitHub: a withdrawn token ends the session, and a refused sign-in says so", async () => {
  const at = installation();
  const visitor = at.visitor();
  await follow(visitor, at.url("code"));
  github().tokens.clear();
  const ended = async () => (await visitor.request(at.url("code"))).status === 302;
  await waitFor("the session to end", ended, { withinMs: 60_000 });
  github().state.sendsCode = false;
  const { end } = await follow(at.visitor(), at.url("code"));
  assert.equal(end.status, 401);
  assert.match(end.body, /access_denied: The user has denied your application access/);
  github().state.sendsCode = true;
});

test("Apple: the answer is a form, the name of the first sign-in stays, and it is in no address", async () => {
  const at = installation();
  for (const round of ["first", "second"]) {
    const visitor = at.visitor();
    const { end: form } = await follow(visitor, at.url("fruit"));
    const [, action = "", text = ""] = /action="([^"]+)" data-fields="([^"]+)"/.exec(form.body) ?? [];
    const fields = Object.fromEntries(new URLSearchParams(text.replaceAll("&amp;", "&")));
    assert.equal("user" in fields, round === "first");
    const posted = await visitor.request(action, { form: fields, headers: { origin: "https://appleid.apple.com" } });
    assert.equal(posted.status, 303);
    assert.doesNotMatch(posted.location?.href ?? "", /Jane|Appleseed|privaterelay/);
    const { end } = await follow(visitor, posted.location?.href ?? "");
    assert.equal(subjectOf(end), "001234.5b3a.0001");
    const user = await visitor.request(at.url("authenticate", "/.pomerium/"));
    assert.match(user.body, /Jane Appleseed/, round);
  }
  assert.ok(apple().secrets.length > 0);
});

test("Apple: a name that another sign-in brought, or that is not a name, is not used", async () => {
  const at = installation();
  apple().person.sub = "001234.5b3a.0002";
  const start = async (visitor: Visitor) => {
    const { end } = await follow(visitor, at.url("fruit"));
    const [, action = "", text = ""] = /action="([^"]+)" data-fields="([^"]+)"/.exec(end.body) ?? [];
    return { action, fields: Object.fromEntries(new URLSearchParams(text.replaceAll("&amp;", "&"))) };
  };
  const [mine, theirs] = [at.visitor(), at.visitor()];
  const [first, second] = [await start(mine), await start(theirs)];
  const name = JSON.stringify({ name: { firstName: "Mallory", lastName: "" } });
  const foreign = await theirs.request(second.action, { form: { ...second.fields, user: name } });
  const sealed = foreign.location?.searchParams.get("pomerium_given_name") ?? assert.fail();
  const odd = { name: { firstName: "A\u202eB\n<b>", lastName: 7 } };
  const posted = await mine.request(first.action, { form: { ...first.fields, user: JSON.stringify(odd) } });
  const target = posted.location ?? assert.fail();
  assert.equal(target.searchParams.has("pomerium_given_name"), false);
  target.searchParams.set("pomerium_given_name", sealed);
  assert.equal((await follow(mine, target.href)).end.status, 200);
  const { body } = await mine.request(at.url("authenticate", "/.pomerium/"));
  assert.doesNotMatch(body, /Mallory/);
});

test("a provider that is down at the start stops neither the process nor the other providers", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    sign_in_providers: {
      gone: { provider: "oidc", provider_url: "http://127.0.0.1:9", client_id: "c", client_secret: "s" },
    },
    routes: [{ from: url("app"), to: upstream, ...everyone, sign_in_providers: ["default", "gone"] }],
  }));
  const visitor = at.visitor();
  const page = await chooser(visitor, at, "app");
  assert.equal(subjectOf((await follow(visitor, choiceOf(page, "idp.localhost"))).end), "alice");
});

test("a proxy apart from the sign-in service needs no secret of any provider", async (t) => {
  const at = await startInstallation(
    t,
    async ({ url, upstream }) => {
      const redirectUris = [url("authenticate", "/oauth2/callback/guests")];
      const client = { id: "guests", secret: "the client secret of guests", redirectUris };
      const provider = await startProvider(t, [client], { hostname: "guests.localhost" });
      provider.person.name = "gus";
      return {
        sign_in_providers: {
          guests: {
            ...{ provider: "oidc", title: "Guests", provider_url: provider.issuer.href },
            ...{ client_id: client.id, client_secret: client.secret },
          },
        },
        routes: [{ from: url("app"), to: upstream, ...everyone, sign_in_providers: ["default", "guests"] }],
      };
    },
    "split",
  );
  const visitor = at.visitor();
  const page = await chooser(visitor, at, "app");
  assert.equal(subjectOf((await follow(visitor, choiceOf(page, "Guests"))).end), "gus");
});

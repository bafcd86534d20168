/** Sign-in providers: those of `sign_in_providers` beside that of the `idp_` keys, and the choice of each route. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { suite, test } from "node:test";
import { canonicalConfig, signInClientsOf } from "../../src/config/index.ts";
import { base, config, errors, goodRoute, warnings } from "./support.ts";

const pemOf = (curve: string): string =>
  JSON.stringify(
    generateKeyPairSync("ec", { namedCurve: curve }).privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  );
const p256 = pemOf("P-256");
const one = "one: {provider: oidc, provider_url: https://one.example.com, client_id: c, client_secret: s}";
const two = "two: {provider: google, client_id: c2, client_secret: s2}";
const alone = base.replace(/^idp_.*\n/gm, "");
const under = (entries: string): string => `sign_in_providers: {${entries}}\n`;
const secondRoute = `  - from: https://api.example.com
    to: http://127.0.0.1:8092
    allow_any_authenticated_user: true
`;

suite("a wrong provider is refused with its location and a remedy", () => {
  const entry = (text: string): string => `${base}${under(`x: {${text}}`)}${goodRoute}`;
  const table: readonly (readonly [name: string, text: string, expected: RegExp])[] = [
    [
      "no mapping",
      `${base}sign_in_providers: [one]\n${goodRoute}`,
      /sign_in_providers: is not a mapping; write a name/,
    ],
    ["the name default", `${base}${under(one.replace("one", "default"))}${goodRoute}`, /\.default: is the name of the/],
    ["another letter", `${base}${under(one.replace("one", "O_ne"))}${goodRoute}`, /"O_ne" is not a name; use up to 40/],
    [
      "no kind",
      entry("client_id: c, client_secret: s"),
      /sign_in_providers\.x\.provider: is missing; write one of oidc/,
    ],
    [
      "an unknown kind",
      entry("provider: saml, client_id: c"),
      /\.provider: "saml" is not known here; write one of oidc/,
    ],
    [
      "an unknown key",
      entry("provider: google, client_ids: c"),
      /\.client_ids: is not a known key; did you mean client_id/,
    ],
    ["no client", entry("provider: google"), /sign_in_providers\.x\.client_id: is missing; write the value that/],
    ["no secret", entry("provider: google, client_id: c"), /sign_in_providers\.x\.client_secret: is missing; write/],
    [
      "no issuer",
      entry("provider: okta, client_id: c, client_secret: s"),
      /\.provider_url: is missing and okta has no/,
    ],
    [
      "people of every tenant",
      entry(
        "provider: azure, provider_url: https://login.microsoftonline.com/common/v2.0, client_id: c, client_secret: s",
      ),
      /\.provider_url: accepts people of every tenant, so the issuer cannot be verified/,
    ],
    [
      "plain HTTP",
      entry("provider: oidc, provider_url: http://idp.example.com, client_id: c, client_secret: s"),
      /sign_in_providers\.x\.provider_url: is plain HTTP, which is allowed only for loopback/,
    ],
    [
      "scopes without openid",
      entry("provider: google, client_id: c, client_secret: s, scopes: [email]"),
      /sign_in_providers\.x\.scopes: does not include openid; add openid/,
    ],
    [
      "a secret and a key",
      entry(`provider: google, client_id: c, client_secret: s, private_key: ${p256}`),
      /sign_in_providers\.x\.private_key: is written beside client_secret; keep one of them/,
    ],
    [
      "no key for private_key_jwt",
      entry("provider: google, client_id: c, client_auth: private_key_jwt"),
      /sign_in_providers\.x\.private_key: is missing; write the client's private key in PEM/,
    ],
    [
      "something else as a key",
      entry("provider: google, client_id: c, private_key: secret"),
      /sign_in_providers\.x\.private_key: is not a private key in PEM/,
    ],
    [
      "a missing file",
      entry("provider: google, client_id: c, client_secret_file: /none"),
      /sign_in_providers\.x\.client_secret_file: the file \/none cannot be read/,
    ],
    [
      "GitHub with a key",
      entry(`provider: github, client_id: c, private_key: ${p256}`),
      /sign_in_providers\.x\.private_key: GitHub accepts only a client secret; write client_secret/,
    ],
    [
      "GitHub with pushed requests",
      entry("provider: github, client_id: c, client_secret: s, pushed_authorization: required"),
      /\.pushed_authorization: GitHub does not accept pushed authorization requests/,
    ],
    [
      "Apple with another curve",
      entry(`provider: apple, client_id: c, team_id: T, key_id: K, private_key: ${pemOf("P-384")}`),
      /\.private_key: is not a P-256 key, as Apple's are; write the content of the \.p8 file/,
    ],
    [
      "Apple without a team",
      entry(`provider: apple, client_id: c, key_id: K, private_key: ${p256}`),
      /\.team_id: is missing/,
    ],
    [
      "the client of the idp_ keys again",
      entry("provider: oidc, provider_url: https://idp.example.com, client_id: cardea, client_secret: s"),
      /sign_in_providers\.x\.client_id: is the same client of the same provider as default, so their sessions/,
    ],
    [
      "a lifetime that is no duration",
      entry("provider: google, client_id: c, client_secret: s, session_lifetime: 1 day"),
      /sign_in_providers\.x\.session_lifetime: "1 day" is not a lifetime of a session; write a duration from 1m/,
    ],
    [
      "a lifetime that is too short",
      entry("provider: google, client_id: c, client_secret: s, session_lifetime: 10s"),
      /sign_in_providers\.x\.session_lifetime: "10s" is not a lifetime of a session/,
    ],
    [
      "seventeen of them",
      `${base}${under(Array.from({ length: 17 }, (_, i) => two.replace("two", `n${i}`).replace("c2", `c${i}`)).join(", "))}${goodRoute}`,
      /sign_in_providers: has too many providers; keep 16 of them/,
    ],
  ];
  for (const [name, text, expected] of table) test(name, () => assert.match(errors(text).join("\n"), expected));
});

suite("a wrong choice of a route is refused", () => {
  const table: readonly (readonly [name: string, text: string, expected: RegExp])[] = [
    [
      "a SCIM client of an unknown provider",
      `${base}${under(one)}scim_clients: {okta: {provider: onne}}\n${goodRoute}`,
      /scim_clients\.okta\.provider: onne is not a sign-in provider; write one of default, one/,
    ],
    [
      "a directory of an unknown provider",
      `${base}${under(one)}directories: {corp: {provider: file, path: /p.json, sign_in_provider: onne}}\n${goodRoute}`,
      /directories\.corp\.sign_in_provider: onne is not a sign-in provider; write one of default, one/,
    ],
    [
      "an unknown provider",
      `${base}${under(one)}${goodRoute}    sign_in_providers: [onne]\n`,
      /routes\[0\]\.sign_in_providers\[0\]: onne is not a sign-in provider; write some of default, one/,
    ],
    ["none", `${base}${under(one)}${goodRoute}    sign_in_providers: []\n`, /sign_in_providers: names no provider/],
    [
      "one twice",
      `${base}${under(one)}${goodRoute}    sign_in_providers: [one, one]\n`,
      /sign_in_providers\[1\]: one is named twice/,
    ],
    [
      "beside another client of the default provider",
      `${base}${under(one)}${goodRoute}    sign_in_providers: [one]\n    idp_client_id: two\n    idp_client_secret: s\n`,
      /routes\[0\]\.sign_in_providers: is written beside idp_client_id/,
    ],
    [
      "a client of the default provider, and there is none",
      `${alone}${under(one)}${goodRoute}    idp_client_id: two\n    idp_client_secret: s\n`,
      /routes\[0\]\.idp_client_id: is a client of the provider of the idp_ keys, and there is none/,
    ],
    [
      "several providers and no choice",
      `${alone}${under(`${one}, ${two}`)}${goodRoute}`,
      /default_sign_in_providers: is missing, so it is not clear where people sign in for routes without/,
    ],
    [
      "an unknown default",
      `${base}default_sign_in_providers: [two]\n${under(one)}${goodRoute}`,
      /default_sign_in_providers\[0\]: two is not a sign-in provider; write some of default, one/,
    ],
    [
      "GitHub's tokens as bearer tokens",
      `${base}${under("gh: {provider: github, client_id: c, client_secret: s}")}${goodRoute}    sign_in_providers: [gh]\n    bearer_token_format: idp_access_token\n`,
      /routes\[0\]\.bearer_token_format: GitHub issues no tokens that prove for which application/,
    ],
  ];
  for (const [name, text, expected] of table) test(name, () => assert.match(errors(text).join("\n"), expected));
});

test("presets fill in the issuer, the scopes, the parameters and the title", () => {
  const text = `${base}${under(
    [
      two,
      "gh: {provider: github, client_id: c, client_secret: s}",
      `apple: {provider: apple, client_id: c, team_id: T, key_id: K, private_key: ${p256}}`,
      "lab: {provider: gitlab, client_id: c, client_secret: s, title: Our GitLab, scopes: [openid, email]}",
      "login: {provider: onelogin, client_id: c, client_secret: s}",
    ].join(", "),
  )}${goodRoute}`;
  const shown = config(text).signInProviders.map(({ name, title, url, scopes, requestParams, clientAuth }) =>
    [name, title, url.href, scopes.join(" "), new URLSearchParams(requestParams).toString(), clientAuth].join("|"),
  );
  assert.deepEqual(shown, [
    "default|idp.example.com|https://idp.example.com/|openid profile email offline_access||client_secret",
    "two|Google|https://accounts.google.com/|openid profile email|prompt=select_account+consent&access_type=offline|client_secret",
    "gh|GitHub|https://github.com/|user:email read:org||client_secret",
    "apple|Apple|https://appleid.apple.com/|openid name email|response_mode=form_post|apple",
    "lab|Our GitLab|https://gitlab.com/|openid email||client_secret",
    "login|OneLogin|https://openid-connect.onelogin.com/oidc|openid profile email offline_access||client_secret",
  ]);
});

test("Pomerium's keys for GitHub and Apple are enough", () => {
  for (const kind of ["github", "apple"]) {
    const text = `${alone}idp_provider: ${kind}\nidp_client_id: c\nidp_client_secret: s\n${goodRoute}`;
    assert.deepEqual(
      config(text).signInProviders.map(({ name, provider }) => [name, provider]),
      [["default", kind]],
    );
  }
});

test("a route without a choice uses the default provider alone, however many there are", () => {
  const { routes, ...rest } = config(
    `${base}${under(`${one}, ${two}`)}${goodRoute}${secondRoute}    sign_in_providers: [two, one]\n`,
  );
  const clients = signInClientsOf({ routes, ...rest });
  const [app, api] = routes;
  assert.ok(app !== undefined && api !== undefined);
  const namesOf = (ids: readonly string[]) => ids.map((id) => clients.all.get(id)?.name);
  assert.deepEqual(namesOf(clients.ofRoute(app).idpIds), ["default"]);
  assert.deepEqual(namesOf(clients.ofRoute(api).idpIds), ["two", "one"]);
  assert.equal(clients.ofRoute(api).allows.has(clients.byName("default")?.idpId ?? ""), false);
  assert.deepEqual(namesOf([clients.defaults.bearerIdpId]), ["default"]);
});

test("without idp_ keys the only provider is the default, and default_sign_in_providers chooses among several", () => {
  assert.deepEqual(config(`${alone}${under(one)}${goodRoute}`).defaultSignInProviders, ["one"]);
  assert.equal(config(`${alone}${under(one)}${goodRoute}`).idp, null);
  const both = `${alone}default_sign_in_providers: [two, one]\n${under(`${one}, ${two}`)}${goodRoute}`;
  assert.deepEqual(config(both).defaultSignInProviders, ["two", "one"]);
});

test("a client is found by name, by issuer and by the id of a session, and a new name keeps the sessions", () => {
  const clients = signInClientsOf(config(`${base}${under(one)}${goodRoute}`));
  const found = clients.byName("one");
  assert.ok(found !== undefined);
  assert.deepEqual(clients.byIssuer("https://one.example.com"), [found]);
  assert.deepEqual(clients.byIssuer("https://one.example.com/"), [found]);
  assert.deepEqual(clients.byIssuer("https://other.example.com"), []);
  assert.equal(clients.all.get(found.idpId), found);
  const renamed = signInClientsOf(config(`${base}${under(one.replace("one:", "uno:"))}${goodRoute}`));
  assert.equal(renamed.byName("uno")?.idpId, found.idpId);
  const moved = `${alone}idp_provider: oidc\nidp_provider_url: https://one.example.com\nidp_client_id: c\nidp_client_secret: s\n`;
  assert.equal(signInClientsOf(config(moved + goodRoute)).byName("default")?.idpId, found.idpId, "from idp_ keys");
});

test("a proxy needs no secrets, and a configuration without named providers keeps its hash", () => {
  const proxy = `services: proxy\nbroker: {urls: [https://broker.example.com]}\n${alone}${under("one: {provider: google, client_id: c}")}${goodRoute}`;
  assert.deepEqual(errors(proxy), []);
  assert.doesNotMatch(canonicalConfig(config(base + goodRoute)), /signInProviders|defaultSignInProviders/);
  assert.match(canonicalConfig(config(`${base}${under(one)}${goodRoute}`)), /"signInProviders":\[\{"clientAuth"/);
});

test("a secret of a provider in a file that everyone can read causes a warning", () => {
  const secrets = /^(?:shared_secret|cookie_secret|idp_client_secret): (.*)$/gm;
  const env = Object.fromEntries(
    [...base.matchAll(secrets)].map(([line, value]) => [line.split(":")[0]?.toUpperCase(), value]),
  );
  const text = `${base.replace(secrets, "")}${under(one)}${goodRoute}`;
  const given = { mode: 0o644, env: env as Record<string, string> };
  assert.match(
    warnings(text, given).join("\n"),
    /sign_in_providers\.one\.client_secret: every user of this machine can read c\.yaml.*or use client_secret_file/,
  );
});

test("routes of one host with different providers, and bearer tokens of one of several, cause a warning", () => {
  const other = secondRoute
    .replace("api.example.com", "app.example.com")
    .replace("    to:", "    prefix: /two\n    to:");
  const text = `${base}${under(one)}${goodRoute}${other}    sign_in_providers: [one]\n`;
  assert.match(warnings(text).join("\n"), /app\.example\.com has routes with different sign-in providers/);
  const bearer = `${base}${under(one)}${goodRoute}    sign_in_providers: [one, default]\n    bearer_token_format: idp_identity_token\n`;
  assert.match(warnings(bearer).join("\n"), /accepts tokens of one only, the first of the route's providers/);
});

/** Callers of a route: clients, bearer tokens, hosts that depend on each other, attached policies. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { base, config, errors, goodRoute, warnings } from "./support.ts";

const twoHosts = `${goodRoute}  - from: https://api.example.com
    to: http://127.0.0.1:8092
    allow_any_authenticated_user: true
`;
const pipeline = "identity_providers: {pipeline: {issuer: https://ci.example.com, audiences: [cardea]}}\n";

suite("a contradictory setting is refused with its location and a remedy", () => {
  const table: readonly (readonly [name: string, text: string, expected: RegExp])[] = [
    [
      "a secret without its client",
      `${base}${goodRoute}    idp_client_secret: s\n`,
      /^c\.yaml:17:5: routes\[0\]\.idp_client_secret: is set without idp_client_id; write/,
    ],
    [
      "a client without its secret",
      `${base}${goodRoute}    idp_client_id: two\n`,
      /routes\[0\]\.idp_client_secret: is missing; write the secret that the identity provider issued for two/,
    ],
    [
      "one client with two secrets",
      `${base}${twoHosts}    idp_client_id: two\n    idp_client_secret: a\n  - from: https://c.example.com\n    to: http://c\n    allow_any_authenticated_user: true\n    idp_client_id: two\n    idp_client_secret: b\n`,
      /routes\[2\]\.idp_client_secret: differs from that of an earlier route for two; write the same secret/,
    ],
    [
      "the global client with another secret",
      `${base}${goodRoute}    idp_client_id: cardea\n    idp_client_secret: other\n`,
      /routes\[0\]\.idp_client_secret: differs from the global one/,
    ],
    [
      "an unknown bearer token format",
      `${base}bearer_token_format: opaque\n${goodRoute}`,
      /bearer_token_format: "opaque" is not known here; write one of default, idp_access_token/,
    ],
    [
      "JWTs of issuers without a configured issuer",
      `${base}${goodRoute}    bearer_token_format: jwt\n`,
      /routes\[0\]\.bearer_token_format: accepts tokens of issuers, and identity_providers names none; add the issuers there/,
    ],
    [
      "an issuer that is not configured",
      `${base}${pipeline}${goodRoute}    bearer_token_format: jwt\n    identity_providers: [pipelin]\n`,
      /routes\[0\]\.identity_providers\[0\]: pipelin is not an issuer in the global identity_providers; write some of pipeline/,
    ],
    [
      "an issuer without audiences",
      `${base}identity_providers: {ci: {issuer: https://ci.example.com}}\n${goodRoute}`,
      /identity_providers\.ci\.audiences: names no audiences/,
    ],
    [
      "an issuer in plain HTTP",
      `${base}identity_providers: {ci: {issuer: http://ci.example.com, audiences: [a]}}\n${goodRoute}`,
      /identity_providers\.ci\.issuer: is plain HTTP, so anyone on the network path can forge tokens; use https/,
    ],
    [
      "signatures by a shared secret",
      `${base}identity_providers: {ci: {issuer: https://ci.example.com, audiences: [a], supported_algs: [HS256]}}\n${goodRoute}`,
      /supported_algs: "HS256" is not a supported signature algorithm/,
    ],
    [
      "two entries for one issuer",
      `${base}identity_providers: {a: {issuer: https://ci.example.com, audiences: [a]}, b: {issuer: https://ci.example.com, audiences: [b]}}\n${goodRoute}`,
      /identity_providers\.b\.issuer: is already the issuer of another entry/,
    ],
    [
      "an unknown key",
      `${base}identity_providers: {ci: {issuer: https://ci.example.com, audience: [a]}}\n${goodRoute}`,
      /identity_providers\.ci\.audience: is not a known key; did you mean audiences\?/,
    ],
    [
      "six hosts in depends_on",
      `${base}${twoHosts}    depends_on: [a.example.com, b.example.com, c.example.com, d.example.com, e.example.com, f.example.com]\n`,
      /routes\[1\]\.depends_on: names 6 hosts; write 5 at most/,
    ],
    [
      "Rego without a PPL source",
      `${base}${goodRoute}    sub_policies: [{name: x, rego: ["package pomerium.policy"]}]\n`,
      /routes\[0\]\.sub_policies\[0\]\.rego: is a policy in Rego, which this build does not evaluate; express it/,
    ],
    [
      "a PPL source that is not YAML",
      `${base}${goodRoute}    sub_policies: [{name: x, source_ppl: "allow: ["}]\n`,
      /routes\[0\]\.sub_policies\[0\]\.source_ppl: /,
    ],
    [
      "individual people on a route that allows every signed-in user",
      `${base}${twoHosts}    sub_policies: [{name: x, allowed_users: [a@example.com]}]\n`,
      /routes\[1\]\.sub_policies\[0\]: allows individual people, which has no effect with allow_any_authenticated_user/,
    ],
  ];
  for (const [name, text, expected] of table) {
    test(name, () => {
      const [line = "", ...more] = errors(text);
      assert.match(line, expected);
      assert.deepEqual(more, []);
    });
  }
});

test("a setting without effect, or one that admits more than it seems, is a warning", () => {
  const warned = (text: string): string => warnings(text).join("\n");
  assert.match(
    warned(`${base}${goodRoute}    identity_providers: [x]\n`),
    /identity_providers: has no effect without bearer_token_format: jwt/,
  );
  assert.match(
    warned(`${base}${goodRoute}    bearer_token_format: idp_access_token\n`),
    /accepts every access token of the identity provider/,
  );
  const bounded = "    bearer_token_format: idp_access_token\n    idp_access_token_allowed_audiences: [a]\n";
  assert.equal(warned(`${base}${goodRoute}${bounded}`), "");
  assert.match(warned(`${base}${twoHosts}    depends_on: [api.example.com]\n`), /is the route's own host/);
  assert.match(
    warned(`${base}cookie_domain: example.com\n${twoHosts}    depends_on: [app.example.com]\n`),
    /depends_on: has no effect with cookie_domain/,
  );
  const own = "    idp_client_id: two\n    idp_client_secret: s\n    prefix: /two\n";
  assert.match(
    warned(
      `${base}${goodRoute}${own}  - from: https://app.example.com\n    to: http://a\n    allow_any_authenticated_user: true\n`,
    ),
    /app\.example\.com has routes with different clients/,
  );
  const rego = "    sub_policies: [{name: x, rego: [a], source_ppl: 'allow: {or: [accept: true]}'}]\n";
  assert.match(warned(`${base}${goodRoute}${rego}`), /rego: is not evaluated: source_ppl decides/);
  assert.match(
    warned(`${base}authorize_log_fields: [method, id-token]\n${goodRoute}`),
    /authorize_log_fields\[1\]: id-token is never logged/,
  );
});

test("a route overrides global settings and inherits the others", () => {
  const text = `${base}bearer_token_format: BEARER_TOKEN_FORMAT_IDP_ACCESS_TOKEN
idp_access_token_allowed_audiences: [one]
authorize_log_fields: [method, headers.X-Team, id-token]
${twoHosts}    bearer_token_format: idp_identity_token
    depends_on: ["https://app.example.com/somewhere"]
    idp_client_id: two
    idp_client_secret: s
`;
  const { routes, authorizeLogFields } = config(text);
  const [app, api] = routes;
  assert.deepEqual(app?.bearer, { format: "idp_access_token", audiences: ["one"] });
  assert.deepEqual(api?.bearer, { format: "idp_identity_token" });
  assert.deepEqual(api?.dependsOn, ["https://app.example.com"]);
  assert.deepEqual([app?.idpClient, api?.idpClient], [null, { clientId: "two", clientSecret: "s" }]);
  assert.deepEqual(authorizeLogFields, ["method", "headers.X-Team"]);
  assert.equal(config(`${base}${goodRoute}`).authorizeLogFields, null);
});

test("people that attached policies allow are admitted to the route; their rules come from the source", () => {
  const text = `${base}routes:
  - from: https://app.example.com
    to: http://a
    allowed_users: [a@example.com]
    sub_policies:
      - id: p1
        name: Staff
        allowed_users: [b@example.com, a@example.com]
        allowed_idp_claims: {team: [eng]}
        source_ppl: |
          allow:
            or:
              - domain:
                  is: example.com
        explanation: Only staff may come in.
        remediation: Ask the help desk.
`;
  const [route] = config(text).routes;
  assert.deepEqual(route?.allowedUsers, ["a@example.com", "b@example.com"]);
  assert.deepEqual(route?.allowedIdpClaims, { team: ["eng"] });
  assert.deepEqual(route?.subPolicies[0]?.policy?.ppl, { allow: { or: [{ domain: { is: "example.com" } }] } });
  assert.equal(route?.subPolicies[0]?.explanation, "Only staff may come in.");
});

test("another client secret changes the hash of the configuration", () => {
  const written = (secret: string) =>
    config(`${base}${goodRoute}    idp_client_id: two\n    idp_client_secret: ${secret}\n`);
  assert.notEqual(written("first-secret").hash, written("other-secret").hash);
});

test("an unknown host in depends_on is a warning, even if an unescaped pattern would match it", () => {
  const pattern = `  - from: "https://(*.example.org"\n    to: http://a\n    allow_any_authenticated_user: true\n`;
  for (const [text, words] of [
    [
      `${base}${twoHosts}    depends_on: [other.example.com]\n`,
      /depends_on\[0\]: other\.example\.com is not the host of any route/,
    ],
    [`${base}${goodRoute}    depends_on: [a.example.org]\n${pattern}`, /a\.example\.org is not the host of any route/],
  ] as const) {
    assert.match(warnings(text).join("\n"), words);
    assert.deepEqual(
      config(text).routes.flatMap(({ dependsOn }) => dependsOn),
      [],
    );
  }
});

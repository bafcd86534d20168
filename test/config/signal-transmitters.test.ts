/** `signal_transmitters`: what it accepts, what it refuses, and the table of actions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { signalNames } from "../../src/auth/shared-signals/index.ts";
import { defaultSignalActions, parseConfig } from "../../src/config/index.ts";

const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");
const whole = { issuer: "https://idp.example.com", audience: "https://us.example.com" };

function parse(transmitters: unknown, files: Readonly<Record<string, string>> = {}) {
  const config = {
    ...{ authenticate_service_url: "https://authenticate.example.com", shared_secret: secret(3) },
    ...{ cookie_secret: secret(5), idp_provider: "oidc", idp_provider_url: "https://login.example.com" },
    ...{ idp_client_id: "cardea", idp_client_secret: "secret", insecure_server: true, routes: [] },
    signal_transmitters: transmitters,
  };
  return parseConfig(JSON.stringify(config), "cardea.yaml", {
    env: {},
    readFile: (path) =>
      files[path] === undefined ? { ok: false, reason: "no such file" } : { ok: true, text: files[path], mode: 0o600 },
  });
}
function problemOf(item: object, files: Readonly<Record<string, string>> = {}): string {
  const parsed = parse({ okta: { ...whole, ...item } }, files);
  return parsed.ok ? "" : parsed.problems.map(({ key, problem, remedy }) => `${key} ${problem}; ${remedy}`).join("\n");
}
function accepted(item: object, files: Readonly<Record<string, string>> = {}) {
  const parsed = parse({ okta: { ...whole, ...item } }, files);
  assert.ok(parsed.ok, parsed.ok ? "" : JSON.stringify(parsed.problems));
  const [transmitter] = parsed.config.signalTransmitters;
  assert.ok(transmitter);
  return transmitter;
}

test("issuer and audience are enough, and the defaults are those of the table", () => {
  const transmitter = accepted({});
  assert.equal(transmitter.delivery, "push");
  assert.deepEqual(transmitter.audiences, ["https://us.example.com"]);
  assert.deepEqual(transmitter.match, ["subject", "email"]);
  assert.deepEqual(transmitter.actions, defaultSignalActions);
});

test("the table has every event that this build knows, and no other", () => {
  const events = Object.keys(defaultSignalActions).filter((key) => !key.includes("/"));
  assert.deepEqual(events.sort(), [...signalNames].sort());
});

test("an action replaces the default, and with it the defaults of single values", () => {
  const one = accepted({ actions: { "credential-change": "revoke-sessions", "risk-level-change/MEDIUM": "suspend" } });
  assert.equal(one.actions["credential-change"], "revoke-sessions");
  assert.equal(one.actions["credential-change/create"], undefined);
  assert.equal(one.actions["risk-level-change/MEDIUM"], "suspend");
  assert.equal(one.actions["risk-level-change/HIGH"], "require-new-sign-in");
  assert.equal(one.actions["account-disabled"], "suspend");
});

test("secrets come from files, and never appear in a message", () => {
  const files = { "/push": "a-push-token-of-many-letters\n", "/client": "a client secret\n", "/short": "short" };
  const one = accepted(
    {
      push_token_file: "/push",
      client_id: "us",
      client_secret_file: "/client",
      token_url: "https://idp.example.com/t",
    },
    files,
  );
  assert.equal(one.pushToken, "a-push-token-of-many-letters");
  assert.equal(one.client?.secret, "a client secret");
  assert.match(
    problemOf({ push_token_file: "/short" }, files),
    /signal_transmitters\.okta\.push_token_file .*no such secret/,
  );
  assert.match(problemOf({ push_token_file: "/none" }, files), /cannot be read/);
  assert.doesNotMatch(problemOf({ push_token: "tiny!secret" }), /tiny/);
});

test("each mistake is named with its place and a remedy", () => {
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ issuer: undefined }, /okta names no issuer/],
    [{ issuer: "http://idp.example.com" }, /issuer is plain HTTP.*use https/],
    [{ issuer: "https://idp.example.com/#x" }, /issuer has a fragment/],
    [{ jwks_url: "http://idp.example.com/jwks" }, /jwks_url is plain HTTP/],
    [{ audience: undefined }, /audience names no audience/],
    [{ audience: [] }, /audience names no audience/],
    [{ delivery: "carrier-pigeon" }, /delivery .*push or poll/],
    [{ delivery: "poll" }, /delivery polls without a credential.*access_token_file/],
    [{ client_id: "us" }, /token_url|client_id/],
    [
      { access_token: "an-access-token-of-us", client_id: "us", client_secret: "s", token_url: "https://a.example/t" },
      /keep one of them/,
    ],
    [{ push_token: "short" }, /push_token .*openssl rand/],
    [{ push_token: "a-token-of-many-letters", push_token_file: "/x" }, /keep one of them/],
    [{ match: ["phone"] }, /match .*subject, email/],
    [{ actions: { "session-revoked": "explode" } }, /not an action/],
    [{ actions: { "session-vanished": "record" } }, /not an event/],
    [{ actions: { "__proto__/x": "record" } }, /not an event/],
    [{ audiance: "x" }, /audiance is not a known key.*audience/],
  ];
  for (const [item, expected] of wrong) assert.match(problemOf(item), expected, JSON.stringify(item));
  const named = parse({ "Okta!": whole });
  assert.ok(!named.ok && /lowercase/.test(JSON.stringify(named.problems)));
  const many = parse(Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`t${n}`, whole])));
  assert.ok(!many.ok && /too many transmitters/.test(JSON.stringify(many.problems)));
});

/** The configuration's hash: equal for equal configurations, and without revealing secrets. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { canonicalConfig, canonicalJson } from "../../src/config/index.ts";
import { base, config, cookieSecret, goodRoute, sharedSecret } from "./support.ts";

const text = base + goodRoute;
const hash = (written: string, env: Readonly<Record<string, string>> = {}) => config(written, { env }).hash;

suite("the hash is the same", () => {
  test("for the same text", () => assert.equal(hash(text), hash(text)));
  test("with a comment, other spacing or another order of keys", () => {
    const [first = "", ...rest] = base.trim().split("\n");
    assert.equal(hash(`# a comment\n${rest.join("\n")}\n\n${first}\n${goodRoute}`), hash(text));
  });
  test("for a default that is spelled out", () =>
    assert.equal(hash(`${base}region: default\nbroker: {lease: 5000ms}\n${goodRoute}`), hash(text)));
  test("for every node of a cluster", () =>
    assert.equal(hash(text, { NODE_NAME: "proxy-1" }), hash(text, { NODE_NAME: "proxy-2" })));
  test("whether a value comes from the file or from the environment", () =>
    assert.equal(hash(text, { REGION: "eu" }), hash(`${base}region: eu\n${goodRoute}`)));
});

suite("the hash changes", () => {
  const others: readonly (readonly [string, string])[] = [
    ["with a policy", text.replace("authenticated_user: true", "accept: true")],
    ["with a route", text.replace("app.example.com", "app2.example.com")],
    ["with a shorthand", `${text}    allowed_users: [a@example.com]\n`],
    ["with a secret", text.replace(cookieSecret, Buffer.from(cookieSecret, "base64").reverse().toString("base64"))],
    ["with the client secret", text.replace("from-the-provider", "another")],
    ["with a header's value", `${text}    set_request_headers: {X-Key: a}\n`],
  ];
  const seen = new Set([hash(text)]);
  for (const [name, other] of others) {
    test(name, () => {
      const found = hash(other);
      assert.equal(seen.has(found), false);
      seen.add(found);
    });
  }
});

test("the canonical configuration contains no secret", () => {
  const body = canonicalConfig(
    config(`${text}    set_request_headers: {Authorization: Basic c2VjcmV0}\n`, {
      env: { NATS_SERVERS: "tls://n:1", NATS_USER: "u", NATS_PASSWORD: "nats-secret" },
    }),
  );
  for (const secret of [sharedSecret, cookieSecret, "from-the-provider", "c2VjcmV0", "nats-secret"]) {
    assert.equal(body.includes(secret), false);
    assert.equal(body.includes(Buffer.from(secret, "base64").toString("base64url")), false);
  }
  assert.match(body, /"Authorization":"hmac-sha256:[\w-]{43}"/);
  assert.equal(canonicalJson(JSON.parse(body)), body);
});

test("canonical JSON sorts keys and sets, and keeps the order of lists", () => {
  assert.equal(
    canonicalJson({
      b: [2, 1, undefined],
      a: { d: null, c: undefined },
      u: new URL("http://x"),
      s: new Set(["z", "y"]),
    }),
    '{"a":{"d":null},"b":[2,1,null],"s":["y","z"],"u":"http://x/"}',
  );
});

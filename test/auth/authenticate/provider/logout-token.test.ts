/** Logout tokens: the one that is right, and one for each thing that can be wrong with it. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { CompactSign, createLocalJWKSet, exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { type LogoutTokenRules, verifyLogoutToken } from "../../../../src/auth/authenticate/provider/logout-token.ts";
import { ProviderError } from "../../../../src/auth/index.ts";

const issuer = "https://idp.example.com";
const nowS = 1_800_000_000;
const clientSecret = "the secret of the client";
const event = "http://schemas.openid.net/event/backchannel-logout";
type Key = Awaited<ReturnType<typeof generateKeyPair>>["privateKey"];
let key: Key;
let ecKey: Key;
let strangerKey: Key;
let spki: string;
let rules: LogoutTokenRules;

before(async () => {
  const [rsa, ec, stranger] = await Promise.all([
    generateKeyPair("RS256", { extractable: true }),
    generateKeyPair("ES256"),
    generateKeyPair("RS256"),
  ]);
  [key, ecKey, strangerKey] = [rsa.privateKey, ec.privateKey, stranger.privateKey];
  spki = await exportSPKI(rsa.publicKey);
  const keys = [
    { ...(await exportJWK(rsa.publicKey)), kid: "k1", alg: "RS256", use: "sig" },
    { ...(await exportJWK(ec.publicKey)), kid: "k2", alg: "ES256", use: "sig" },
  ];
  rules = {
    issuer,
    clientId: "cardea",
    keys: createLocalJWKSet({ keys }),
    announced: ["RS256", "HS256", "none"],
    accepted: ["RS256", "ES256"],
    nowMs: nowS * 1_000,
  };
});

const good = {
  ...{ iss: issuer, aud: "cardea", iat: nowS - 5, exp: nowS + 115, jti: "t-1", sub: "alice", sid: "s-1" },
  events: { [event]: {} },
};
type Claims = Readonly<Record<string, unknown>>;
const without = (...names: string[]): Claims =>
  Object.fromEntries(Object.entries(good).filter(([name]) => !names.includes(name)));
const signed = (claims: Claims, header: object = {}, by: Key | Uint8Array = key): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ alg: "RS256", kid: "k1", typ: "logout+jwt", ...header }).sign(by);
const verify = async (token: string | Promise<string>, parts: Partial<LogoutTokenRules> = {}) =>
  verifyLogoutToken(await token, { ...rules, ...parts });
async function kindOf(token: string | Promise<string>, parts: Partial<LogoutTokenRules> = {}): Promise<string> {
  try {
    await verify(token, parts);
    return "accepted";
  } catch (error) {
    assert.ok(error instanceof ProviderError, String(error));
    return error.kind;
  }
}

test("a good logout token names its session and its person", async () => {
  const issuedAt = good.iat * 1_000;
  assert.deepEqual(await verify(signed(good)), { issuer, jti: "t-1", issuedAt, subject: "alice", sid: "s-1" });
  assert.deepEqual(await verify(signed(without("sub"))), { issuer, jti: "t-1", issuedAt, subject: null, sid: "s-1" });
  assert.deepEqual(await verify(signed(without("sid"))), { issuer, jti: "t-1", issuedAt, subject: "alice", sid: null });
});

test("a token without a type, of the type JWT, or for several audiences is accepted as well", async () => {
  for (const typ of [undefined, "JWT", "jwt", "application/logout+jwt", "LOGOUT+JWT"])
    assert.equal(await kindOf(signed(good, { typ })), "accepted", String(typ));
  assert.equal(await kindOf(signed({ ...good, aud: ["another", "cardea"] })), "accepted");
  assert.equal(await kindOf(signed({ ...good, events: { [event]: { more: 1 }, other: {} } })), "accepted");
});

test("the clock of the provider may differ by a minute", async () => {
  assert.equal(await kindOf(signed({ ...good, iat: nowS + 50 })), "accepted");
  assert.equal(await kindOf(signed({ ...good, exp: nowS - 50 })), "accepted");
});

const defects: Readonly<Record<string, () => string | Promise<string>>> = {
  "alg none": () => new UnsecuredJWT(good).encode(),
  "alg none, spelled otherwise": () =>
    `${Buffer.from(JSON.stringify({ alg: "nOnE", typ: "logout+jwt" })).toString("base64url")}.${Buffer.from(JSON.stringify(good)).toString("base64url")}.`,
  "HS256 with the client's secret": () =>
    signed(good, { alg: "HS256" }, new TextEncoder().encode(clientSecret.padEnd(32))),
  "HS256 with the provider's public key": () => signed(good, { alg: "HS256" }, new TextEncoder().encode(spki)),
  "an algorithm that the provider does not announce": () => signed(good, { alg: "ES256", kid: "k2" }, ecKey),
  "signed by another key under a published id": () => signed(good, {}, strangerKey),
  "a changed claim": async () => {
    const [header, , signature] = (await signed(good)).split(".");
    return `${header}.${Buffer.from(JSON.stringify({ ...good, sub: "bob" })).toString("base64url")}.${signature}`;
  },
  "an unknown critical header": () => signed(good, { crit: ["x"], x: 1 }).catch(() => "x.y.z"),
  "not a JWT": () => "logout",
  "five parts, as if encrypted": () => "a.b.c.d.e",
  "a payload that is no JSON": () =>
    new CompactSign(new TextEncoder().encode("logout")).setProtectedHeader({ alg: "RS256", kid: "k1" }).sign(key),
  "the type of an access token": () => signed(good, { typ: "at+jwt" }),
  "the type of a security event token": () => signed(good, { typ: "secevent+jwt" }),
  "another issuer": () => signed({ ...good, iss: "https://evil.example" }),
  "the issuer with a slash": () => signed({ ...good, iss: `${issuer}/` }),
  "no issuer": () => signed(without("iss")),
  "another audience": () => signed({ ...good, aud: "another" }),
  "no audience": () => signed(without("aud")),
  "an audience that only contains ours": () => signed({ ...good, aud: "cardea-2" }),
  expired: () => signed({ ...good, exp: nowS - 61 }),
  "no expiry": () => signed(without("exp")),
  "an expiry that is text": () => signed({ ...good, exp: String(nowS + 100) }),
  "issued in the future": () => signed({ ...good, iat: nowS + 120, exp: nowS + 300 }),
  "issued two days ago, still valid": () => signed({ ...good, iat: nowS - 2 * 86_400 }),
  "no time of issue": () => signed(without("iat")),
  "not valid yet": () => signed({ ...good, nbf: nowS + 120 }),
  "no jti": () => signed(without("jti")),
  "an empty jti": () => signed({ ...good, jti: "" }),
  "a jti that is a number": () => signed({ ...good, jti: 7 }),
  "a jti of 2,000 characters": () => signed({ ...good, jti: "j".repeat(2_000) }),
  "a nonce": () => signed({ ...good, nonce: "n" }),
  "a nonce that is null": () => signed({ ...good, nonce: null }),
  "an ID token": () => signed({ ...without("events"), nonce: "n" }, { typ: "JWT" }),
  "no events": () => signed(without("events")),
  "events without ours": () => signed({ ...good, events: { "http://schemas.openid.net/event/other": {} } }),
  "events that are a list": () => signed({ ...good, events: [event] }),
  "events that are text": () => signed({ ...good, events: event }),
  "an event that is null": () => signed({ ...good, events: { [event]: null } }),
  "an event that is true": () => signed({ ...good, events: { [event]: true } }),
  "neither sub nor sid": () => signed(without("sub", "sid")),
  "an empty sid": () => signed({ ...good, sid: "" }),
  "a sid that is a list": () => signed({ ...good, sid: ["s-1"] }),
  "a sid with a line break": () => signed({ ...good, sid: "s\n1" }),
  "a sub that is a number": () => signed({ ...good, sub: 7 }),
};

for (const [name, token] of Object.entries(defects))
  test(`refused: ${name}`, async () => {
    assert.equal(await kindOf(token()), "untrue");
  });

test("a provider that announces no algorithms signs with RS256", async () => {
  assert.equal(await kindOf(signed(good), { announced: undefined }), "accepted");
  assert.equal(await kindOf(signed(good, { alg: "ES256", kid: "k2" }, ecKey), { announced: undefined }), "untrue");
  assert.equal(await kindOf(signed(good, { alg: "ES256", kid: "k2" }, ecKey), { announced: ["ES256"] }), "accepted");
});

test("a key that the provider does not publish may be a new one, so the token can be sent again", async () => {
  assert.equal(await kindOf(signed(good, { kid: "k9" }, strangerKey)), "silent");
});

/** Session handles: which tokens are accepted, and for which hosts. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { decodeJwt, decodeProtectedHeader, SignJWT, UnsecuredJWT } from "jose";
import { cookieBytesMax, setCookie } from "../../../../src/auth/authenticate/credentials/credentials.ts";
import { createHandleCodec, handleFits, type SessionHandle } from "../../../../src/auth/index.ts";
import { genesis, type Incarnation, type SessionId, tagOf, type UserId } from "../../../../src/events/index.ts";

const key = new Uint8Array(32).fill(1);
const previous = new Uint8Array(32).fill(2);
const issuer = "auth.example.com";
const nowS = (): number => 1_700_000_000;
const codec = createHandleCodec({ issuer, keys: [key], nowS });

const handle: SessionHandle = {
  sessionId: "11111111-2222-3333-4444-555555555555" as SessionId,
  userId: "user-1" as UserId,
  idpId: "demo",
  needs: { ...genesis, epoch: 3 as never, position: 41 as never, hash: "a".repeat(64) as never },
  audience: ["app.example.com"],
};

test("a handle has Pomerium's format, carries its required log position, and verifies to an equal handle", async () => {
  const token = await codec.issue(handle);
  assert.deepEqual(decodeProtectedHeader(token), { alg: "HS256", typ: "JWT" });
  const claims = decodeJwt(token);
  assert.equal(claims.jti, handle.sessionId);
  assert.equal(claims.sub, "user-1");
  assert.equal(claims["idp_id"], "demo");
  assert.equal(claims.iss, issuer);
  assert.deepEqual(claims.aud, ["app.example.com"]);
  assert.equal(claims["databroker_server_version"], 3);
  assert.equal(claims["databroker_record_version"], 41);
  assert.equal(claims.exp, undefined);
  assert.deepEqual(await codec.verify(token), handle);
});

test("a handle names the incarnation of its link's epoch, and one of an older version names none", async () => {
  const incarnation = tagOf("0123456789abcdef0123456789abcdef" as Incarnation);
  const needs = { ...(handle.needs ?? genesis), incarnation };
  const token = await codec.issue({ ...handle, needs });
  assert.equal(decodeJwt(token)["databroker_server_incarnation"], "89abcdef");
  assert.deepEqual(await codec.verify(token), { ...handle, needs });
  const old = await codec.issue(handle);
  assert.ok(!("databroker_server_incarnation" in decodeJwt(old)));
  assert.deepEqual(await codec.verify(old), handle);
});

test("a cookie with a handle takes at most 1 KB, and a longer one is refused when it is created", async () => {
  const options = { domain: null, path: "/", httpOnly: true, sameSite: "lax", maxAgeS: 1 } as const;
  const host = `${"a-long-label-of-a-host".repeat(2)}.${"department".repeat(5)}.example.com`;
  const long = createHandleCodec({ issuer: host, keys: [key], nowS });
  const longestIds = {
    sessionId: "s".repeat(36) as SessionId,
    userId: "u".repeat(43) as UserId,
    idpId: "i".repeat(16),
  };
  const incarnation = tagOf("0123456789abcdef" as Incarnation);
  const needs = { ...(handle.needs ?? genesis), incarnation };
  const token = await long.issue({ ...handle, ...longestIds, needs, audience: [host] });
  assert.match(setCookie("__Host-_pomerium_authenticate", token, options), /^__Host-/);
  assert.ok(Buffer.byteLength(`__Host-_pomerium_authenticate=${token}`) <= cookieBytesMax);
  const value = "v".repeat(cookieBytesMax - "name=".length);
  assert.match(setCookie("name", value, options), /^name=v+; Path/);
  assert.throws(() => setCookie("name", `${value}v`, options), { code: "ERR_AUTH_COOKIE_TOO_LONG" });
});

test("a token seen before is verified synchronously and gives the same handle", async () => {
  const fresh = createHandleCodec({ issuer, keys: [key], nowS });
  const token = await fresh.issue(handle);
  const first = fresh.verify(token);
  assert.ok(first instanceof Promise);
  const known = await first;
  const again = fresh.verify(token);
  assert.ok(!(again instanceof Promise));
  assert.equal(again, known);
});

test("invalid tokens evict no valid token from the cache", async () => {
  const small = createHandleCodec({ issuer, keys: [key], nowS, cacheBytesMax: 4_096 });
  const token = await small.issue(handle);
  await small.verify(token);
  for (let i = 0; i < 10; i++) assert.equal(await small.verify(`rubbish-${i}`), "invalid");
  assert.ok(!(small.verify(token) instanceof Promise));
});

test("a handle has one spelling: other base64 encodings of it are neither verified nor cached", async () => {
  const fresh = createHandleCodec({ issuer, keys: [key], nowS });
  const token = await fresh.issue(handle);
  const [header = "", payload = "", signature = ""] = token.split(".");
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const nextOf = (text: string): string => {
    const bit = { 2: 1, 3: 1 }[text.length % 4] ?? 0;
    return text.slice(0, -1) + (alphabet[(alphabet.indexOf(text.at(-1) ?? "") + bit) % 64] ?? "");
  };
  const others = [
    `${header}.${payload}.${nextOf(signature)}`,
    `${header}.${payload}.${signature}=`,
    `${header}.${payload}.${signature.replaceAll("-", "+").replaceAll("_", "/")}=`,
    `${header}=.${payload}.${signature}`,
    `${header}.${payload}.${signature} `,
    `${header}.${payload}.${signature}.`,
  ];
  assert.equal(Buffer.from(nextOf(signature), "base64url").compare(Buffer.from(signature, "base64url")), 0);
  for (const other of others) {
    assert.notEqual(other, token);
    assert.equal(fresh.verify(other), "invalid", other);
  }
  assert.deepEqual(await fresh.verify(token), handle);
});

test("the cache of verified handles is bounded in bytes", async () => {
  const small = createHandleCodec({ issuer, keys: [key], nowS, cacheBytesMax: 8_192 });
  const tokens = await Promise.all(
    Array.from({ length: 20 }, (_, i) => small.issue({ ...handle, sessionId: `session-${i}` as SessionId })),
  );
  for (const token of tokens) await small.verify(token);
  const cached = tokens.filter((token) => !(small.verify(token) instanceof Promise));
  assert.ok(cached.length >= 1 && cached.length <= 8, `${cached.length} are cached`);
});

async function forge(claims: Record<string, unknown>, options: { key?: Uint8Array; alg?: string; typ?: string } = {}) {
  return new SignJWT({ jti: handle.sessionId, sub: handle.userId, iss: issuer, aud: ["app.example.com"], ...claims })
    .setProtectedHeader({ alg: options.alg ?? "HS256", typ: options.typ ?? "JWT" })
    .sign(options.key ?? key);
}

test("a token that the proxy did not sign is refused", async () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const rs256 = await new SignJWT({ jti: handle.sessionId, sub: handle.userId })
    .setProtectedHeader({ alg: "RS256", typ: "JWT" })
    .setIssuer(issuer)
    .sign(rsa.privateKey);
  // A verifier that trusted the header's algorithm would confuse the shared secret with a public key.
  const confused = await new SignJWT({ jti: handle.sessionId, sub: handle.userId })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer(issuer)
    .sign(Buffer.from(rsa.publicKey.export({ type: "spki", format: "pem" })));
  const none = new UnsecuredJWT({ jti: handle.sessionId, sub: handle.userId }).setIssuer(issuer).encode();
  const [head = "", body = "", mac = ""] = (await codec.issue(handle)).split(".");
  const otherBody = Buffer.from(JSON.stringify({ ...decodeJwt(`${head}.${body}.${mac}`), sub: "another-user" }));
  const link = {
    databroker_server_version: 3,
    databroker_record_version: 41,
    databroker_record_hash: "a".repeat(64),
  };
  const refused: Record<string, string> = {
    "another key": await forge({}, { key: previous }),
    "another algorithm of the same family": await forge({}, { alg: "HS512", key: new Uint8Array(64).fill(1) }),
    RS256: rs256,
    "a public key as a secret": confused,
    none,
    "another issuer": await forge({ iss: "app.example.com" }),
    "another type of token": await forge({}, { typ: "at+jwt" }),
    "a changed body": `${head}.${otherBody.toString("base64url")}.${mac}`,
    "no signature": `${head}.${body}.`,
    "no session": await forge({ jti: undefined }),
    "an invalid session id": await forge({ jti: "a b" }),
    "an invalid position": await forge({ databroker_record_version: -1 }),
    "half a link": await forge({ databroker_record_version: 5, databroker_server_version: 1 }),
    "an incarnation that is no text": await forge({ ...link, databroker_server_incarnation: 12 }),
    "an empty incarnation": await forge({ ...link, databroker_server_incarnation: "" }),
    "a long incarnation": await forge({ ...link, databroker_server_incarnation: "012345678" }),
    "an incarnation of other characters": await forge({ ...link, databroker_server_incarnation: "a b" }),
    "a token longer than any handle": `${head}.${"A".repeat(3_000)}.${mac}`,
    nothing: "",
  };
  for (const [what, token] of Object.entries(refused)) assert.equal(await codec.verify(token), "invalid", what);
});

test("during a rotation, handles of the previous key are accepted and new ones are signed with the new key", async () => {
  const old = await createHandleCodec({ issuer, keys: [previous], nowS }).issue(handle);
  const rotating = createHandleCodec({ issuer, keys: [key, previous], nowS });
  assert.deepEqual(await rotating.verify(old), handle);
  assert.deepEqual(await codec.verify(await rotating.issue(handle)), handle);
  assert.equal(await codec.verify(old), "invalid");
});

test("a handle without an audience is not issued", async () => {
  await assert.rejects(codec.issue({ ...handle, audience: [] }), TypeError);
});

test("a handle is valid for its host and, within a cookie domain, for the neighbouring hosts", () => {
  const fits = (host: string, domain: string | null): boolean => handleFits(handle, host, domain);
  assert.ok(fits("app.example.com", null));
  assert.ok(!fits("eng.example.com", null));
  assert.ok(!fits("example.com", null));
  assert.ok(fits("eng.example.com", "example.com"));
  assert.ok(fits("eng.example.com", ".example.com"));
  assert.ok(fits("example.com", "example.com"));
  assert.ok(!fits("badexample.com", "example.com"));
  assert.ok(!fits("app.example.com.evil.test", "example.com"));
  const foreign = { ...handle, audience: ["app.other.test"] };
  assert.ok(!handleFits(foreign, "eng.example.com", "example.com"), "its own host is outside the domain");
});

/** HS256: what it signs jose accepts, what jose signs it opens, and it opens nothing else. */
import assert from "node:assert/strict";
import { createHmac, createSecretKey, randomBytes } from "node:crypto";
import { test } from "node:test";
import { CompactSign, jwtVerify, SignJWT } from "jose";
import { openHs256, signHs256 } from "../../../src/replication/wire/hs256.ts";
import { fc } from "../../support/property.ts";

const key = createSecretKey(randomBytes(32));
const other = createSecretKey(randomBytes(32));
const open = (token: string) => openHs256(token, (kid) => (kid === "proxy" ? [key] : []));
const part = (text: string): string => Buffer.from(text).toString("base64url");
/** A token with a right signature, whatever its parts say. */
function signedText(header: string, claims: string): string {
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}
const rightHeader = '{"alg":"HS256","kid":"proxy"}';

test("jose verifies any token that this signs, and this opens any that jose signs", async () => {
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.string({ maxLength: 12 }), fc.string({ maxLength: 40 })), async (values) => {
      const claims = { ...values, jti: "1", iss: "ä node", aud: "cardea:c", iat: 1, exp: 9_999_999_999 };
      const ours = signHs256({ kid: "proxy", claims }, key);
      assert.deepEqual(
        (await jwtVerify(ours, key, { algorithms: ["HS256"] })).payload,
        JSON.parse(JSON.stringify(claims)),
      );
      assert.deepEqual(open(ours)?.claims, JSON.parse(JSON.stringify(claims)));
      const theirs = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: "proxy" }).sign(key);
      assert.deepEqual(open(theirs), { kid: "proxy", claims: JSON.parse(JSON.stringify(claims)) });
    }),
    { numRuns: 40 },
  );
});

test("any key of the id opens a token, as while a secret is replaced", () => {
  const token = signHs256({ kid: "proxy", claims: { a: 1 } }, key);
  assert.deepEqual(openHs256(token, () => [other, key])?.claims, { a: 1 });
  assert.equal(
    openHs256(token, () => [other]),
    undefined,
  );
  assert.equal(
    openHs256(token, () => []),
    undefined,
  );
});

test("nothing else is opened", async () => {
  const token = signHs256({ kid: "proxy", claims: { a: 1 } }, key);
  const [head = "", body = "", mac = ""] = token.split(".");
  const lastBits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const last = lastBits.indexOf(mac.at(-1) ?? "");
  const refused: Readonly<Record<string, string>> = {
    "an altered claim": `${head}.${part('{"a":2}')}.${mac}`,
    "another key": signHs256({ kid: "proxy", claims: { a: 1 } }, other),
    "an unknown key id": signHs256({ kid: "__proto__", claims: { a: 1 } }, key),
    "no algorithm": signedText('{"kid":"proxy"}', "{}"),
    "the algorithm none": `${part('{"alg":"none","kid":"proxy"}')}.${body}.`,
    "the algorithm none with a signature": signedText('{"alg":"none","kid":"proxy"}', "{}"),
    "another algorithm": await new SignJWT({}).setProtectedHeader({ alg: "HS512", kid: "proxy" }).sign(randomBytes(64)),
    "a list of algorithms": signedText('{"alg":["HS256"],"kid":"proxy"}', "{}"),
    "a critical header": signedText('{"alg":"HS256","kid":"proxy","crit":["b64"],"b64":false}', "{}"),
    "no key id": signedText('{"alg":"HS256"}', "{}"),
    "a key id that is no text": signedText('{"alg":"HS256","kid":["proxy"]}', "{}"),
    "a header that is no object": signedText('["HS256"]', "{}"),
    "a header that is no JSON": signedText("{", "{}"),
    "claims that are no object": signedText(rightHeader, "[1]"),
    "claims that are null": signedText(rightHeader, "null"),
    "claims that are no JSON": signedText(rightHeader, "a=1"),
    "claims that are no JSON, by jose": await new CompactSign(Buffer.from("x"))
      .setProtectedHeader({ alg: "HS256", kid: "proxy" })
      .sign(key),
    "no claims": `${head}..${mac}`,
    "a fourth part": `${token}.${mac}`,
    "two parts": `${head}.${body}`,
    "a padded signature": `${token}=`,
    "another spelling of the signature": `${head}.${body}.${mac.slice(0, -1)}${lastBits[last ^ 1]}`,
    "base64 instead of base64url": `${head}.${body}.${mac.slice(0, -1)}+`,
    "a cut signature": token.slice(0, -1),
    "a line break": `${token}\n`,
    "too long": signHs256({ kid: "proxy", claims: { a: "x".repeat(8_192) } }, key),
    nothing: "",
  };
  for (const [what, text] of Object.entries(refused)) assert.equal(open(text), undefined, what);
  assert.notEqual(open(token), undefined);
});

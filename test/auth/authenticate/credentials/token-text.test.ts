/** Canonical token text: two spellings that verify as the same token have the same text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateKeyPair, jwtVerify, SignJWT } from "jose";
import { tokenText } from "../../../../src/auth/authenticate/credentials/token-text.ts";

const orders = {
  ES256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  ES384: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  ES512:
    0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
};

for (const [alg, order] of Object.entries(orders))
  test(`both valid ${alg} signatures of a token give the same text, and another token gives another text`, async () => {
    const { privateKey, publicKey } = await generateKeyPair(alg);
    const sign = (): Promise<string> => new SignJWT({ sub: "a" }).setProtectedHeader({ alg }).sign(privateKey);
    const token = await sign();
    const [header, claims, signature = ""] = token.split(".");
    const bytes = Buffer.from(signature, "base64url");
    const half = bytes.length / 2;
    const s = order - BigInt(`0x${bytes.subarray(half).toString("hex")}`);
    const other = Buffer.concat([bytes.subarray(0, half), Buffer.from(s.toString(16).padStart(2 * half, "0"), "hex")]);
    const mirrored = `${header}.${claims}.${other.toString("base64url")}`;
    assert.notEqual(mirrored, token);
    assert.equal((await jwtVerify(mirrored, publicKey)).payload.sub, "a");
    assert.equal(tokenText(mirrored), tokenText(token));
    assert.notEqual(tokenText(await sign()), tokenText(token));
  });

test("a spelling that only a lenient parser accepts is refused, and an opaque token is its own text", async () => {
  const token = await new SignJWT({ sub: "a" }).setProtectedHeader({ alg: "HS256" }).sign(new Uint8Array(32));
  assert.equal(tokenText(token), token);
  for (const wrong of [`${token}=`, `${token.slice(0, -4)} ${token.slice(-4)}`, `${token}.`, `${token}\n`, ""])
    assert.equal(tokenText(wrong), undefined, wrong);
  for (const opaque of ["opaque", "123|abc", "a.b.c"]) assert.equal(tokenText(opaque), opaque);
});

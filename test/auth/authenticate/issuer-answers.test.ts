/** Responses of identity providers and issuers are bounded in size, depth and time, and must be well-formed text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  answerBytesMax,
  answerDepthMax,
  isNestedDeeperThan,
} from "../../../src/auth/authenticate/provider/issuer-fetch.ts";
import { profileOf } from "../../../src/auth/authenticate/provider/oidc-profile.ts";
import { ProviderError } from "../../../src/auth/authenticate/provider/provider-error.ts";
import { finish, startOddProvider } from "./odd-provider.ts";

const nested = (depth: number): string => `${"[".repeat(depth)}${"]".repeat(depth)}`;

test("a provider's response that is too long or nested too deeply is rejected at every endpoint", async (t) => {
  const endless = { filler: "x".repeat(answerBytesMax) };
  const deep = JSON.parse(`{"filler":${nested(answerDepthMax + 1)}}`) as object;
  for (const path of ["/.well-known/openid-configuration", "/jwks", "/token", "/userinfo"]) {
    for (const body of [endless, deep]) {
      const provider = await startOddProvider(t);
      provider.instead = (requestPath) => (requestPath === path ? { body } : undefined);
      await assert.rejects(
        finish(provider),
        (error) => error instanceof ProviderError && error.kind === "silent",
        path,
      );
    }
  }
});

test("a refresh token whose response is too long is not sent again", async (t) => {
  const provider = await startOddProvider(t);
  const { tokens } = await finish(provider);
  provider.instead = (path) => (path === "/token" ? { body: { filler: "x".repeat(answerBytesMax) } } : undefined);
  assert.equal((await provider.client.refresh(tokens)).type, "unknown");
});

test("brackets in strings do not count as depth", () => {
  const bytes = (text: string): Uint8Array => Buffer.from(text);
  assert.equal(isNestedDeeperThan(bytes(nested(3)), 3), false);
  assert.equal(isNestedDeeperThan(bytes(nested(4)), 3), true);
  assert.equal(isNestedDeeperThan(bytes(`{"a":"[[[[\\"[[[["}`), 1), false);
});

test("a subject that is not plain text is refused", () => {
  for (const subject of ["", "alice\n", "\u0000", "\ud800", "a\udc00b", "x".repeat(1_001)])
    assert.throws(() => profileOf("https://idp", subject, {}), ProviderError, JSON.stringify(subject));
  assert.equal(profileOf("https://idp", "Ålice 🦊", {}).subject, "Ålice 🦊");
});

test("claims that are not well-formed text are dropped, and line breaks are kept", () => {
  const profile = profileOf("https://idp", "alice", {
    email: "a\u0000@example.com",
    name: "\ud83d",
    address: { formatted: "1 Way\nTown" },
    groups: ["eng", "\udc00", "o\u001bps"],
    "bad\u0007name": "x",
  });
  assert.equal(profile.email, "");
  assert.equal(profile.name, "");
  assert.deepEqual(profile.claims["address.formatted"], ["1 Way\nTown"]);
  assert.deepEqual(profile.claims["groups"], ["eng"]);
  assert.ok(!Object.keys(profile.claims).some((name) => name.includes("bad")));
});

test("deeply nested claims are refused without recursion", () => {
  const claims = JSON.parse(`{"x":${nested(200_000)}}`) as Record<string, unknown>;
  assert.throws(() => profileOf("https://idp", "alice", claims), ProviderError);
});

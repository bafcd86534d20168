/** Which people of which provider a SCIM client provisions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { provisionedFor } from "../../../../src/auth/index.ts";
import type { ScimClientConfig } from "../../../../src/config/index.ts";
import { type Profile, provisionedUserId } from "../../../../src/events/index.ts";

const client = (name: string, provider: string | null, parts: Partial<ScimClientConfig> = {}): ScimClientConfig => ({
  name,
  match: "subject",
  claim: null,
  provider,
  ...parts,
});
const person = (issuer: string, parts: Partial<Profile> = {}): Profile => ({
  issuer,
  subject: "alice",
  email: "Alice@example.com",
  emailVerified: true,
  name: "",
  claims: {},
  ...parts,
});
const main = "https://idp.example";
const named = new Map([["partner", "https://partner.example/"]]);

test("a client's people are those of its own provider, and no one of another one", () => {
  const of = provisionedFor([client("okta", null), client("hr", "partner")], `${main}/`, named) ?? assert.fail();
  assert.deepEqual(of(person(main)), [provisionedUserId("okta", "alice")]);
  assert.deepEqual(of(person("https://partner.example")), [provisionedUserId("hr", "alice")]);
  assert.deepEqual(of(person("https://another.example")), []);
});

test("a client of a named provider works without a provider of the idp_ keys, and by verified e-mail", () => {
  const of = provisionedFor([client("hr", "partner", { match: "email" })], null, named) ?? assert.fail();
  const alice = person("https://partner.example/");
  assert.deepEqual(of(alice), [provisionedUserId("hr", "alice@example.com")]);
  assert.deepEqual(of({ ...alice, emailVerified: false }), []);
  assert.equal(provisionedFor([client("okta", null)], null, named), undefined);
  assert.equal(provisionedFor([client("hr", "gone")], main, named)?.(person(main)), undefined);
});

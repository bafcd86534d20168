/** The rule by which a provider's groups claim changes a user's groups. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { claimedGroups } from "../../../../src/auth/authenticate/provider/claimed-groups.ts";
import { profileOf } from "../../../../src/auth/authenticate/provider/oidc-profile.ts";

const after = (claims: object, age: "new" | "older than what is known" = "new", claim: string | null = "groups") =>
  claimedGroups({ profile: profileOf("https://idp", "alice", { sub: "alice", ...claims }), claim, age });

test("an absent claim changes nothing; a present one replaces the groups, even if it is empty", () => {
  assert.equal(after({}), null);
  assert.equal(after({ groups: null }), null);
  assert.equal(after({ groups: {} }), null);
  assert.deepEqual(after({ groups: [] }), []);
  assert.deepEqual(after({ groups: ["ops", "eng", "eng"] }), ["eng", "ops"]);
  assert.deepEqual(after({ groups: "eng" }), ["eng"]);
  assert.deepEqual(after({ realm: { roles: [] } }, "new", "realm.roles"), []);
});

test("a claim older than the known one changes nothing, nor does any claim without groups_from_claim", () => {
  assert.equal(after({ groups: ["eng"] }, "older than what is known"), null);
  assert.equal(after({ groups: ["eng"] }, "new", null), null);
});

/** Tokens of SCIM clients on the command line: shown once, listed without secrets, rotated and revoked. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isSecretOf, parseScimToken, type ScimToken, scimTokenIdIn } from "../../../src/events/index.ts";
import { startOperatorWorld } from "../../console/api/operator-support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

test("a token is created, listed, rotated and revoked", async (t) => {
  const at = await startOperatorWorld(t);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const cardea = (...args: readonly string[]) => run(["scim", "tokens", ...args], env);
  const recorded = (text: string): ScimToken | undefined =>
    [...at.world.replica.projection.serviceAccounts()]
      .map(parseScimToken)
      .find((token) => token?.tokenId === scimTokenIdIn(text));
  const status = async (text: string): Promise<string> => {
    const { out } = await cardea("list", "--json");
    const tokens = JSON.parse(out) as { id: string; status: string }[];
    return tokens.find(({ id }) => id === scimTokenIdIn(text))?.status ?? "absent";
  };
  const isKnown = (text: string) => waitFor("the token", async () => (await status(text)) !== "absent");
  assert.equal((await cardea("list")).out, "no SCIM tokens\n");

  const created = await cardea("create", "okta", "--scopes", "users:read,users:write", "--expires", "30d");
  assert.equal(created.code, 0, created.err);
  const first = created.out.trim();
  assert.match(created.out, /^cardea_scim_[0-9a-f]{12}_[\w-]{43}\n$/, "standard output has the token alone");
  await isKnown(first);
  const token = recorded(first) ?? assert.fail();
  assert.ok(isSecretOf(first, token) && !isSecretOf(`${first.slice(0, -4)}AAAA`, token));
  assert.deepEqual([token.client, [...token.scopes].sort()], ["okta", ["users:read", "users:write"]]);
  assert.ok(!JSON.stringify([...at.world.replica.projection.serviceAccounts()]).includes(first.slice(-43)));
  const listed = await cardea("list");
  assert.match(listed.out, /okta +active +20\d\d-/);
  assert.ok(!listed.out.includes(first.slice(-43)));

  const beside = await cardea("rotate", token.tokenId, "--keep", "--json");
  const second = (JSON.parse(beside.out) as { token: string }).token;
  await isKnown(second);
  assert.deepEqual([await status(first), await status(second)], ["active", "active"]);
  assert.deepEqual(recorded(second)?.scopes, token.scopes);
  const rotated = await cardea("rotate", scimTokenIdIn(second) ?? "");
  const third = rotated.out.trim();
  await isKnown(third);
  assert.deepEqual([await status(second), await status(third)], ["revoked", "active"]);
  assert.equal((await cardea("revoke", token.tokenId)).code, 0);
  await waitFor("the revocation", async () => (await status(first)) === "revoked");
  assert.match((await cardea("revoke", token.tokenId)).out, /already revoked/);
});

test("wrong use is refused before anything is created", async (t) => {
  const at = await startOperatorWorld(t);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const cardea = (...args: readonly string[]) => run(["scim", "tokens", ...args], env);
  assert.equal((await cardea("create", "okta", "--scopes", "everything")).code, 2);
  assert.equal((await cardea("create", "okta", "--expires", "soon")).code, 2);
  assert.equal((await cardea("create")).code, 2);
  assert.equal((await cardea("create", "NOT A NAME")).code, 3);
  assert.equal((await cardea("rotate", "abcdef012345")).code, 3);
  assert.equal((await cardea("revoke", "abcdef012345")).code, 3);
  assert.equal([...at.world.replica.projection.serviceAccounts()].length, 0);
});

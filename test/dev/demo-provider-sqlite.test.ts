/** The store of the demo identity provider: expired items are deleted, and revoking a grant deletes its items. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDemoStore } from "../../src/dev/demo-provider-sqlite.ts";

test("an expired item is not found, and the next write deletes it", async (t) => {
  let now = 1_000;
  const store = openDemoStore(undefined, () => now);
  t.after(store.close);
  const tokens = store.adapter("AccessToken");
  await tokens.upsert("a", { jti: "a" }, 10);
  assert.deepEqual(await tokens.find("a"), { jti: "a" });
  now = 1_011;
  assert.equal(await tokens.find("a"), undefined);
  await tokens.upsert("b", { jti: "b" }, 10);
  now = 1_000;
  assert.equal(await tokens.find("a"), undefined);
});

test("a model does not see another model's items of the same id", async (t) => {
  const store = openDemoStore(undefined, () => 0);
  t.after(store.close);
  await store.adapter("Session").upsert("x", { uid: "u1" }, 10);
  assert.equal(await store.adapter("Interaction").find("x"), undefined);
  assert.equal(await store.adapter("Interaction").findByUid("u1"), undefined);
  assert.deepEqual(await store.adapter("Session").findByUid("u1"), { uid: "u1" });
});

test("revoking a grant deletes its tokens, and no other grant's", async (t) => {
  const store = openDemoStore(undefined, () => 7);
  t.after(store.close);
  const tokens = store.adapter("RefreshToken");
  await tokens.upsert("a", { grantId: "g1" }, 10);
  await tokens.upsert("b", { grantId: "g2" }, 10);
  await tokens.revokeByGrantId("g1");
  assert.equal(await tokens.find("a"), undefined);
  await tokens.consume("b");
  assert.deepEqual(await tokens.find("b"), { grantId: "g2", consumed: 7 });
  await tokens.destroy("b");
  assert.equal(await tokens.find("b"), undefined);
});

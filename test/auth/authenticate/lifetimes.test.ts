/** Lifetime of the sessions of one provider: its own, never longer than that of the cookie. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { signIn, startWorld } from "./support.ts";

for (const [name, lifetimeMs, expectedMs] of [
  ["the provider's", 3_600_000, 3_600_000],
  ["the cookie's, if it is shorter", 90 * 24 * 3_600_000, 14 * 3_600_000],
  ["the cookie's, if the provider has none", null, 14 * 3_600_000],
] as const)
  test(`a session lasts for the lifetime of ${name}`, async (t) => {
    const world = await startWorld(t, { settings: { sessionMsOf: (idpId) => (idpId === "demo" ? lifetimeMs : 1) } });
    await signIn(world, world.visitor(), "alice");
    const [session] = [...world.replica.projection.sessions()];
    assert.ok(session?.status === "active");
    assert.equal(session.expiresAt - session.issuedAt, expectedMs);
  });

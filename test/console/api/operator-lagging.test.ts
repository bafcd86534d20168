/** A node that lags ends by a filter also the sessions that were recorded before the command, and that it lacks. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { type CommandId, type SessionId, type UnixMs, userIdOf } from "../../../src/events/index.ts";
import { delayedFanout } from "../../support/delayed-fanout.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

const rounds = 8;

test("sessions that began at another node just before are among those that a filter ends", async (t) => {
  const at = await startOperatorWorld(t, { world: { fanout: (inner) => delayedFanout(inner, { delayMs: 60_000 }) } });
  const { world } = at;
  const elsewhere = world.broker.databroker("authenticate");
  const issuer = "https://idp.example.com";
  for (let round = 0; round < rounds; round++) {
    const sessionId = randomUUID() as string as SessionId;
    const subject = `person-${round}`;
    const now = Date.now();
    const created = await elsewhere.submit({
      commandId: randomUUID() as string as CommandId,
      actor: "service:authenticate",
      command: {
        type: "createSession",
        ...{ sessionId, userId: userIdOf(issuer, subject), idpId: "demo" },
        ...{ issuedAt: now as UnixMs, expiresAt: (now + 3_600_000) as UnixMs },
        profile: { issuer, subject, email: "", emailVerified: false, name: "", claims: {} },
        tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
        ...{ groupIds: null, maxSessionsPerUser: 10 },
      },
    });
    assert.ok(created.type === "done");
    const answer = json(await at.post("/sessions/revoke", { filter: { all: true } }));
    assert.equal(answer.named, 1, "the session is chosen");
    await world.replica.waitFor(answer.link, 5_000);
    assert.equal(world.replica.projection.sessionStatus(sessionId).status, "revoked");
  }
});

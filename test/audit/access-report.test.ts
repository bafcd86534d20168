/** Access report: who counts as a person. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AccessState, describePerson } from "../../src/audit/access-report.ts";
import {
  noPosition,
  type Profile,
  type Sealed,
  signalProfile,
  signalRecordId,
  type UnixMs,
  type User,
  type UserId,
} from "../../src/events/index.ts";

const user = (userId: UserId): User => ({
  userId,
  status: "active",
  profile: new Uint8Array(1) as Sealed,
  sessionsRevokedBelow: noPosition,
  sessionsRevokedFor: null,
});
const stateWith = (profile: Profile): AccessState =>
  ({
    at: 0 as UnixMs,
    projection: { groupsOf: () => new Set(), sessionsOf: () => [] },
    open: () => profile,
  }) as unknown as AccessState;

test("what a transmitter of signals has recorded is no person who could reach a route", () => {
  const about = { by: "email", email: "alice@example.test" } as const;
  const said = {
    kind: "subject",
    state: "enabled",
    stateAt: 1 as UnixMs,
    event: "account-enabled",
    endedUpTo: null,
  } as const;
  const record = user(signalRecordId("okta", about));
  assert.equal(describePerson(stateWith(signalProfile("okta", said)), record), undefined);
  const alice: Profile = {
    ...{ issuer: "https://idp.test", subject: "alice", email: "alice@example.test", emailVerified: true },
    ...{ name: "Alice", claims: {} },
  };
  assert.ok(describePerson(stateWith(alice), user("alice" as UserId))?.principal);
});

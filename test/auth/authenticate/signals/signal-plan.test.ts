/** Signal plan: how many commands a token becomes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { planSignal, type TransmitterRules } from "../../../../src/auth/authenticate/signals/signal-plan.ts";
import type { SecurityEvent, SimpleSubject } from "../../../../src/auth/shared-signals/index.ts";

const rules: TransmitterRules = {
  name: "okta",
  match: ["subject", "email"],
  actions: { "session-revoked": "revoke-sessions" },
  groupsClaim: "groups",
  subjectIssuers: ["https://idp.test", "https://other.test"],
};
const event = (identifiers: readonly SimpleSubject[]): SecurityEvent => ({
  issuer: "https://okta.test",
  audiences: ["https://us.test"],
  jti: "1",
  issuedAt: 0,
  occurredAt: 0,
  txn: null,
  subject: { format: "aliases", identifiers },
  name: "session-revoked",
  uri: "https://schemas.openid.net/secevent/caep/event-type/session-revoked",
  payload: {},
});
const ofPerson = { format: "iss_sub", iss: "https://idp.test", sub: "alice" } as const;
const claimsOf = (claims: unknown) => {
  const change = { ...event([ofPerson]), name: "token-claims-change", payload: { claims } } as const;
  const [only] = planSignal(change, { ...rules, actions: { "token-claims-change": "replace-claims" } }, []) ?? [];
  assert.equal(only?.command.action, "replace-claims");
  return only?.command.claims;
};
const opaque = (count: number): readonly SimpleSubject[] =>
  Array.from({ length: count }, (_, n) => ({ format: "opaque", id: `person-${n}` }));

test("each identifier of a subject becomes a command, or the token is refused", () => {
  const planned = planSignal(event(opaque(12)), rules, []);
  assert.equal(planned?.length, 24, "an opaque id counts for each issuer");
  assert.equal(new Set(planned?.map(({ commandId }) => commandId)).size, 24);
  assert.equal(planSignal(event(opaque(13)), rules, []), undefined, "none of them may be left out in silence");
});

test("claims that are lists of plain values replace others, and of groups it is known what they mean", () => {
  assert.deepEqual(claimsOf({ role: "user", level: 3, gone: null, flags: [true, "x"] }), {
    values: { role: ["user"], level: [3], gone: [], flags: [true, "x"] },
    groups: null,
  });
  assert.deepEqual(claimsOf({ groups: ["b", "a"] })?.groups, { claim: "groups", groupIds: ["a", "b"] });
  assert.deepEqual(claimsOf({ groups: [] })?.groups, { claim: "groups", groupIds: [] });
});

test("claims that say who a person is, that are nested or too many, require a new sign-in", () => {
  const wrong: readonly unknown[] = [
    ...[undefined, null, [], {}, { sub: "root" }, { iss: "https://evil.test" }, { email: "root@example.com" }],
    ...[{ email_verified: true }, { sid: "1" }, { address: { city: "x" } }, { list: [{ a: 1 }] }, { "a.b": 1 }],
    ...[{ "cardea:replaced": "{}" }, { role: "x".repeat(9_000) }, { "bad\nname": 1 }, { role: "a\u0000b" }],
    Object.fromEntries(Array.from({ length: 33 }, (_, n) => [`claim${n}`, 1])),
  ];
  for (const claims of wrong) assert.equal(claimsOf(claims), undefined, JSON.stringify(claims));
});

/** Signal plan: how many commands a token becomes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { planSignal, type TransmitterRules } from "../../../../src/auth/authenticate/signals/signal-plan.ts";
import type { SecurityEvent, SimpleSubject } from "../../../../src/auth/shared-signals/index.ts";

const rules: TransmitterRules = {
  name: "okta",
  match: ["subject", "email"],
  actions: { "session-revoked": "revoke-sessions" },
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
const opaque = (count: number): readonly SimpleSubject[] =>
  Array.from({ length: count }, (_, n) => ({ format: "opaque", id: `person-${n}` }));

test("each identifier of a subject becomes a command, or the token is refused", () => {
  const planned = planSignal(event(opaque(12)), rules, []);
  assert.equal(planned?.length, 24, "an opaque id counts for each issuer");
  assert.equal(new Set(planned?.map(({ commandId }) => commandId)).size, 24);
  assert.equal(planSignal(event(opaque(13)), rules, []), undefined, "none of them may be left out in silence");
});

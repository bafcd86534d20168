/** When the leader asks a transmitter for a verification event. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  arrivesWithinMs,
  createVerificationDuty,
  failedMs,
  isVerificationDue,
  type ReportedState,
  verifyEveryMs,
} from "../../../../src/auth/authenticate/signals/verification-duty.ts";
import { createLocalFetch, createTransmitterClient, transmitterRulesOf } from "../../../../src/auth/index.ts";
import type { SignalTransmitterConfig } from "../../../../src/config/index.ts";
import { signalProfile, signalRecordId, type UnixMs } from "../../../../src/events/index.ts";
import { startTransmitter, staticToken } from "../../../support/signal-transmitter.ts";
import { waitFor } from "../../../support/wait-for.ts";

test("a verification is requested when the last is old, and not again before it may have arrived", () => {
  const now = 1e12;
  assert.equal(isVerificationDue(null, null, now), true);
  assert.equal(isVerificationDue(now - verifyEveryMs + 1, null, now), false);
  assert.equal(isVerificationDue(now - verifyEveryMs, null, now), true);
  for (const [accepted, ms] of [
    [true, arrivesWithinMs],
    [false, failedMs],
  ] as const) {
    assert.equal(isVerificationDue(null, { at: now - ms + 1, accepted }, now), false);
    assert.equal(isVerificationDue(null, { at: now - ms, accepted }, now), true);
  }
});

test("the duty asks a transmitter that it has a credential for, tries again after a failure, and reports the stream", async (t) => {
  const peer = await startTransmitter(t);
  const local = createLocalFetch({ timeoutMs: 5_000 });
  t.after(() => local.close());
  const transmitterOf = (name: string, accessToken: string | null) => {
    const config: SignalTransmitterConfig = {
      ...{ name, issuer: peer.issuer, audiences: [peer.audience], delivery: "poll", pushToken: null, accessToken },
      ...{ match: ["subject", "email"], client: null, pollUrl: null, streamId: null, subjectIssuers: [], actions: {} },
      ...{ metadataUrl: null, jwksUrl: null },
    };
    const client = createTransmitterClient(config, { local, nowMs: Date.now, monotonic: () => performance.now() });
    return { config, rules: transmitterRulesOf(config, []), client };
  };
  const reported = new Map<string, ReportedState>();
  const warnings: string[] = [];
  let now = Date.now();
  const run = createVerificationDuty({
    ...{ transmitters: [transmitterOf("okta", staticToken), transmitterOf("mute", null)] },
    ...{ stateKeys: [new Uint8Array(32)], nowMs: () => now, nonce: () => "n".repeat(16) },
    onReported: (name, state) => void reported.set(name, state),
    log: { warn: (_fields, message) => void warnings.push(message) },
  });
  const record = signalRecordId("okta", { by: "stream" });
  let profiles = new Map();
  const turn = () => run({ leads: () => true, profiles: async () => profiles });
  await turn();
  assert.equal(warnings.length, 1, "there is no stream yet");
  await turn();
  assert.equal(warnings.length, 1, "not again at once");
  assert.deepEqual(reported.get("okta"), { status: null, verifiedAt: 0 });
  assert.deepEqual(reported.get("mute"), { status: null, verifiedAt: null });
  peer.state.stream = {
    ...{ stream_id: "s", iss: peer.issuer, aud: peer.audience, events_delivered: [] },
    delivery: { method: "urn:ietf:rfc:8936", endpoint_url: `${peer.issuer}/poll` },
  };
  now += failedMs;
  await turn();
  assert.equal(warnings.length, 1);
  await waitFor("the verification event, to be polled", () => peer.state.pending.length === 1);
  const stream = { streamId: "s", status: "paused", statusAt: 1 as UnixMs, verifiedState: "x" } as const;
  profiles = new Map([[record, signalProfile("okta", { kind: "stream", ...stream, verifiedAt: now as UnixMs })]]);
  now += arrivesWithinMs;
  await turn();
  assert.equal(peer.state.pending.length, 1);
  assert.deepEqual(reported.get("okta"), { status: "paused", verifiedAt: now - arrivesWithinMs });
});

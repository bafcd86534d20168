/** Recording in the log what a cut-off region revoked by itself: what it records, skips, refuses, and repeats. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import { MalformedCommandError, parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Performed, Tools } from "../../../src/broker/commands/performed.ts";
import { refuseCommand } from "../../../src/broker/commands/permissions.ts";
import {
  type BootId,
  type CardeaEvent,
  type Epoch,
  genesis,
  type Position,
  Projection,
  parseCommandId,
  type UnixMs,
} from "../../../src/events/index.ts";
import { encodeRevocation, type LocalRevocation, sealEnvelope } from "../../../src/replication/wire/index.ts";
import { record } from "../../events/support.ts";
import { created, newSigner, sessionId, userId } from "../../replication/support.ts";
import { random } from "../support.ts";

const now = Date.now() as UnixMs;
const boot = "boot-b1" as BootId;
const commandId = parseCommandId("c0ffee00-0000-4000-8000-000000000001");
const hours = 60 * 60 * 1_000;
const tools: Tools = {
  ...{ epoch: 1 as Epoch, now, random, wrappingKey: new Uint8Array(32), vaultKey: new Uint8Array(32) },
  ...{ personKeyOf: () => undefined, versionOf: () => 0, configOf: () => undefined, hasBody: () => false },
  ...{ unreadyFor: () => [], admittedNodes: () => [] },
  lost: {
    holds: () => false,
    mayHold: () => false,
    lacks: () => false,
    endOfEpoch: () => 0 as Position,
    restoredAfter: () => false,
  },
};

function envelopeOf(parts: Partial<LocalRevocation> = {}): Uint8Array {
  const revocation: LocalRevocation = {
    ...{ commandId, region: "west", broker: "b1", boot, seq: 1, basis: genesis, actor: "operator:alice#1" },
    ...{ acceptedAt: now, command: "revokeUserSessions", userId: userId(1), reason: "" },
    sessionIds: [sessionId(1), sessionId(6), sessionId(99)],
    ...parts,
  };
  return sealEnvelope(newSigner({ name: "b1", boot }), "local-revocation", encodeRevocation(revocation));
}
const suspension = (parts: Partial<LocalRevocation> = {}) =>
  envelopeOf({ command: "suspendUser", sessionIds: [], reason: "stolen laptop", ...parts });

function projectionOf(events: readonly CardeaEvent[]): Projection {
  const projection = new Projection();
  for (const recorded of record(events, projection.applied)) projection.apply(recorded);
  return projection;
}
function merge(projection: Projection, envelope: Uint8Array): Performed {
  return performCommand(projection, requestOf(envelope), tools);
}
const requestOf = (envelope: Uint8Array, actor = "operator:alice#1") => ({
  ...{ commandId, actor },
  command: { type: "mergeRevocation", envelope } as const,
});
const eventsOf = (performed: Performed): readonly CardeaEvent[] =>
  performed.type === "changes" ? performed.changes.events : [];
const upserted: CardeaEvent = { type: "UserUpserted", userId: userId(1), profile: new Uint8Array(40) };
const suspendedUser: CardeaEvent = { type: "UserSuspended", userId: userId(1), reason: "by home" };

test("sessions that are still active are revoked, one event each; those that have ended or are unknown are skipped", () => {
  const projection = projectionOf([
    created(1),
    created(6),
    { type: "SessionRevoked", sessionId: sessionId(6), userId: userId(1), reason: "sign-out" },
  ]);
  assert.deepEqual(eventsOf(merge(projection, envelopeOf())), [
    { type: "SessionRevoked", sessionId: sessionId(1), userId: userId(1), reason: "operator" },
  ]);
  assert.equal(merge(projectionOf([]), envelopeOf()).type, "nothing", "a repetition changes nothing");
});

test("a session that began at home after the basis is not ended", () => {
  const projection = projectionOf([created(1), created(11)]);
  const ids = eventsOf(merge(projection, envelopeOf())).map((event) => "sessionId" in event && event.sessionId);
  assert.deepEqual(ids, [sessionId(1)]);
});

test("a suspension wins over a restore at home, is recorded over a suspension, and yields to an erasure", () => {
  const event = { type: "UserSuspended", userId: userId(1), reason: "stolen laptop" };
  const restored: CardeaEvent = { type: "UserRestored", userId: userId(1) };
  for (const events of [[], [upserted], [upserted, suspendedUser], [upserted, suspendedUser, restored]])
    assert.deepEqual(eventsOf(merge(projectionOf(events), suspension())), [event]);
  const erased: CardeaEvent = { type: "UserErased", userId: userId(1) };
  assert.equal(merge(projectionOf([upserted, erased]), suspension()).type, "nothing");
});

test("a suspension of a region that was cut off for a day is recorded: the log shows that it never was", () => {
  const projection = projectionOf([upserted, suspendedUser, { type: "UserRestored", userId: userId(1) }]);
  const old = suspension({ acceptedAt: (now - 90 * 24 * hours) as UnixMs, basis: projection.applied });
  assert.equal(eventsOf(merge(projection, old)).length, 1);
  assert.equal(eventsOf(merge(projectionOf([upserted]), suspension({ acceptedAt: 0 as UnixMs }))).length, 1);
});

test("a suspension that the log may have recorded, lifted and forgotten suspends no one again", () => {
  const old = suspension({ acceptedAt: (now - 24 * hours) as UnixMs });
  const lifted = projectionOf([upserted, suspendedUser, { type: "UserRestored", userId: userId(1) }]);
  assert.equal(merge(lifted, old).type, "refused");
  assert.equal(eventsOf(merge(lifted, suspension())).length, 1, "the log has not forgotten a younger one");
  const elsewhere = { ...tools, lost: { ...tools.lost, lacks: () => true } };
  assert.equal(
    performCommand(projectionOf([upserted]), requestOf(old), elsewhere).type,
    "refused",
    "its basis is lost",
  );
  const suspended = projectionOf([upserted, suspendedUser]);
  assert.equal(eventsOf(merge(suspended, old)).length, 1, "so that the nodes of the region learn of the merge");
  const oldSessions = envelopeOf({ acceptedAt: (now - 90 * 24 * hours) as UnixMs });
  assert.equal(eventsOf(merge(projectionOf([created(1)]), oldSessions)).length, 1, "an ended session stays ended");
});

test("brokers and nodes may submit it, under the actor that its broker signed", () => {
  for (const role of ["broker", "proxy", "authorize", "authenticate"] as const) {
    assert.equal(refuseCommand(role, requestOf(envelopeOf())), undefined);
    assert.match(refuseCommand(role, requestOf(envelopeOf(), "operator:eve#2")) ?? "", /own actor/);
  }
  assert.match(refuseCommand("operator", requestOf(envelopeOf())) ?? "", /may not submit/);
});

test("an envelope of another kind, or that denies nothing, is malformed", () => {
  const seal = (kind: "answer" | "local-revocation", payload: Uint8Array) => sealEnvelope(newSigner(), kind, payload);
  const nothing = envelopeOf({ command: "revokeSession", userId: null, sessionIds: [] });
  for (const envelope of [
    seal("answer", new Uint8Array(3)),
    seal("local-revocation", new Uint8Array(3)),
    nothing,
    "text",
  ])
    assert.throws(
      () => parseCommandRequest({ ...requestOf(new Uint8Array()), command: { type: "mergeRevocation", envelope } }),
      MalformedCommandError,
    );
});

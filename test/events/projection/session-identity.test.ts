/**
 * The object identity of sessions: values derived from a session are cached by its object, so it must stay the same
 * until the session changes.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CardeaEvent, encode, Projection, type UnixMs } from "../../../src/events/index.ts";
import { created, record, revoked, sessionId, userId } from "../support.ts";

test("a repeated lookup returns the same object until the session changes", () => {
  const projection = new Projection();
  const apply = (...events: CardeaEvent[]): void => {
    for (const one of record(events, projection.applied)) projection.apply(one);
  };
  const sessionOf = (n: number) => {
    const found = projection.sessionStatus(sessionId(n));
    assert.ok(found.status !== "unknown");
    return found.session;
  };
  apply(created(1, 1), created(2, 2));
  const [first, second] = [sessionOf(1), sessionOf(2)];
  assert.equal(sessionOf(1), first);

  apply(revoked(1, 1));
  assert.notEqual(sessionOf(1), first);
  assert.equal(sessionOf(1).status, "revoked");
  assert.equal(sessionOf(2), second);

  const profile = encode({ changed: true });
  apply({ type: "SessionRefreshed", sessionId: sessionId(2), userId: userId(2), profile, refreshedAt: 5 as UnixMs });
  const refreshed = sessionOf(2);
  assert.ok(refreshed.status === "active" && Buffer.compare(refreshed.profile, profile) === 0);
  assert.equal(sessionOf(2), refreshed);
});

/**
 * Unchanged facts: whether a node's present copy of the log still has the facts of an earlier decision. Pure.
 *
 * A fact whose newest event is at or before the link of the decision is as it was then, however many other events
 * followed. So a node needs no older copy to decide again.
 */
import type { DecisionRecord, RoutePolicy } from "../../auth/index.ts";
import {
  type FactPositions,
  type GroupId,
  type Projection,
  parseSessionId,
  type SessionId,
  userStream,
} from "../../events/index.ts";

export type PresentFacts = Readonly<{
  projection: Pick<Projection, "session">;
  places: Pick<FactPositions, "ofStream" | "ofSession" | "ofSweptSession" | "ofMembership">;
}>;

/** @returns whether the session, the person and the memberships that the policy reads are as they were at the link */
export function isUnchangedSince(
  { applied, sessionId, userId, trace }: DecisionRecord,
  policy: Pick<RoutePolicy, "reads"> | null,
  { projection, places }: PresentFacts,
): boolean {
  const isSessionAsBefore = (id: SessionId): boolean => {
    const session = projection.session(id);
    const { position } = session === undefined ? places.ofSweptSession(id) : places.ofSession(session);
    return position <= applied.position;
  };
  const named = sessionId ?? sessionIn(trace?.facts ?? []);
  if (named !== null && !isSessionAsBefore(named)) return false;
  if (userId === null) return true;
  if (places.ofStream(userStream(userId)).position > applied.position) return false;
  const groups = policy?.reads.groups ?? [];
  return groups.every((group) => places.ofMembership(userId, group as GroupId).position <= applied.position);
}

function sessionIn(facts: readonly Readonly<{ fact: string }>[]): SessionId | null {
  const named = facts.find(({ fact }) => fact.startsWith("session:"))?.fact;
  return named === undefined ? null : parseSessionId(named.slice("session:".length));
}

/** Retention floor: how far back in the log a lease holder may still need to read. Pure. */
import type { Position } from "../../events/index.ts";
import type { LesseeStatus } from "../../replication/index.ts";

/** Nobody who is fenced off needs anything any more: it asks anew when it comes back. */
export function retentionFloor(standings: readonly LesseeStatus[], head: Position): Position {
  const needs = standings
    .filter(({ fencedInMs }) => fencedInMs === null || fencedInMs > 0)
    .map(({ renew, enforced }) => Math.max(renew?.applied.position ?? 0, enforced?.position ?? 0));
  return Math.min(head, ...needs) as Position;
}

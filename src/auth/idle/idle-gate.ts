/**
 * Idle gate: the idle lifetimes of one configuration, applied to the sessions of this node. Pure, except for its
 * dependencies.
 */
import type { IdleLifetimes, RouteConfig } from "../../config/index.ts";
import type { MonotonicMs, UnixMs } from "../../events/index.ts";
import { lastUse, mayBeIdle, type SessionActivity, type UsedSession } from "./session-activity.ts";

export type IdleGate = Readonly<{
  /** When the session becomes idle on a route; 0: it was idle before. Null: no idle lifetime applies. */
  onRoute(route: Pick<RouteConfig, "sessionIdleLifetimeMs">, session: UsedSession, now: UnixMs): UnixMs | null;
  /**
   * As `onRoute`, by the log alone.
   * @param routeMs the idle lifetime of the route, which another process may have stated; 0: none
   */
  byLog(routeMs: number, session: UsedSession): UnixMs | null;
  /** What this node knows of the use of a session. */
  describe(session: UsedSession, now: UnixMs): KnownUse;
  /** A request or bytes of the session were permitted. */
  note(session: UsedSession, at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>): void;
}>;

/** The last known use of a session, and who knows it. */
export type KnownUse = Readonly<{
  /** Null: use is not tracked, and the log knows of none. */
  seenAt: UnixMs | null;
  seenBy: "sign-in" | "log" | "this-node";
  /** When the session becomes idle on every route; 0: it was idle before. Null: no such idle lifetime applies. */
  idleAt: UnixMs | null;
}>;

/** What applies on every route. */
const anyRoute = { sessionIdleLifetimeMs: 0 } as const;

/** @param lifetimes null: the configuration has no idle lifetime, and nothing is remembered */
export function createIdleGate(lifetimes: IdleLifetimes | null, activity: SessionActivity): IdleGate {
  function onRoute(
    route: Pick<RouteConfig, "sessionIdleLifetimeMs">,
    session: UsedSession,
    now: UnixMs,
  ): UnixMs | null {
    const idleMs = lifetimes === null ? 0 : lifetimes.onRoute(route, session.idpId);
    return idleMs === 0 || !mayBeIdle(session) ? null : activity.idleAt(session, idleMs, now);
  }
  return {
    onRoute,
    describe(session, now) {
      const here = activity.useHere(session.sessionId);
      const logged = activity.useInLog(session.sessionId);
      const seenAt = lastUse(session, here, logged);
      const isTracked = mayBeIdle(session) && (lifetimes !== null || logged !== undefined);
      return {
        seenAt: isTracked ? seenAt : null,
        seenBy: seenAt === here?.seenAt ? "this-node" : seenAt === logged?.seenAt ? "log" : "sign-in",
        idleAt: onRoute(anyRoute, session, now),
      };
    },
    byLog(routeMs, session) {
      const own = lifetimes === null ? 0 : lifetimes.everywhere(session.idpId);
      const idleMs = own === 0 || routeMs === 0 ? own + routeMs : Math.min(own, routeMs);
      return idleMs === 0 || !mayBeIdle(session) ? null : activity.idleAtByLog(session, idleMs);
    },
    note(session, at) {
      if (lifetimes === null) return;
      const shortestMs = lifetimes.shortest(session.idpId);
      if (shortestMs > 0 && mayBeIdle(session)) activity.note(session, shortestMs, at);
    },
  };
}

/** Close codes: the code and reason with which a cut WebSocket is closed (docs/close-codes.md). Pure. */
/**
 * - `session-ended`: the session is gone, revoked or expired
 * - `not-permitted`: the session is valid, and policy denies the exchange now
 * - `route-removed`: the configuration in force has no such route
 * - `stale`: no lease within the route's grace
 * - `lifetime`: `max_stream_lifetime`
 * - `draining`: this node is going away
 */
export const cutReasons = ["session-ended", "not-permitted", "route-removed", "stale", "lifetime", "draining"] as const;
export type CutReason = (typeof cutReasons)[number];

export type CloseCode = Readonly<{ code: number; reason: string }>;

export const closeCodes: Readonly<Record<CutReason, CloseCode>> = {
  "session-ended": { code: 4401, reason: "session ended: sign in again" },
  "not-permitted": { code: 4403, reason: "no longer permitted" },
  "route-removed": { code: 4404, reason: "no such route any more" },
  stale: { code: 4503, reason: "control plane lost: try again later" },
  lifetime: { code: 4408, reason: "stream lifetime over: connect again" },
  draining: { code: 1001, reason: "this node is going away: connect again" },
};

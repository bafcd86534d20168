/** Close codes: the code and reason with which a cut WebSocket is closed (docs/close-codes.md). Pure. */
import type { CutReason } from "../enforce/exchanges.ts";

export type CloseCode = Readonly<{ code: number; reason: string }>;

export const closeCodes: Readonly<Record<CutReason, CloseCode>> = {
  "session-ended": { code: 4401, reason: "session ended: sign in again" },
  "not-permitted": { code: 4403, reason: "no longer permitted" },
  "route-removed": { code: 4404, reason: "no such route any more" },
  stale: { code: 4503, reason: "control plane lost: try again later" },
  lifetime: { code: 4408, reason: "stream lifetime over: connect again" },
  draining: { code: 1001, reason: "this node is going away: connect again" },
};

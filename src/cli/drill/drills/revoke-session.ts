/** Session revocation: the canary's session ends, finally. Pure. */
import { always, type Drill } from "../drill.ts";

export const revokeSession: Drill = {
  name: "revoke-session",
  summary: "revoke the canary's session; the canary signs in again afterwards",
  purpose: "Rehearses a lost laptop: how long until no node permits the session, and that open streams end.",
  fault: { type: "canary", change: "revoke-session" },
  does: "Revokes the canary's session and waits for the receipt and for every proxy to refuse. The session stays revoked: sign in again before the next drill.",
  promises: { ...always, "every-node-refuses": 5_000, "receipt-complete": 5_000, acknowledged: 2_000 },
};

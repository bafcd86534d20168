/** Suspension: the canary user is suspended and restored. Pure. */
import { always, type Drill } from "../drill.ts";

export const suspendUser: Drill = {
  name: "suspend-user",
  summary: "suspend the canary user and restore it; the canary signs in again afterwards",
  purpose:
    "Rehearses a compromised account: how long until no node permits the person, and that the account is restored.",
  fault: { type: "canary", change: "suspend-user" },
  does: "Suspends the canary user, waits for the receipt and for every proxy to refuse, and restores the user. Its sessions stay revoked: sign in again before the next drill.",
  promises: { ...always, "every-node-refuses": 5_000, "receipt-complete": 5_000, acknowledged: 2_000 },
};

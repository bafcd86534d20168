/** Group removal: the drill that can run every day, because the canary keeps its session. Pure. */
import { always, type Drill } from "../drill.ts";

export const groupRemoval: Drill = {
  name: "group-removal",
  summary: "remove the canary from its group, several times, and add it again",
  purpose: "Shows how long it takes until no node permits a person who has lost a right, and that open streams end.",
  fault: { type: "canary", change: "remove-member" },
  does: "Removes the canary user from the canary group, waits for the receipt and for every proxy to refuse, and adds it again.",
  promises: { ...always, "every-node-refuses": 5_000, "receipt-complete": 5_000, acknowledged: 2_000 },
};

/** Restart of a broker that does not lead. Pure. */
import { always, type Drill } from "../drill.ts";

export const standbyRestart: Drill = {
  name: "standby-restart",
  summary: "restart a broker that does not lead, by your command, while rights change",
  purpose: "Shows that the loss of a standby broker delays nothing.",
  fault: { type: "process", kind: "standby", how: "restart" },
  does: "Runs your command, which restarts a broker that does not lead, and removes and adds the canary's membership meanwhile.",
  promises: {
    ...always,
    "every-node-refuses": 5_000,
    "receipt-complete": 10_000,
    acknowledged: 5_000,
    "others-serve": "none",
    "target-returns": 120_000,
  },
};

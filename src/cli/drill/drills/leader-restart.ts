/** Restart of the leading broker. Pure. */
import { always, type Drill } from "../drill.ts";

export const leaderRestart: Drill = {
  name: "leader-restart",
  summary: "restart the leading broker by your command while rights change",
  purpose: "Shows how long no change can be made while another broker takes over, and that requests do not notice.",
  fault: { type: "process", kind: "leader", how: "restart" },
  does: "Runs your command, which restarts the leading broker, and removes and adds the canary's membership meanwhile.",
  promises: {
    ...always,
    "receipt-complete": "window",
    acknowledged: 10_000,
    "others-serve": "none",
    "target-returns": 120_000,
  },
};

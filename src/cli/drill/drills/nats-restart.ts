/** Restart of a NATS server. Pure. */
import { always, type Drill } from "../drill.ts";

export const natsRestart: Drill = {
  name: "nats-restart",
  summary: "restart one NATS server by your command while rights change",
  purpose: "Shows that NATS only accelerates: revocations still reach every node without it, through the brokers.",
  fault: { type: "process", kind: "nats", how: "restart" },
  does: "Runs your command, which restarts one NATS server, and removes and adds the canary's membership meanwhile.",
  promises: {
    ...always,
    "every-node-refuses": 5_000,
    "receipt-complete": 10_000,
    acknowledged: 5_000,
    "others-serve": "none",
    "target-returns": 60_000,
  },
};

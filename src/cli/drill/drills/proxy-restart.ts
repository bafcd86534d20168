/** Restart of a proxy. Pure. */
import { always, type Drill } from "../drill.ts";

export const proxyRestart: Drill = {
  name: "proxy-restart",
  summary: "restart one proxy by your command while rights change",
  purpose: "Shows that people notice nothing of a restarted proxy, and that it comes back with the current rights.",
  fault: { type: "process", kind: "proxy", how: "restart" },
  does: "Runs your command, which restarts one proxy, and removes and adds the canary's membership meanwhile.",
  promises: {
    ...always,
    "every-node-refuses": 5_000,
    "receipt-complete": "window",
    acknowledged: 2_000,
    "others-serve": "none",
    "target-returns": 120_000,
  },
};

/** Pause of a proxy: it is frozen, or cut off from everything. Pure. */
import { always, type Drill } from "../drill.ts";

export const proxyPause: Drill = {
  name: "proxy-pause",
  summary: "freeze one proxy, or cut it off, by your command while rights change",
  purpose: "Shows that a silent proxy is fenced: a receipt waits for its window and is complete without it.",
  fault: { type: "process", kind: "proxy", how: "pause" },
  does: "Runs your command, which freezes or cuts off one proxy, removes the canary's membership, waits for the receipt, and undoes it.",
  promises: {
    ...always,
    "receipt-complete": "window",
    acknowledged: 2_000,
    "others-serve": "none",
    "target-returns": 60_000,
  },
};

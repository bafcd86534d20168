/** The disk of a proxy's audit spool is full. */
import type { Scenario } from "../scenario.ts";

const proxy = "proxy-eu-1";

export const fullAuditDisk: Scenario = {
  name: "full-audit-disk",
  topology: "one-region",
  fault: "No byte is free on the disk of one proxy's audit spool.",
  promise: "Its strict route answers 503, its other routes serve, and with free space every route serves within 6 s.",
  boundS: 6,
  async play(game) {
    const { visitors } = game;
    const full = await game.fault("fill-disk", proxy);
    await game.within("the strict route answers 503", visitors.refused(proxy, "eng", 503), 5);
    await game.serves("a route with best effort is served", 2, visitors.permitted(proxy, "app"));
    await full.heal();
    await game.within("every route is served", visitors.permittedOn(proxy));
  },
};

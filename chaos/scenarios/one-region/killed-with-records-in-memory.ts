/** A proxy dies while its disk is slow, so that records of decisions are in its memory alone. */
import type { Scenario } from "../scenario.ts";

const proxy = "proxy-eu-2";

export const killedWithRecordsInMemory: Scenario = {
  name: "killed-with-records-in-memory",
  topology: "one-region",
  fault: "The disk of one proxy is slow, and the proxy is killed while records wait for it.",
  promise: "No strict permit is without its record, gaps declare the others, and the proxy serves again within 20 s.",
  boundS: 20,
  async play(game) {
    const killed = await game.fault("kill-on-slow-disk", proxy);
    await killed.heal();
    await game.within("every route is served", game.visitors.permittedOn(proxy));
  },
};

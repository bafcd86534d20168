/** A proxy loses every other process. */
import type { Scenario } from "../scenario.ts";

export const cutProxy: Scenario = {
  name: "cut-proxy",
  topology: "one-region",
  fault: "One proxy is cut off from brokers and NATS.",
  promise: "It refuses every route within 8 s, when its window has passed, and the others notice nothing.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    await game.fault("cut-proxy", "proxy-eu-2");
    const cutAt = game.within("the proxy that is cut off refuses", visitors.refused("proxy-eu-2", "app", 503));
    const others = game.serves("another proxy serves every route", 6, visitors.permittedOn("proxy-eu-1"));
    await Promise.all([cutAt, others]);
  },
};

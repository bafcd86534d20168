/** The connections of a proxy are lost without notice. */
import type { Scenario } from "../scenario.ts";

export const halfOpenProxy: Scenario = {
  name: "half-open-proxy",
  topology: "one-region",
  fault: "All connections of one proxy become black holes; new ones work.",
  promise: "The proxy replaces them, and serves the route that denies when stale within 10 s.",
  boundS: 10,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted", visitors.permittedOn("eu", revoked), 5);
    await game.fault("half-open-proxy", "proxy-eu-3");
    await game.pause(2.5);
    await game.within("the proxy has a fresh lease", visitors.permitted("proxy-eu-3", "eng"));
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt of a revocation is complete", operators.complete(link));
    await game.holds("the proxy refuses the revoked session", visitors.denied("proxy-eu-3", "app", revoked));
  },
};

/** A new leader knows the leases of a proxy only from the table. */
import type { Scenario } from "../scenario.ts";

export const leaderDiesWithAProxyAway: Scenario = {
  name: "leader-dies-with-a-proxy-away",
  topology: "one-region",
  fault: "One proxy is cut off, and the leading broker is killed.",
  promise: "The receipt of a revocation is complete within 20 s, and not while the proxy may still permit.",
  boundS: 20,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted", visitors.permittedOn("eu", revoked), 5);
    await game.fault("cut-proxy-and-kill-leader", "proxy-eu-1");
    const { link } = await operators.revoke(revoked);
    if (link === null) throw new Error("the revocation was not acknowledged");
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("the proxy that is away refuses", visitors.refused("proxy-eu-1", "app", 503, revoked));
  },
};

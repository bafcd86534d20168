/** A new leader knows the leases of a region only from the table. */
import type { Scenario } from "../scenario.ts";

export const leaderDiesWithARegionAway: Scenario = {
  name: "leader-dies-with-a-region-away",
  topology: "three-regions",
  fault: "us loses every other region, and the leading broker is killed.",
  promise: "Changes are acknowledged within 12 s; the receipt of a revocation is complete only when us refuses.",
  boundS: 12,
  async play(game) {
    const { visitors, operators } = game;
    const [spare, revoked] = [await visitors.arrive(), await visitors.arrive()];
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("cut-region-and-kill-leader", "us");
    await game.within("a change is acknowledged", operators.changes(spare));
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link), 20);
    await game.holds("us refuses every route", visitors.refused("us", "app", 503, revoked));
  },
};

/** A region is far away for a while. */
import type { Scenario } from "../scenario.ts";

export const slowRegion: Scenario = {
  name: "slow-region",
  topology: "three-regions",
  fault: "Every byte between us and the other regions is 250 ms later.",
  promise: "us serves its routes with grace throughout, and a revocation is enforced everywhere within 6 s.",
  boundS: 6,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.fault("slow-region", "us");
    await game.serves("us serves the route with 3 s of grace", 4, visitors.permitted("us", "app"));
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("us refuses the session", visitors.denied("us", "app", revoked));
  },
};

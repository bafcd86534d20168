/** The leading broker stops running and returns, unaware of the time that has passed. */
import type { Scenario } from "../scenario.ts";

export const pauseLeader: Scenario = {
  name: "pause-leader",
  topology: "one-region",
  fault: "The leading broker is paused, and resumed after another leads.",
  promise: "Another broker acknowledges changes within 12 s, and the old one does no harm when it returns.",
  boundS: 12,
  async play(game) {
    const { visitors, operators } = game;
    const [spare, revoked] = [await visitors.arrive(), await visitors.arrive()];
    const fault = await game.fault("pause-leader");
    await game.within("a change is acknowledged by the other broker", operators.changes(spare));
    const { link } = await operators.revokeOnce(revoked);
    await fault.heal();
    await game.within("the receipt of a revocation is complete", operators.complete(link));
    await game.throughout("the revoked session stays refused", 3, visitors.denied("eu", "app", revoked));
  },
};

/** A session is revoked at home while a region is cut off. */
import type { Scenario } from "../scenario.ts";

export const revocationWaitsForTheWindow: Scenario = {
  name: "revocation-waits-for-the-window",
  topology: "three-regions",
  fault: "us loses every other region; then a session is revoked in eu.",
  promise: "The receipt names us as open until its window has passed, and is complete within 12 s.",
  boundS: 12,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("cut-region", "us");
    const { link } = await operators.revokeOnce(revoked);
    await game.holds("the receipt names us as open", operators.incomplete(link, ["us"]));
    await game.within("eu refuses the session", visitors.refused("eu", "app", 401, revoked), 3);
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("us refuses every route", visitors.refused("us", "app", 503, revoked));
  },
};

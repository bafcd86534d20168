/** A region hears and is not heard. */
import type { Scenario } from "../scenario.ts";

export const muteRegion: Scenario = {
  name: "mute-region",
  topology: "three-regions",
  fault: "What the other regions send arrives in us, and nothing that us sends does.",
  promise: "A revocation is enforced in us within 5 s although us cannot confirm it; its receipt waits for the window.",
  boundS: 5,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("mute-region", "us");
    const { link } = await operators.revokeOnce(revoked);
    await game.holds("the receipt names us as open", operators.incomplete(link, ["us"]));
    await game.within("us does not permit the session", visitors.refused("us", "app", 401, revoked));
    await game.within("the receipt is complete", operators.complete(link), 12);
  },
};

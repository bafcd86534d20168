/** A firewall forgets every connection between two regions. */
import type { Scenario } from "../scenario.ts";

export const halfOpenRegion: Scenario = {
  name: "half-open-region",
  topology: "three-regions",
  fault: "All connections between us and the other regions become black holes; new ones work.",
  promise: "us replaces them, and serves every route within 15 s.",
  boundS: 15,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("half-open-region", "us");
    await game.pause(3);
    await game.within("us serves every route", visitors.permittedOn("us"));
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt of a revocation is complete", operators.complete(link));
  },
};

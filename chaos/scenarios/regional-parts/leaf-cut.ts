/** NATS does not cross, and everything else does. */
import type { Scenario } from "../scenario.ts";

export const leafCut: Scenario = {
  name: "leaf-cut",
  topology: "three-regions",
  fault: "The leaf connection of us is cut.",
  promise: "us serves its routes with grace throughout, and a revocation is enforced everywhere within 6 s, by reads.",
  boundS: 6,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("cut-leaf", "us");
    await game.pause(2);
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("us refuses the session", visitors.denied("us", "app", revoked));
    await game.serves("us serves the route with 3 s of grace", 4, visitors.permitted("us", "app"));
  },
};

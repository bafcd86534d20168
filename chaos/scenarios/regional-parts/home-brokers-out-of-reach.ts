/** NATS crosses, and the home brokers cannot be reached. */
import type { Scenario } from "../scenario.ts";

export const homeBrokersOutOfReach: Scenario = {
  name: "home-brokers-out-of-reach",
  topology: "three-regions",
  fault: "us is cut off from the brokers of the home region, and not from its NATS.",
  promise:
    "A revocation is enforced in us within 4 s by NATS alone, and us refuses every route when its window has passed.",
  boundS: 4,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("cut-region-from-brokers", "us");
    await operators.revokeOnce(revoked);
    await game.within("us refuses the session", visitors.refused("us", "app", 401, revoked));
    await game.within("us refuses every route", visitors.refused("us", "app", 503), 9);
  },
};

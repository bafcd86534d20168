/** The NATS server of a region crashes. */
import type { Scenario } from "../scenario.ts";

export const leafServerDies: Scenario = {
  name: "leaf-server-dies",
  topology: "three-regions",
  fault: "The NATS server of us is killed.",
  promise: "A revocation is enforced everywhere within 8 s, and us serves its routes with grace.",
  boundS: 8,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    await game.fault("kill-nats", "nats-us-1");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("us refuses the session", visitors.denied("us", "app", revoked));
    await game.serves("us serves the route with 3 s of grace", 3, visitors.permitted("us", "app"));
  },
};

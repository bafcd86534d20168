/** A NATS client without any secret floods the cluster. */
import type { Scenario } from "../scenario.ts";

export const hostileNatsClient: Scenario = {
  name: "hostile-nats-client",
  topology: "one-region",
  fault: "A client without a secret publishes the messages that cost receivers most.",
  promise: "Every route is served throughout, and a revocation is enforced within 8 s.",
  boundS: 8,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.fault("hostile-nats-client");
    await game.serves("the route with 3 s of grace is served", 3, visitors.permitted("eu", "app"));
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
  },
};

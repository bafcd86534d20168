/** NATS is away. */
import type { Scenario } from "../scenario.ts";

export const noNats: Scenario = {
  name: "no-nats",
  topology: "one-region",
  fault: "All NATS servers are killed.",
  promise: "A revocation is enforced everywhere within 6 s, by reads from the brokers.",
  boundS: 6,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted", visitors.permittedOn("eu", revoked), 5);
    await game.fault("kill-all-nats");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("every proxy refuses", visitors.denied("eu", "app", revoked));
    await game.serves("every route is served", 3, visitors.permittedOn("eu"));
  },
};

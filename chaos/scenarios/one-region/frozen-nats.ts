/** NATS is there and does nothing. */
import type { Scenario } from "../scenario.ts";

export const frozenNats: Scenario = {
  name: "frozen-nats",
  topology: "one-region",
  fault: "All NATS servers are paused.",
  promise: "A revocation is enforced everywhere within 8 s, and no route is disturbed.",
  boundS: 8,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted", visitors.permittedOn("eu", revoked), 5);
    await game.fault("pause-all-nats");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("every proxy refuses", visitors.denied("eu", "app", revoked));
  },
};

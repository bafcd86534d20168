/** The leading broker crashes. */
import type { Scenario } from "../scenario.ts";

export const killLeader: Scenario = {
  name: "kill-leader",
  topology: "one-region",
  fault: "The leading broker is killed.",
  promise: "No route is disturbed, and another broker acknowledges changes within 10 s.",
  boundS: 10,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    await game.fault("kill-leader");
    await Promise.all([
      game.serves("the route with 3 s of grace is served", 4, visitors.permitted("eu", "app")),
      game.within("a change is acknowledged by the other broker", operators.changes(spare)),
    ]);
    await game.within("the route that denies when stale is served", visitors.permitted("eu", "eng"));
  },
};

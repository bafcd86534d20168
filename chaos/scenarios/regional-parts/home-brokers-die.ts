/** No home broker runs for a few seconds. */
import type { Scenario } from "../scenario.ts";

export const homeBrokersDie: Scenario = {
  name: "home-brokers-die",
  topology: "three-regions",
  fault: "Both brokers of the home region are killed for 3 s.",
  promise: "us and ap serve their routes with grace meanwhile, and every region serves everything within 30 s.",
  boundS: 30,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    const dead = await game.fault("kill-brokers");
    await Promise.all([
      game.serves("us serves the route with 3 s of grace", 3, visitors.permitted("us", "app")),
      game.serves("ap serves the route with 3 s of grace", 3, visitors.permitted("ap", "app")),
    ]);
    await dead.heal();
    await game.within("a change is acknowledged", operators.changes(spare));
    await game.within("every region serves every route", visitors.permittedEverywhere());
  },
};

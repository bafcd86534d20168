/** The only broker of a region crashes. */
import type { Scenario } from "../scenario.ts";

export const onlyRegionalBrokerDies: Scenario = {
  name: "only-regional-broker-dies",
  topology: "three-regions",
  fault: "Every broker of ap is killed, and starts again after its window.",
  promise: "ap refuses every route within 8 s, and serves again within 20 s of the restart.",
  boundS: 20,
  async play(game) {
    const { visitors } = game;
    const dead = await game.fault("kill-regional-brokers", "ap");
    await game.within("ap refuses the route with 3 s of grace", visitors.refused("ap", "app", 503), 8);
    await dead.heal();
    await game.within("ap serves every route", visitors.permittedOn("ap"));
  },
};

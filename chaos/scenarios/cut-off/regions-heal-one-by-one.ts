/** Two regions are cut off, and one of them heals. */
import type { Scenario } from "../scenario.ts";

export const regionsHealOneByOne: Scenario = {
  name: "regions-heal-one-by-one",
  topology: "three-regions",
  fault: "us and ap lose every other region; us heals first.",
  promise: "us serves every route within 8 s of its own healing, and ap refuses until it heals too.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    const [us, ap] = [await game.fault("cut-region", "us"), await game.fault("cut-region", "ap")];
    await game.within("ap refuses the route with 3 s of grace", visitors.refused("ap", "app", 503), 9);
    await game.within("us refuses it too", visitors.refused("us", "app", 503), 9);
    await game.pause(8); // until the windows have passed: on a busy machine a proxy refuses earlier
    await us.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
    await game.throughout("ap refuses every route", 2, visitors.refused("ap", "app", 503));
    await ap.heal();
    await game.within("ap serves every route", visitors.permittedOn("ap"));
  },
};

/** The home region is cut off from all others. */
import type { Scenario } from "../scenario.ts";

export const homeCutOff: Scenario = {
  name: "home-cut-off",
  topology: "three-regions",
  fault: "eu loses every other region.",
  promise:
    "eu serves every route throughout; us and ap refuse when their windows have passed, and serve within 10 s of healing.",
  boundS: 10,
  async play(game) {
    const { visitors } = game;
    const cut = await game.fault("cut-home");
    await Promise.all([
      game.serves("eu serves every route", 8, visitors.permittedOn("eu")),
      game.within("us refuses", visitors.refused("us", "app", 503), 9),
      game.within("ap refuses", visitors.refused("ap", "app", 503), 9),
    ]);
    await cut.heal();
    await game.within("every region serves every route", visitors.permittedEverywhere());
  },
};

/** Both other regions are cut off. */
import type { Scenario } from "../scenario.ts";

export const homeIgnoresCutRegions: Scenario = {
  name: "home-ignores-cut-regions",
  topology: "three-regions",
  fault: "us and ap lose every other region.",
  promise: "The home region serves every route throughout, and acknowledges changes within 3 s.",
  boundS: 3,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    await game.fault("cut-region", "us");
    await game.fault("cut-region", "ap");
    await Promise.all([
      game.serves("eu serves every route", 8, visitors.permittedOn("eu")),
      game.within("a change is acknowledged in eu", operators.changes(spare)),
    ]);
  },
};

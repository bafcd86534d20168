/** A region is heard and hears nothing. */
import type { Scenario } from "../scenario.ts";

export const deafRegion: Scenario = {
  name: "deaf-region",
  topology: "three-regions",
  fault: "What us sends arrives in the other regions, and no answer returns.",
  promise: "us refuses every route within 8 s, and serves again within 8 s of healing.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    const deaf = await game.fault("deafen-region", "us");
    await Promise.all([
      game.within("us refuses the route with 3 s of grace", visitors.refused("us", "app", 503)),
      game.serves("eu serves every route", 7, visitors.permittedOn("eu")),
    ]);
    await deaf.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
  },
};

/** A link comes and goes. */
import type { Scenario } from "../scenario.ts";

export const flappingRegion: Scenario = {
  name: "flapping-region",
  topology: "three-regions",
  fault: "us loses every other region for 0.9 s, again and again.",
  promise: "us serves its routes with grace throughout, and every route within 8 s of the end.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    const flaps = await game.fault("flap-region", "us");
    await game.serves("us serves the route with 3 s of grace", 8, visitors.permitted("us", "app"));
    await flaps.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
  },
};

/** A region is cut off for less than its window. */
import type { Scenario } from "../scenario.ts";

export const regionCutWithinItsWindow: Scenario = {
  name: "region-cut-within-its-window",
  topology: "three-regions",
  fault: "us loses every other region for 3 s.",
  promise: "us serves its routes with grace without a break, and every route within 8 s of healing.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    const cut = await game.fault("cut-region", "us");
    await game.serves("us serves the route with 3 s of grace", 3, visitors.permitted("us", "app"));
    await cut.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
  },
};

/** A region is cut off for longer than its window. */
import type { Scenario } from "../scenario.ts";

export const regionCutBeyondItsWindow: Scenario = {
  name: "region-cut-beyond-its-window",
  topology: "three-regions",
  fault: "us loses every other region.",
  promise: "us refuses every route within 8 s, and serves again within 8 s of healing.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    const cut = await game.fault("cut-region", "us");
    await game.within("us refuses the route that denies when stale", visitors.refused("us", "eng", 503), 5);
    await game.within("us refuses the route with 3 s of grace", visitors.refused("us", "app", 503));
    // A proxy that did not run for a while refuses early, and may permit again before its window has passed.
    await game.pause(8);
    await game.throughout("us refuses every route", 3, visitors.refused("us", "app", 503));
    await cut.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
  },
};

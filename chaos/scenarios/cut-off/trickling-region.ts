/** A network that lets almost nothing through. */
import type { Scenario } from "../scenario.ts";

export const tricklingRegion: Scenario = {
  name: "trickling-region",
  topology: "three-regions",
  fault: "Links between us and the other regions carry 200 bytes a second.",
  promise: "The home region notices nothing, and us serves every route within 20 s of healing.",
  boundS: 20,
  async play(game) {
    const { visitors } = game;
    const trickle = await game.fault("trickle-region", "us");
    await game.serves("eu serves every route", 8, visitors.permittedOn("eu"));
    await trickle.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
  },
};

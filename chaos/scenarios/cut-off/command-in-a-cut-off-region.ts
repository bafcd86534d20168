/** An operator works in a region that is cut off. */
import type { Scenario } from "../scenario.ts";

export const commandInACutOffRegion: Scenario = {
  name: "command-in-a-cut-off-region",
  topology: "three-regions",
  fault: "us loses every other region; then a group is changed in us.",
  promise: "The command is refused with 503 within 2 s, and acknowledged within 10 s of healing.",
  boundS: 10,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    const cut = await game.fault("cut-region", "us");
    await game.pause(3);
    await game.within("the command is refused at once", operators.refusesChanges(spare, "us"), 2);
    await cut.heal();
    await game.within("a change is acknowledged in us", operators.changes(spare, "us"));
  },
};

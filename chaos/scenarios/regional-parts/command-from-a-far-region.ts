/** An operator works in another region while the leader crashes. */
import type { Scenario } from "../scenario.ts";

export const commandFromAFarRegion: Scenario = {
  name: "command-from-a-far-region",
  topology: "three-regions",
  fault: "The leading broker is killed; the command is given in us.",
  promise: "The command is acknowledged in us within 15 s, once.",
  boundS: 15,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    await game.fault("kill-leader");
    await game.within("a change is acknowledged in us", operators.changes(spare, "us"));
  },
};

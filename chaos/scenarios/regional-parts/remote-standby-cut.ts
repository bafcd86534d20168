/** The Postgres standby of a region is cut off. */
import type { Scenario } from "../scenario.ts";

export const remoteStandbyCut: Scenario = {
  name: "remote-standby-cut",
  topology: "three-regions",
  fault: "The standby in us receives nothing.",
  promise: "Changes at home are acknowledged within 3 s, by the standby there.",
  boundS: 3,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    await game.fault("cut-region-standby", "us");
    await game.pause(1);
    await game.within("a change is acknowledged", operators.changes(spare));
    await game.serves("us serves the route with 3 s of grace", 3, visitors.permitted("us", "app"));
  },
};

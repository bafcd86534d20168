/** A regional broker restarts while its region is cut off. */
import type { Scenario } from "../scenario.ts";

export const brokerRestartsInACutRegion: Scenario = {
  name: "broker-restarts-in-a-cut-region",
  topology: "three-regions",
  fault: "us loses every other region, and broker-us-1 restarts meanwhile.",
  promise: "The restarted broker holds no lease and grants none; us serves again within 12 s of healing.",
  boundS: 12,
  async play(game) {
    const { visitors, operators } = game;
    const cut = await game.fault("cut-region-and-restart-broker", "us");
    const applied = operators.metric("broker-us-1", "cardea_replica_applied", (value) => value > 0);
    await game.within("the restarted broker has the log from its disk", applied, 20);
    const none = operators.metric("broker-us-1", "cardea_broker_grants_by_age", (value) => value === 0);
    await game.throughout("it grants nothing", 3, none);
    await cut.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
  },
};

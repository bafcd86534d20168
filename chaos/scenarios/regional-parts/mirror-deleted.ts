/** The mirror of a region is gone. */
import type { Scenario } from "../scenario.ts";

export const mirrorDeleted: Scenario = {
  name: "mirror-deleted",
  topology: "three-regions",
  fault: "Every JetStream stream of us is deleted.",
  promise: "us creates its mirror again and catches up within 20 s.",
  boundS: 20,
  async play(game) {
    const { visitors, operators } = game;
    await game.fault("delete-mirror", "us");
    await visitors.arrive();
    const isLevel = operators.metric("broker-us-1", "cardea_broker_mirror_lag", (value) => value === 0);
    await game.within("the mirror has caught up", isLevel);
    await game.serves("us serves the route with 3 s of grace", 2, visitors.permitted("us", "app"));
  },
};

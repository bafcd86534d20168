/** The replay buffer at home is created anew. */
import type { Scenario } from "../scenario.ts";

export const homeStreamDeleted: Scenario = {
  name: "home-stream-deleted",
  topology: "three-regions",
  fault: "Every JetStream stream of the home region is deleted.",
  promise: "The mirrors of us and ap follow the new stream within 40 s.",
  boundS: 40,
  async play(game) {
    const { visitors, operators } = game;
    await game.fault("delete-stream");
    await visitors.arrive();
    for (const broker of ["broker-us-1", "broker-ap-1"]) {
      const isLevel = operators.metric(broker, "cardea_broker_mirror_lag", (value) => value === 0);
      await game.within(`the mirror of ${broker} has caught up`, isLevel);
    }
    await game.serves("us serves the route with 3 s of grace", 2, visitors.permitted("us", "app"));
  },
};

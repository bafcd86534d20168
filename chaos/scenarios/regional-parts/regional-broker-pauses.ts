/** One of two regional brokers stops running and returns. */
import type { Scenario } from "../scenario.ts";

export const regionalBrokerPauses: Scenario = {
  name: "regional-broker-pauses",
  topology: "three-regions",
  fault: "broker-us-1 is paused.",
  promise: "us serves its routes with grace throughout, and every route within 8 s, by the other broker.",
  boundS: 8,
  async play(game) {
    const { visitors } = game;
    const paused = await game.fault("pause-regional-broker", "broker-us-1");
    await game.serves("us serves the route with 3 s of grace", 5, visitors.permitted("us", "app"));
    await game.within("us serves every route", visitors.permittedOn("us"));
    await paused.heal();
    await game.serves("us serves the route with 3 s of grace", 3, visitors.permitted("us", "app"));
  },
};

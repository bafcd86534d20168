/** No broker runs for a few seconds. */
import type { Scenario } from "../scenario.ts";

export const killAllBrokers: Scenario = {
  name: "kill-all-brokers",
  topology: "one-region",
  fault: "Both brokers are killed, and start again after 3 s.",
  promise: "Routes with grace are served meanwhile, and changes are acknowledged within 20 s of the restart.",
  boundS: 20,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    const fault = await game.fault("kill-brokers");
    await game.serves("the route with 3 s of grace is served", 3, visitors.permitted("eu", "app"));
    await fault.heal();
    await game.within("a change is acknowledged", operators.changes(spare));
    await game.within("every route is served", visitors.permittedOn("eu"));
  },
};

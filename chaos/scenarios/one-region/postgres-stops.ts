/** Postgres crashes and returns. */
import type { Scenario } from "../scenario.ts";

export const postgresStops: Scenario = {
  name: "postgres-stops",
  topology: "one-region",
  fault: "The primary is killed, and starts again after 2 s.",
  promise: "Routes with grace are served meanwhile, and changes are acknowledged within 15 s.",
  boundS: 15,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    const fault = await game.fault("stop-postgres");
    await game.serves("the route with 3 s of grace is served", 2, visitors.permitted("eu", "app"));
    await fault.heal();
    await game.within("a change is acknowledged", operators.changes(spare));
  },
};

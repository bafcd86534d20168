/** The leader loses Postgres, and everybody else has it. */
import type { Scenario } from "../scenario.ts";

export const leaderWithoutPostgres: Scenario = {
  name: "leader-without-postgres",
  topology: "one-region",
  fault: "The leading broker is cut off from Postgres.",
  promise: "The other broker takes over and acknowledges changes within 15 s.",
  boundS: 15,
  async play(game) {
    const { visitors, operators } = game;
    const spare = await visitors.arrive();
    await game.fault("cut-leader-from-postgres");
    await game.within("a change is acknowledged", operators.changes(spare));
    await game.within("every route is served", visitors.permittedOn("eu"));
  },
};

/** One of two regional brokers crashes. */
import type { Scenario } from "../scenario.ts";

export const regionalBrokerDies: Scenario = {
  name: "regional-broker-dies",
  topology: "three-regions",
  fault: "broker-us-1 is killed.",
  promise: "us serves its routes with grace throughout, and every route within 6 s, by the other broker.",
  boundS: 6,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.fault("kill-regional-broker", "broker-us-1");
    await game.serves("us serves the route with 3 s of grace", 4, visitors.permitted("us", "app"));
    await game.within("us serves every route", visitors.permittedOn("us"));
    const { link } = await operators.revokeOnce(revoked);
    await game.within("us refuses a revoked session", visitors.refused("us", "app", 401, revoked));
    await game.within("the receipt is complete", operators.complete(link), 12);
  },
};

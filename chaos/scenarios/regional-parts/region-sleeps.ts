/** The machines of a region sleep and wake, unaware of the time that has passed. */
import type { Scenario } from "../scenario.ts";

export const regionSleeps: Scenario = {
  name: "region-sleeps",
  topology: "three-regions",
  fault: "Every process of us is paused for 7 s, longer than any window.",
  promise: "A session that was revoked meanwhile is never permitted, and us serves every route within 10 s of waking.",
  boundS: 10,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    const asleep = await game.fault("pause-region", "us");
    const { link } = await operators.revokeOnce(revoked);
    await game.pause(7);
    await game.within("the receipt is complete", operators.complete(link), 6);
    await asleep.heal();
    await game.within("us serves every route", visitors.permittedOn("us"));
    await game.holds("us refuses the revoked session", visitors.denied("us", "app", revoked));
  },
};

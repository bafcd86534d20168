/** A region heals before its window ends. */
import type { Scenario } from "../scenario.ts";

export const healingEnforcesWhatWasMissed: Scenario = {
  name: "healing-enforces-what-was-missed",
  topology: "three-regions",
  fault: "us loses every other region for 2 s, and a session is revoked in eu meanwhile.",
  promise: "us refuses the session and the receipt is complete within 6 s of healing.",
  boundS: 6,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    const cut = await game.fault("cut-region", "us");
    const { link } = await operators.revokeOnce(revoked);
    await game.pause(1.5);
    await cut.heal();
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("us refuses the session", visitors.denied("us", "app", revoked));
  },
};

/** An operator revokes in a region that is cut off. */
import type { Scenario } from "../scenario.ts";

export const cutOffRegionRevokes: Scenario = {
  name: "cut-off-region-revokes",
  topology: "three-regions",
  fault: "us loses every other region; then a session is revoked in us.",
  promise: "us revokes it by itself within 2 s and says so; every region refuses the session within 10 s of healing.",
  boundS: 10,
  async play(game) {
    const { visitors, operators } = game;
    const [revoked, other] = [await visitors.arrive(), await visitors.arrive()];
    await game.within("both sessions are permitted in us", visitors.permittedOn("us", revoked), 5);
    await game.within("both sessions are permitted in us", visitors.permittedOn("us", other), 5);
    const cut = await game.fault("cut-region", "us");
    await game.pause(1.6);
    await game.within("us revokes by itself", operators.revokesLocally(revoked, "us"), 2);
    await game.holds("us does not permit the session", visitors.denied("us", "app", revoked));
    await game.serves("us permits the other session still", 0, visitors.permitted("us", "app", other));
    await game.serves("eu permits it still", 0, visitors.permitted("eu", "app", revoked));
    await cut.heal();
    for (const region of ["eu", "us", "ap"])
      await game.within(`${region} refuses the session`, visitors.refused(region, "app", 401, revoked));
    await game.within("us permits the other session", visitors.permittedOn("us", other));
  },
};

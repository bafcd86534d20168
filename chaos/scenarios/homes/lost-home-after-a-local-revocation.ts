/** A cut-off region revokes by itself, its home region is lost, and it becomes the home region. */
import type { Scenario } from "../scenario.ts";

export const lostHomeAfterALocalRevocation: Scenario = {
  name: "lost-home-after-a-local-revocation",
  topology: "movable-home",
  fault:
    "eu loses every other region; us revokes a session by itself; everything in eu is killed, and us becomes the home region.",
  promise: "us and ap refuse the session within 30 s of the move, and the log has its end once, also after eu is back.",
  boundS: 30,
  changesCluster: true,
  async play(game) {
    const { visitors, operators } = game;
    const [revoked, other] = [await visitors.arrive(), await visitors.arrive()];
    for (const region of ["us", "ap"])
      for (const visitor of [revoked, other])
        await game.within(`the sessions are permitted in ${region}`, visitors.permittedOn(region, visitor), 5);
    const cut = await game.fault("cut-home");
    await game.within("us revokes by itself", operators.revokesLocally(revoked, "us"), 4);
    await game.holds("us does not permit the session", visitors.denied("us", "app", revoked));
    const lost = await game.fault("lose-home");
    await operators.moveHome("us", "--old-primary", "pg_1");
    for (const region of ["us", "ap"]) {
      await game.within(`${region} refuses the session`, visitors.refused(region, "app", 401, revoked));
      await game.within(`${region} permits the other session`, visitors.permittedOn(region, other));
    }
    await game.within("the log has the revocation, as ap says", operators.records(revoked, "ap"), 5);
    await cut.heal();
    await lost.heal();
    await operators.moveHome("us");
    await operators.rejoin();
    await game.within("eu refuses the session", visitors.refused("eu", "app", 401, revoked));
  },
};

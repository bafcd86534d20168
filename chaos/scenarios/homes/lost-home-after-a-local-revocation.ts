/** A region revokes by itself because its home region is lost, and then becomes the home region. */
import type { Scenario } from "../scenario.ts";

export const lostHomeAfterALocalRevocation: Scenario = {
  name: "lost-home-after-a-local-revocation",
  topology: "movable-home",
  fault: "Everything in eu is killed; us revokes a session by itself, and then becomes the home region.",
  promise: "us and ap refuse the session within 30 s of the move: the new leader records it before it grants a lease.",
  boundS: 30,
  changesCluster: true,
  async play(game) {
    const { visitors, operators, cluster } = game;
    const revoked = await visitors.arrive();
    for (const region of ["us", "ap"])
      await game.within(`the session is permitted in ${region}`, visitors.permittedOn(region, revoked), 5);
    const lost = await game.fault("lose-home");
    await game.pause(1.6);
    await game.within("us revokes by itself", operators.revokesLocally(revoked, "us"), 2);
    await operators.moveHome("us", "--old-primary", "pg_1");
    for (const region of ["us", "ap"])
      await game.within(`${region} refuses the session`, visitors.refused(region, "app", 401, revoked));
    await lost.heal();
    await operators.moveHome("us", "--old-primary", "pg_1");
    // The old primary may hold changes that were never acknowledged. It stays down until it is made a standby.
    await cluster.postgres.kill();
    await game.within("eu refuses the session", visitors.refused("eu", "app", 401, revoked));
  },
};

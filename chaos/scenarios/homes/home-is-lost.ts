/** The home region is lost, another becomes the home region by one command, and the old one comes back. */
import type { Scenario } from "../scenario.ts";

export const homeIsLost: Scenario = {
  name: "home-is-lost",
  topology: "movable-home",
  fault:
    "Everything in eu is killed, its Postgres servers too; us becomes the home region, and eu comes back with its old primary.",
  promise:
    "Changes are acknowledged in us within 60 s of the command, no acknowledged one is lost, and eu serves its region again.",
  boundS: 60,
  changesCluster: true,
  async play(game) {
    const { visitors, operators } = game;
    const [spare, revoked] = [await visitors.arrive(), await visitors.arrive()];
    const { link } = await operators.revokeOnce(revoked);
    const lost = await game.fault("lose-home");
    await game.serves("us serves the route with 3 s of grace", 2, visitors.permitted("us", "app"));
    const move = operators.moveHome("us", "--old-primary", "pg_1");
    move.catch(() => {}); // awaited below
    await game.within("a change is acknowledged in us", operators.changes(spare, "us"));
    await move;
    await game.within(
      `the revocation at ${link.position} is in force`,
      visitors.refused("us", "app", 401, revoked),
      10,
    );
    await lost.heal();
    await operators.moveHome("us");
    // The old primary may hold changes that were never acknowledged. It comes back only as a standby.
    await operators.rejoin();
    await game.within("eu serves every route", visitors.permittedOn("eu"));
    await game.within("a change is acknowledged in eu", operators.changes(spare, "eu"));
  },
};

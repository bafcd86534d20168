/** A primary that waits for no standby is lost. */
import type { Scenario } from "../scenario.ts";

export const laggingStandbyPromoted: Scenario = {
  name: "lagging-standby-promoted",
  topology: "one-region",
  fault: "Commits stop waiting for a standby, the primary is killed, and a standby that lacks them is promoted.",
  promise: "Changes are acknowledged within 40 s; a lost revocation stays in force.",
  boundS: 40,
  changesCluster: true,
  async play(game) {
    const { visitors, operators } = game;
    const [spare, revoked] = [await visitors.arrive(), await visitors.arrive()];
    const fault = await game.fault("promote-lagging-standby");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("every proxy refuses the session", visitors.refused("eu", "app", 401, revoked), 10);
    await fault.heal();
    await game.within("a change is acknowledged", operators.changes(spare));
    await game.throughout(`the revocation at ${link.position} is in force`, 4, visitors.denied("eu", "app", revoked));
  },
};

/** A whole region crashes and starts again. */
import type { Scenario } from "../scenario.ts";

export const regionLosesPower: Scenario = {
  name: "region-loses-power",
  topology: "three-regions",
  fault: "Every process and the NATS server of ap are killed, and start again after 3 s.",
  promise:
    "The home region notices nothing, and ap serves every route within 30 s; a session that was revoked meanwhile is refused there.",
  boundS: 30,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted everywhere", visitors.permittedEverywhere(revoked), 5);
    const dark = await game.fault("kill-region", "ap");
    await operators.revokeOnce(revoked);
    await game.serves("eu serves every route", 3, visitors.permittedOn("eu"));
    await dark.heal();
    await game.within("ap serves every route", visitors.permittedOn("ap"));
    await game.holds("ap refuses the revoked session", visitors.denied("ap", "app", revoked));
  },
};

/** The broker that accepted a revocation in a cut-off region crashes before the region heals. */
import type { Scenario } from "../scenario.ts";

export const brokerDiesAfterALocalRevocation: Scenario = {
  name: "broker-dies-after-a-local-revocation",
  topology: "three-regions",
  fault:
    "us loses every other region and revokes a session by itself; then every broker of us is killed, and us heals.",
  promise: "Every region refuses the session within 25 s of the restart, because the brokers have it on their disks.",
  boundS: 25,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted in us", visitors.permittedOn("us", revoked), 5);
    const cut = await game.fault("cut-region", "us");
    await game.pause(2);
    await game.within("us revokes by itself", operators.revokesLocally(revoked, "us"), 2);
    const dead = await game.fault("kill-regional-brokers", "us");
    await cut.heal();
    await dead.heal();
    for (const region of ["eu", "ap", "us"])
      await game.within(`${region} refuses the session`, visitors.refused(region, "app", 401, revoked));
  },
};

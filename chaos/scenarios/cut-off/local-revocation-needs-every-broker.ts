/** An operator revokes in a region that is cut off and lacks one of its brokers. */
import type { Scenario } from "../scenario.ts";

export const localRevocationNeedsEveryBroker: Scenario = {
  name: "local-revocation-needs-every-broker",
  topology: "three-regions",
  fault: "broker-us-2 is killed and us loses every other region; then a session is revoked in us.",
  promise: "us does not revoke by itself and says why within 2 s, because the other broker may still grant leases.",
  boundS: 2,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted in us", visitors.permittedOn("us", revoked), 5);
    await game.fault("kill-regional-broker", "broker-us-2");
    await game.within("us serves every route", visitors.permittedOn("us"), 8);
    await game.fault("cut-region", "us");
    await game.pause(2);
    const refused = operators.refusesToRevoke(revoked, "us", "cannot be reached");
    await game.within("us does not revoke by itself", refused);
  },
};

/** A proxy is heard by the others and hears nothing. */
import type { Scenario } from "../scenario.ts";

export const deafProxy: Scenario = {
  name: "deaf-proxy",
  topology: "one-region",
  fault: "One proxy receives nothing, although what it sends arrives.",
  promise: "A revocation is complete within 12 s, when the proxy is fenced, and the proxy permits nothing then.",
  boundS: 12,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted", visitors.permittedOn("eu", revoked), 5);
    await game.fault("deafen-proxy", "proxy-eu-1");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete although the proxy is deaf", operators.complete(link));
    await game.holds("the deaf proxy refuses", visitors.refused("proxy-eu-1", "app", 503, revoked));
  },
};

/** A proxy is heard by the others and hears nothing. */
import type { Scenario } from "../scenario.ts";

export const deafProxy: Scenario = {
  name: "deaf-proxy",
  topology: "one-region",
  fault: "One proxy receives nothing, although what it sends arrives.",
  promise: "The proxy refuses every route within 12 s; a receipt is complete only when it hears again.",
  boundS: 12,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.within("the session is permitted", visitors.permittedOn("eu", revoked), 5);
    const deaf = await game.fault("deafen-proxy", "proxy-eu-1");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the deaf proxy refuses", visitors.refused("proxy-eu-1", "app", 503, revoked));
    await game.holds("the receipt names the proxy's region as open", operators.incomplete(link, ["eu"]));
    await deaf.heal();
    await game.within("the receipt is complete", operators.complete(link));
    await game.holds("the proxy refuses the session", visitors.denied("proxy-eu-1", "app", revoked));
  },
};

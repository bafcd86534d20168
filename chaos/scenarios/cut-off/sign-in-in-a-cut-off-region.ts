/** A person wants to sign in in a region that is cut off. */
import type { Scenario } from "../scenario.ts";

export const signInInACutOffRegion: Scenario = {
  name: "sign-in-in-a-cut-off-region",
  topology: "three-regions",
  fault: "us loses every other region; then a person signs in in us.",
  promise: "The sign-in is refused with 503 before the identity provider, and possible within 10 s of healing.",
  boundS: 10,
  async play(game) {
    const { visitors } = game;
    const cut = await game.fault("cut-region", "us");
    await game.pause(5);
    await game.within("the sign-in is refused before the identity provider", visitors.signInRefused("us"), 2);
    await cut.heal();
    await game.within("a person can sign in in us", visitors.signsIn("us"));
  },
};

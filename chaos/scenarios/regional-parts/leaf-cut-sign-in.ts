/** A person who signed in at home visits another region whose NATS is cut. */
import type { Scenario } from "../scenario.ts";

export const leafCutSignIn: Scenario = {
  name: "leaf-cut-sign-in",
  topology: "three-regions",
  fault: "The leaf connection of us is cut.",
  promise: "A session that is created in eu is permitted in us within 3 s, because the node waits for its link.",
  boundS: 3,
  async play(game) {
    const { visitors } = game;
    await game.fault("cut-leaf", "us");
    await game.pause(2);
    const fresh = await visitors.arrive();
    await game.within("us permits the new session", visitors.permittedOn("us", fresh));
  },
};

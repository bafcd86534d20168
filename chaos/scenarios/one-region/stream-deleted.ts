/** The replay buffer is gone. */
import type { Scenario } from "../scenario.ts";

export const streamDeleted: Scenario = {
  name: "stream-deleted",
  topology: "one-region",
  fault: "Every JetStream stream is deleted.",
  promise: "A revocation is enforced everywhere within 6 s.",
  boundS: 6,
  async play(game) {
    const { visitors, operators } = game;
    const revoked = await visitors.arrive();
    await game.fault("delete-stream");
    const { link } = await operators.revokeOnce(revoked);
    await game.within("the receipt is complete", operators.complete(link));
    await game.serves("every route is served", 2, visitors.permittedOn("eu"));
  },
};

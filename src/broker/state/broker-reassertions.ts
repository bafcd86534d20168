/**
 * Broker reassertions: the final denials that this broker's state had read and the log has lost, on their way to whoever leads. A leader has read
 * each of them before anybody was told that it is done; nodes may have read none.
 */
import { Reassertions } from "../../replication/index.ts";
import type { StepContext } from "../core/step-context.ts";

export function createBrokerReassertions(context: StepContext, random: (bytes: number) => Uint8Array): Reassertions {
  let lastId = 0;
  return new Reassertions({
    random,
    nextId: () => ++lastId,
    emit: (effect) => {
      if (effect.type === "reassert") context.emit(effect); // a late answer to one that was given up finds nobody
    },
  });
}

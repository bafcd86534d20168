/**
 * Hand back: the final denials that this broker's ledger had read and the log has lost, on their way to whoever leads. A leader has read
 * each of them before anybody was told that it is done; nodes may have read none.
 */
import { Reassertions } from "../../replication/index.ts";
import type { Work } from "../core/step-context.ts";

export function newHandBack(work: Work, random: (bytes: number) => Uint8Array): Reassertions {
  let asked = 0;
  return new Reassertions({
    random,
    nextId: () => ++asked,
    emit: (effect) => {
      if (effect.type === "reassert") work.emit(effect); // a late answer to one that was given up finds nobody
    },
  });
}

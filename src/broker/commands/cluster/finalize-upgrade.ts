/**
 * Finalize upgrade: raises the cluster's feature level. Refused while a broker or node cannot read the new level. Pure.
 */
import { clusterStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { integerOf } from "../fields.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";

const levelMax = 1_000_000;

export const finalizeUpgrade: CommandDefinition<"finalizeUpgrade"> = {
  schema: (fields) => ({ type: "finalizeUpgrade", level: integerOf(fields, "level", { min: 1, max: levelMax }) }),
  permission: ["operator"],
  access: () => ({ reads: [], writes: [clusterStream] }),
  perform(projection, { level }, tools) {
    if (level <= projection.level) return nothing;
    const unready = tools.unreadyFor(level);
    if (unready.length > 0) return refuseCommand("conflict", `level ${level} is not finalized: ${unready.join("; ")}`);
    return recordChanges([{ type: "UpgradeFinalized", level }]);
  },
};

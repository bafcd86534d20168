/** Record snapshot: a snapshot that a broker took. Pure. */
import { clusterStream, parseHash, parsePosition } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { recordChanges } from "../performed.ts";

export const recordSnapshot: CommandDefinition<"recordSnapshot"> = {
  schema: (fields) => ({
    type: "recordSnapshot",
    position: parsePosition(fields["position"]),
    manifestHash: parseHash(fields["manifestHash"]),
  }),
  permission: ["duty"],
  access: () => ({ reads: [], writes: [clusterStream] }),
  perform: (_projection, { position, manifestHash }) =>
    recordChanges([{ type: "SnapshotTaken", position, manifestHash }]),
};

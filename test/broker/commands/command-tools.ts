/** What a command is performed with, where a test has no leader. */
import type { Tools } from "../../../src/broker/commands/performed.ts";
import type { Epoch, Position, UnixMs } from "../../../src/events/index.ts";
import { random } from "../support.ts";

/** No nodes, keys or configurations, and a log that has lost nothing. @param parts replace the defaults */
export function commandTools(now: UnixMs, parts: Partial<Tools> = {}): Tools {
  return {
    epoch: 2 as Epoch,
    now,
    personKeyOf: () => undefined,
    versionOf: () => 0,
    configOf: () => undefined,
    hasBody: () => false,
    unreadyFor: () => [],
    admittedNodes: () => [],
    lost: {
      holds: () => false,
      mayHold: () => false,
      lacks: () => true,
      endOfEpoch: () => 0 as Position,
      restoredAfter: () => false,
    },
    random,
    wrappingKey: new Uint8Array(32).fill(2),
    vaultKey: new Uint8Array(32).fill(1),
    ...parts,
  };
}

/** What the senders of news from outside share. */
import type { CommandRequest, CommandResult, UnixMs } from "../../../src/events/index.ts";
import type { ReceiptTarget } from "../../../src/replication/index.ts";
import type { Actors, NodeCopy } from "../actors.ts";
import type { People } from "../people.ts";
import type { SimProcess } from "../process.ts";
import type { Stream } from "../random.ts";
import type { SimOptions } from "../swarm.ts";
import { worldStart } from "../world.ts";

export type OutsideParts = Readonly<{
  actors: Actors;
  options: SimOptions;
  people: People;
  random: Stream;
  client: (by: number) => SimProcess;
  /** Sends a command to a broker until it is answered, sometimes twice. */
  submit: (request: CommandRequest, client: SimProcess, answered: (result: CommandResult) => void) => void;
  askReceipt: (client: SimProcess, target: ReceiptTarget) => void;
}>;

/** The time by a true wall clock. */
export function wallOf({ world }: Actors): UnixMs {
  return (worldStart + Math.floor(world.now)) as UnixMs;
}

/** The copy of one of the two authenticate nodes, and the client that stands for its service. */
export function authenticateNode(
  { actors, client }: Pick<OutsideParts, "actors" | "client">,
  by: number,
): Readonly<{ copy: () => NodeCopy | undefined; sender: SimProcess }> {
  const node = actors.nodes[by < 0.5 ? 0 : 2];
  return { copy: () => node?.copy(), sender: client(by) };
}

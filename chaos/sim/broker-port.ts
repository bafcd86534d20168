/**
 * Broker port: what a node asks of a broker's process, within that process, by way of the network. Only types.
 *
 * An answer may come later, once, or never. A broker that does not lead hands a node's message on to the one that does.
 */
import type { CommandRequest, CommandResult, Link } from "../../src/events/index.ts";
import type { LeaseRefusalBody, LoadedSnapshot, PageOutcome } from "../../src/replication/index.ts";
import type { SimEnvelope } from "./envelopes.ts";
import type { ProcessName } from "./facts.ts";
import type { SimProcess } from "./process.ts";

/** No leader, no clean write, or not able to: what HTTP says with 503. The next broker is asked. */
export type Unavailable = Readonly<{ type: "unavailable" }>;

export type SaidAnswer =
  | Readonly<{ type: "grant"; envelope: SimEnvelope }>
  /** A confirmation or a goodbye. */
  | Readonly<{ type: "taken" }>
  | (Readonly<{ type: "refused" }> & LeaseRefusalBody)
  | Unavailable;

export type BrokerPort = Readonly<{
  process: SimProcess;
  /** Long-polls at the head for `waitMs`. */
  read: (
    asked: Readonly<{ after: Link; limit: number; waitMs: number; by: ProcessName }>,
    answered: (answer: PageOutcome | Unavailable) => void,
  ) => void;
  /** A node's renew, confirmation or goodbye. */
  say: (envelope: SimEnvelope, answered: (answer: SaidAnswer) => void) => void;
  submit: (request: CommandRequest, answered: (result: CommandResult) => void) => void;
  /** The newest snapshot that this broker can serve, decoded anew for whoever asks; null: none. */
  snapshot: (answered: (found: LoadedSnapshot | null) => void) => void;
}>;

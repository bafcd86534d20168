/**
 * Performed: the outcome of a command at exactly the head: changes, a refusal, or nothing to do. Also the tools that
 * commands get as arguments. Only types and constructors.
 */
import type {
  CardeaEvent,
  CommandId,
  ConfigHash,
  Epoch,
  Fact,
  Link,
  NeededLink,
  NodeId,
  PersonKey,
  Position,
  RefusalCode,
  SessionId,
  StoredConfiguration,
  Stream,
  UnixMs,
  UserId,
  WrappedKey,
} from "../../events/index.ts";
import type { AdmittedNode, NodeName, VaultEntry } from "../../replication/log/index.ts";

export type NewKey = Readonly<{ person: PersonKey; wrapped: WrappedKey }>;

export type Changes = Readonly<{
  /** At least one, in the order in which they are recorded. */
  events: readonly CardeaEvent[];
  newKeys: readonly NewKey[];
  erasedKeys: readonly UserId[];
  vault: readonly VaultEntry[];
  vaultRemoved: readonly SessionId[];
  configurations: readonly StoredConfiguration[];
  /** Nodes that are removed from the admitted ones. */
  retired: readonly NodeName[];
  /** Set where the events only hold the change for an operator; the caller then gets the refusal `held`. */
  held?: CommandId;
}>;

export type Performed =
  | Fact<"changes", { changes: Changes }>
  | Fact<"refused", { code: RefusalCode; message: string; heldId?: CommandId }>
  /** The requested state exists already. */
  | Fact<"nothing", unknown>;

export type LostHistory = Readonly<{
  /** True if the link is on our chain: nothing is lost. */
  holds: (link: Link) => boolean;
  /** True if the link is surely not on our chain. */
  lacks: (link: Link) => boolean;
  /** False unless the link is on our chain, or is too old to tell, but of the epoch that wrote its position. */
  mayHold: (link: NeededLink) => boolean;
  /** The last position of our log that was written in the epoch of a link, or before it. */
  endOfEpoch: (epoch: Epoch) => Position;
  /** True when our log has restored the person in an epoch after this one. */
  restoredAfter: (userId: UserId, epoch: Epoch) => boolean;
}>;

export type Tools = Readonly<{
  now: UnixMs;
  /** The epoch in which the command is performed. */
  epoch: Epoch;
  /** The person's key, loaded before the command is performed; undefined: none. */
  personKeyOf: (userId: UserId) => PersonKey | undefined;
  /** The version of a stream at the head; 0 when it does not exist. */
  versionOf: (stream: Stream) => number;
  /** The configuration that a node was last known to run. */
  configOf: (nodeId: NodeId) => ConfigHash | undefined;
  /** True if the body of a hash is surely in the store. False: not known. */
  hasBody: (configHash: ConfigHash) => boolean;
  /** Why a level cannot be finalized now, each reason with a name; empty: it can. */
  unreadyFor: (level: number) => readonly string[];
  /** Every admitted node; `answers`: the leader hears from it. */
  admittedNodes: () => readonly (AdmittedNode & Readonly<{ answers: boolean }>)[];
  /** From when on a change of memberships is held. Absent: the defaults. */
  massChange?: MassChangeLimits;
  /** Whether another person may have been given a name after a position (name-claims.ts). Absent: never. */
  isNameClaimed?: (name: string, by: Readonly<{ userId: UserId; basis: Position }>) => boolean;
  /** Compares this log with a history that a process remembers. */
  lost: LostHistory;
  random: (bytes: number) => Uint8Array;
  /** Wraps people's keys. */
  wrappingKey: Uint8Array;
  /** Seals identity-provider tokens. */
  vaultKey: Uint8Array;
}>;

/** From when on a change takes groups from too many people at once. */
export type MassChangeLimits = Readonly<{
  /** More people than this, or … */
  peopleMax: number;
  /** … a greater share of all who are in groups (0 to 1), is a mass change; … */
  shareMax: number;
  /** … but never so few. */
  peopleMin: number;
  /** Losses by one source count together for this long. */
  windowMs: number;
  /** A held change expires after this time. */
  heldMs: number;
}>;

export const nothing: Performed = { type: "nothing" };

export function refuseCommand(code: RefusalCode, message: string): Extract<Performed, { type: "refused" }> {
  return { type: "refused", code, message };
}

/** The refusal of what was decided by events that are not in the log. The sender reads on, and decides again. */
export function refuseLostBasis(
  basisLink: NeededLink | undefined,
  { lost }: Readonly<{ lost: Pick<LostHistory, "mayHold"> }>,
): Performed | undefined {
  return basisLink === undefined || lost.mayHold(basisLink)
    ? undefined
    : refuseCommand("conflict", "the sender has decided this by events that are not in the log");
}

const none: readonly never[] = [];
const noChanges: Omit<Changes, "events" | "held"> = {
  newKeys: none,
  erasedKeys: none,
  vault: none,
  vaultRemoved: none,
  configurations: none,
  retired: none,
};

export function recordChanges(events: readonly CardeaEvent[], rest: Partial<Omit<Changes, "events">> = {}): Performed {
  if (events.length === 0) return nothing;
  return {
    type: "changes",
    changes: {
      ...noChanges,
      ...rest,
      events,
    },
  };
}

/** Duty: work that exactly one broker does for the cluster, the leader. Only types. */
import type {
  CommandRequest,
  CommandResult,
  Position,
  Projection,
  SessionId,
  UnixMs,
  VaultedTokens,
} from "../../events/index.ts";
import type { Clock, EpochMark, SignedManifest, SnapshotManifest } from "../../replication/index.ts";
import type { Leadership } from "./messages.ts";

export type DutyContext = Readonly<{
  /** In the role of a broker, in this epoch: `unavailable` once it is over. */
  submit: (request: CommandRequest) => Promise<CommandResult>;
  /** At the head when the run starts, and it moves on with the log. */
  projection: Projection;
  now: UnixMs;
  /** The vault entry of a session, read from the store. */
  tokens: (sessionId: SessionId) => Promise<VaultedTokens | undefined>;
  /** True while this process, as far as it knows, leads the epoch of the run. Check it right before a call outside the log. */
  leads: () => boolean;
  /** Submits to the broker that leads now, as a broker: for an answer from outside that arrives when the epoch of the run has ended. */
  submitToLeader: (request: CommandRequest) => Promise<CommandResult>;
  clock: Pick<Clock, "monotonic" | "wall">;
  /** Aborts when this process leads no more. */
  signal: AbortSignal;
  /** The epoch that the run is in. */
  leadership: Leadership;
  /** The epochs of the ledger's chain as it stands now, oldest first. */
  epochs: () => readonly EpochMark[];
  /** Signs what a snapshot is of, with the epoch's key. */
  sealManifest: (manifest: SnapshotManifest) => SignedManifest;
  /** The place that the node that is furthest behind has told us of: what comes after it is still needed. */
  neededAfter: () => Position;
}>;

export type Duty = Readonly<{ name: string; everyMs: number; run: (context: DutyContext) => Promise<void> }>;

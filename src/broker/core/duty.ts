/** Duty: work that exactly one broker does for the cluster, the leader. Types, and a bound. */
import type {
  CommandRequest,
  CommandResult,
  Link,
  Position,
  Profile,
  Projection,
  SessionId,
  StoredSignalStream,
  UnixMs,
  UserId,
  VaultedTokens,
} from "../../events/index.ts";
import type { Clock, PageOutcome } from "../../replication/index.ts";
import type { EpochMark } from "../../replication/lease/index.ts";
import type { SignedManifest, SnapshotManifest } from "../../replication/snapshot/index.ts";
import type { Leadership } from "./messages.ts";

export type DutyContext = Readonly<{
  /** In the role of a broker, in this epoch: `unavailable` once the epoch has ended. */
  submit: (request: CommandRequest) => Promise<CommandResult>;
  /** At the head when the run starts; it follows the log. */
  projection: Projection;
  now: UnixMs;
  /** The vault entry of a session, read from the store. */
  tokens: (sessionId: SessionId) => Promise<VaultedTokens | undefined>;
  /** Events after a link, at or below the durable horizon. */
  read: (after: Link, limit: number) => Promise<PageOutcome>;
  /** The link before the oldest kept event. */
  logBase: () => Promise<Link>;
  /** What is kept for a receiver of Shared Signals. */
  storedSignalStream: (receiver: string) => Promise<StoredSignalStream | undefined>;
  /**
   * The profiles of people that the store's keys open; erased people and those without a profile are omitted. At most
   * `profilesMax` people.
   */
  profiles: (userIds: readonly UserId[]) => Promise<ReadonlyMap<UserId, Profile>>;
  /**
   * True while this process knows itself as the leader of the run's epoch. Check it right before a call outside the
   * log.
   */
  leads: () => boolean;
  /** Submits to the present leader as a broker, for an outside answer that arrives after the run's epoch has ended. */
  submitToLeader: (request: CommandRequest) => Promise<CommandResult>;
  clock: Pick<Clock, "monotonic" | "wall">;
  /** Aborts when this process no longer leads. */
  signal: AbortSignal;
  /** The epoch of the run. */
  leadership: Leadership;
  /** The epochs of the present chain, oldest first. */
  epochs: () => readonly EpochMark[];
  /** Signs a snapshot's manifest with the epoch's key. */
  sealManifest: (manifest: SnapshotManifest) => SignedManifest;
  /** The position of the node that is furthest behind: events after it are still needed. */
  neededAfter: () => Position;
}>;

/** Bounds one read of `profiles`. */
export const profilesMax = 1_000;

export type Duty = Readonly<{ name: string; everyMs: number; run: (context: DutyContext) => Promise<void> }>;

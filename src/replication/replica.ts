/**
 * Replica: what the rest of a process sees of its own copy of the log. The shell that keeps it (follower, lease,
 * fan-out) is in node-process.ts; decisions read from here and never wait for anything else.
 */
import type {
  FactPositions,
  Link,
  MonotonicMs,
  Profile,
  Projection,
  Sealed,
  Stream,
  UnixMs,
  UserId,
} from "../events/index.ts";

/** One or more events were folded in. `touched` are the facts that decisions may have read. */
export type Change = Readonly<{
  link: Link;
  touched: ReadonlySet<Stream>;
  rebuilt: boolean;
  /**
   * When the oldest of its events was recorded, by the leader's wall clock. Null or absent: unknown, as after a
   * rebuild.
   */
  committedAt?: UnixMs | null;
}>;

/**
 * Called synchronously right after the fold. What it returns settles when everything that is now denied has been
 * destroyed; only then does `enforced` move past `link`. `rebuilt`: anything may have changed, re-decide everything.
 */
export type ChangeListener = (change: Change) => void | Promise<void>;

export type Replica = {
  readonly projection: Projection;
  /** Where the log said what the projection holds; for explanations. */
  readonly places: Pick<FactPositions, "ofStream" | "ofSession" | "ofSweptSession" | "ofMembership">;
  readonly applied: Link;
  readonly enforced: Link;
  /** Opens personal data; undefined when the person's key is gone or unknown. Cached per sealed value. */
  open(sealed: Sealed, userId: UserId): Profile | undefined;
  /**
   * True when a lost suffix that this node had applied denied this fact: it stays denied here (docs/protocol.md §4.3).
   */
  isDeniedLocally(stream: Stream): boolean;
  onChange(listener: ChangeListener): () => void;
  /**
   * Read-your-writes: waits until the projection has reached a link that a credential needs.
   * `lost`: the link belongs to a suffix that is not in the log.
   */
  waitFor(link: Link, timeoutMs: number): Promise<"reached" | "behind" | "lost">;
};

export type Freshness = {
  /**
   * How long the lease has been over: ≤ 0 while fresh, +Infinity when nothing may be permitted on any route (before the
   * first grant of this boot, past the granted window, after a pause of our own process, degraded or quarantined).
   * A comparison, never a timer: call it at every decision, before the first upstream byte, and on every chunk.
   * @param wall read in the same moment; absent: it is read now
   */
  overdueMs(now: MonotonicMs, wall?: UnixMs): number;
};

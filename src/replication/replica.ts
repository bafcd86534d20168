/**
 * Replica: the view that the rest of a process has of its own copy of the log. The shell that maintains it (follower,
 * lease, fan-out) is in node-process.ts. Decisions read from here and never wait for anything else.
 */
import type {
  AccessRequest,
  FactPositions,
  Link,
  MonotonicMs,
  NeededLink,
  Profile,
  Projection,
  Sealed,
  Stream,
  UnixMs,
  UserId,
} from "../events/index.ts";

/** One or more folded events. `touched` are the facts that decisions may have read. */
export type Change = Readonly<{
  link: Link;
  touched: ReadonlySet<Stream>;
  rebuilt: boolean;
  /**
   * When the oldest of the events was recorded, by the wall clock of the leader. Null or absent: unknown, as after a
   * rebuild.
   */
  committedAt?: UnixMs | null;
}>;

/**
 * Called synchronously right after the fold. The returned promise settles when everything that is now denied has been
 * destroyed; only then does `enforced` move past `link`. `rebuilt`: anything may have changed, so decide everything
 * again.
 */
export type ChangeListener = (change: Change) => void | Promise<void>;

export type RequestAbout = Pick<AccessRequest, "requestId" | "userId">;

/** How many events, and for how long (ms) the node has known of the first of them. */
export type Behind = Readonly<{ events: number; ms: number }>;

export type Replica = {
  readonly projection: Projection;
  /** The positions at which the log recorded the facts of the projection; for explanations. */
  readonly places: Pick<FactPositions, "ofStream" | "ofSession" | "ofSweptSession" | "ofMembership">;
  readonly applied: Link;
  /** `applied`, with the incarnation of its epoch: for a command that names what it was decided from. */
  readonly appliedLink: NeededLink;
  readonly enforced: Link;
  /** What this node knows the log to have and has not applied; null: nothing. */
  behind(): Behind | null;
  /** Opens personal data; undefined when the key of the person is erased or unknown. Cached per sealed value. */
  open(sealed: Sealed, userId: UserId): Profile | undefined;
  /** Opens what was written about an access request; undefined as for `open`. */
  openRequestWords(sealed: Sealed, about: RequestAbout): string | undefined;
  /**
   * True when this node had applied a lost suffix that denied this fact (docs/protocol.md §4.3), or its region revoked
   * the fact by itself: it stays denied here.
   */
  isDeniedLocally(stream: Stream): boolean;
  /** True when this node's region revoked the fact by itself and the log lacks that (docs/protocol.md §6.4). */
  isDeniedByRegion(stream: Stream): boolean;
  onChange(listener: ChangeListener): () => void;
  /**
   * Read-your-writes: waits until the projection has reached a link that a credential needs.
   * `lost`: the link belongs to a suffix that is not in the log.
   */
  waitFor(link: NeededLink, timeoutMs: number): Promise<"reached" | "behind" | "lost">;
};

export type Freshness = {
  /**
   * Time in ms since the lease expired: ≤ 0 while fresh. +Infinity: no route may permit anything (before the first
   * grant of this boot, past the granted window, after a pause of this process, degraded or quarantined). A comparison,
   * never a timer: call it at every decision, before the first upstream byte, and on every chunk.
   * @param wall the wall clock read at the same moment; absent: it is read now
   */
  overdueMs(now: MonotonicMs, wall?: UnixMs): number;
};

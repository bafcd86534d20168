/**
 * Node messages: the inputs and effects of the core of an enforcement node. Only types, only plain data.
 *
 * - Every input carries its moment by both of the node's clocks.
 * - An effect with an `id` is a request. Its answer is the input named beside it, with the same id.
 * - The core itself times out a request without an answer, and ignores a late one.
 * - The shell performs effects in order, before it passes the next input.
 */
import type {
  CommandId,
  Epoch,
  Fact,
  Link,
  LostTightening,
  NeededLink,
  Position,
  Projection,
  Stream,
  UnixMs,
  WrappedKey,
} from "../../events/index.ts";
import type { EpochMark } from "../lease/chain-history.ts";
import type { Moment } from "../lease/lease-holder.ts";
import type { LeaseRefusal } from "../lease/lease-refusal.ts";
import type { RefusedEnvelope } from "../wire/broker-opener.ts";
import type { SealedRevocation } from "../wire/local-revocation.ts";
import type { Confirm, Goodbye, Grant, Renew, StorePosition } from "../wire/messages.ts";
import type { DenialsOnDisk } from "./denials/persisted-denials.ts";
import type { EventRange } from "./follower.ts";

/**
 * The opened batch of an authenticated leader. `events` may be empty if `hasApplied` is true for it.
 */
export type Delivered = EventRange & Readonly<{ epoch: Epoch; keys: readonly WrappedKey[] }>;

/** A projection saved at a link. The loader has verified it; from now on the core owns it. */
export type LoadedSnapshot = Readonly<{
  projection: Projection;
  /** The newest event folded into it. */
  link: Link;
  /** Every epoch up to the link as in the log, oldest first. */
  epochs: readonly EpochMark[];
  /** The keys of the people in the projection. */
  keys: readonly WrappedKey[];
  /** Facts that stay denied beside it; only a snapshot from the node's own disk has any. */
  retained: readonly Stream[];
}>;

export type ReadAnswer =
  /** Decoded and chained from `page.previous` to `page.last`. */
  | Fact<"page", { page: EventRange; head: Link; keys: readonly WrappedKey[] }>
  | Fact<"forked", { head: Link }>
  | Fact<"truncated", { first: Position }>
  /** No broker answered, or the answer is not a page. */
  | Fact<"failed", { error: unknown }>;

export type NodeLeaseAnswer =
  /** The answer to a renew, opened by the functions of wire/broker-opener.ts. */
  | Fact<"grant", { grant: Grant | RefusedEnvelope }>
  /** The leader accepted a confirmation or a goodbye. */
  | Fact<"taken", unknown>
  /** A broker grants no lease. */
  | Fact<"refused", { refusal: LeaseRefusal }>
  | Fact<"failed", { error: unknown }>;

/** What a broker retains of the revocations that its region accepted by itself. */
export type DenialsAnswer =
  /** `upTo`: everything up to here in this store is in the pages so far. */
  | Fact<"page", { store: string; upTo: number; sealed: readonly SealedRevocation[]; more: boolean }>
  /** The broker is no regional broker, or of an older build. */
  | Fact<"none", unknown>
  /** An entry is not signed by a broker of this cluster. */
  | Fact<"refused", { reason: string }>
  | Fact<"failed", { error: unknown }>;

export type MergeAnswer =
  /** The log denies at this link what the revocation denies. */
  | Fact<"merged", { link: Link }>
  /** Its command id means another change in the log. */
  | Fact<"other-change", unknown>
  /** An operator has to decide. */
  | Fact<"refused", { reason: string }>
  | Fact<"failed", unknown>;

/** The state of the fan-out. `none`: not configured; `down`: it surely delivers nothing now. */
export type FanoutState = "none" | "down" | "up";

type Timed<Type extends string, Data> = Fact<Type, Data & { at: Moment }>;

export type NodeInput =
  /** The first input. `snapshot`: the verified snapshot on this node's own disk; null: none. */
  | Timed<
      "started",
      {
        snapshot: LoadedSnapshot | null;
        denials?: DenialsOnDisk;
        /** The local revocations on this node's own disk. */
        localDenials?: readonly SealedRevocation[];
        fanout: FanoutState;
      }
    >
  /** The time of the newest `wake` has arrived. Early, late or twice is harmless. */
  | Timed<"woke", unknown>
  /** The fan-out changed state. `up` may repeat after a break that only the fan-out noticed. */
  | Timed<"fanoutChanged", { fanout: FanoutState }>
  /** The values for the next renews, passed before those are sent. */
  | Timed<"configured", { windowMs: number; configHash: string }>
  | Timed<"delivered", { delivery: Delivered | RefusedEnvelope }>
  /** → read */
  | Timed<"readAnswered", { id: number; answer: ReadAnswer }>
  /** → sendLease */
  | Timed<"leaseAnswered", { id: number; answer: NodeLeaseAnswer }>
  /** → changed: every stream that is now denied has been destroyed. */
  | Timed<"changeEnforced", { id: number }>
  /** → changed: denied streams may still be open. Ends this boot's right to decide. */
  | Timed<"enforcementFailed", { error: unknown }>
  /** → loadSnapshot */
  | Timed<"snapshotLoaded", { id: number; snapshot: LoadedSnapshot }>
  /** → loadSnapshot. `none`: the brokers answered that they have none. */
  | Timed<"snapshotFailed", { id: number; reason: "none" | "unavailable" }>
  /**
   * → reassert. `answered`: a broker has appended all of them or found it unnecessary.
   * `settledAt`: the link from which the log settles them; `later`: the head of the next grant.
   */
  | Timed<"reassertAnswered", { id: number; answer: "answered" | "failed"; settledAt?: Link | "later" }>
  /** → readDenials */
  | Timed<"denialsAnswered", { id: number; answer: DenialsAnswer }>
  /** → keepLocalDenials */
  | Timed<"localDenialsKept", { id: number; outcome: "kept" | "failed" }>
  /** → submitRevocation */
  | Timed<"revocationSubmitted", { id: number; answer: MergeAnswer }>
  /** A request needs the projection to have reached a link; the caller chooses `id`. Answered by `linkReached`. */
  | Timed<"linkAwaited", { id: number; link: NeededLink; timeoutMs: number }>
  /** A caller requests a read from a broker; no effect while a read is in flight. */
  | Timed<"nudged", unknown>
  /** The node is no longer ready, but keeps its lease. */
  | Timed<"draining", unknown>
  /** After the last stream is closed: permanently permit nothing more and send the goodbye. Answered by `left`. */
  | Timed<"leaving", unknown>
  /** Permanent: no effect except `linkReached` follows. */
  | Timed<"stopped", unknown>;

export type NodeEffect =
  /** Replaces the previous wake-up. */
  | Fact<"wake", { at: number }>
  /**
   * Requests the events after a link from any broker. `waitMs`: how long it may hold the read open at the head.
   * @see readAnswered
   */
  | Fact<"read", { id: number; after: Link; limit: number; waitMs: number }>
  /** The answer to this request no longer matters. */
  | Fact<"cancel", { id: number }>
  /** Sends a message to the leader through any broker, now: a renew's moment is that of the input that caused it. */
  | Fact<"sendLease", { id: number; message: LeaseMessage }>
  /** Writes this boot to disk before the next effect: it may be granted a lease from now on. */
  | Fact<"recordBoot", unknown>
  /** The goodbye was accepted: the next boot replaces none. */
  | Fact<"clearBoot", unknown>
  /**
   * The visible projection has moved: holders of open streams must check them again. `touched`: the facts that changed;
   * `rebuilt`: any fact may have changed. @see changeEnforced, enforcementFailed
   */
  | Fact<
      "changed",
      {
        id: number;
        link: Link;
        touched: readonly (readonly Stream[])[];
        rebuilt: boolean;
        /** When the oldest of its events was recorded, by the leader's wall clock. Null: unknown. */
        committedAt: UnixMs | null;
      }
    >
  /**
   * The visible projection is not in the log, or is wrong: the node permits nothing until a change with `rebuilt`.
   */
  | Fact<"rebuilding", { lost: Link }>
  /**
   * `first`: the oldest position still in the log; null: unknown, any snapshot is suitable.
   * @see snapshotLoaded, snapshotFailed
   */
  | Fact<"loadSnapshot", { id: number; first: Position | null }>
  /** Tightening events that this node has applied and the log does not contain. @see reassertAnswered */
  | Fact<"reassert", { id: number; commandId: CommandId; events: readonly LostTightening[] }>
  /** Reads what a broker retains of local revocations. `after`: null: from the beginning. @see denialsAnswered */
  | Fact<"readDenials", { id: number; after: StorePosition | null; waitMs: number }>
  /** Forces all local revocations of this node to its disk, in place of those there. @see localDenialsKept */
  | Fact<"keepLocalDenials", { id: number; sealed: readonly SealedRevocation[] }>
  /** Submits a local revocation that the log does not show. @see revocationSubmitted */
  | Fact<"submitRevocation", { id: number; commandId: CommandId; sealed: SealedRevocation }>
  /** Requests the batches of the fan-out's replay buffer as deliveries. */
  | Fact<"replay", { sinceMs: number; timeoutMs: number }>
  | Fact<"linkReached", { id: number; outcome: "reached" | "behind" | "lost" }>
  /** @param taken whether a broker has accepted the goodbye */
  | Fact<"left", { taken: boolean }>
  /** A log call. */
  | Fact<"log", { level: "debug" | "info" | "warn" | "error"; message: string; fields: object }>;

export type LeaseMessage =
  | Fact<"renew", { renew: Renew }>
  | Fact<"confirm", { confirm: Confirm }>
  | Fact<"goodbye", { goodbye: Goodbye }>;

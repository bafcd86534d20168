/**
 * Node messages: what goes into the core of an enforcement node and what comes out of it. Only types, only plain data.
 *
 * Every input says when it happened by both of the node's clocks. An effect with an `id` is a question: its answer
 * comes back as the input named beside it, with the same id. An answer that never comes is given up on by the core
 * itself, and one that comes after that is not looked at. Effects are performed in order, before the next input is
 * taken.
 */
import type {
  CommandId,
  Epoch,
  Fact,
  Link,
  LostTightening,
  Position,
  Projection,
  Stream,
  UnixMs,
  WrappedKey,
} from "../../events/index.ts";
import type { EpochMark } from "../lease/chain-history.ts";
import type { Moment } from "../lease/lease-holder.ts";
import type { LeaseRefusal } from "../lease/lease-refusal.ts";
import type { Refused } from "../wire/broker-opener.ts";
import type { Confirm, Goodbye, Grant, Renew } from "../wire/messages.ts";
import type { DenialsOnDisk } from "./denials/persisted-denials.ts";
import type { EventRange } from "./follower.ts";

/**
 * A batch that an authenticated leader published, opened. `events` may be empty when `hasApplied` said that it is
 * known.
 */
export type Delivered = EventRange & Readonly<{ epoch: Epoch; keys: readonly WrappedKey[] }>;

/** A projection that was saved at a link, verified by whoever loaded it. It belongs to the core from here on. */
export type LoadedSnapshot = Readonly<{
  projection: Projection;
  /** The newest event folded into it. */
  link: Link;
  /** Every epoch up to the link, oldest first, as the log knows them. */
  epochs: readonly EpochMark[];
  /** Keys of the people in it. */
  keys: readonly WrappedKey[];
  /** Facts that stay denied beside it; only a node's own disk has any. */
  retained: readonly Stream[];
}>;

export type ReadAnswer =
  /** Decoded and chained from `page.previous` to `page.last`. */
  | Fact<"page", { page: EventRange; head: Link; keys: readonly WrappedKey[] }>
  | Fact<"forked", { head: Link }>
  | Fact<"truncated", { first: Position }>
  /** Nobody answered, or what came is not a page. */
  | Fact<"failed", { error: unknown }>;

export type LeaseAnswer =
  /** To a renew. Opened by the functions of wire/broker-opener.ts. */
  | Fact<"grant", { grant: Grant | Refused }>
  /** To a confirmation or a goodbye. */
  | Fact<"taken", unknown>
  /** A broker grants no lease. */
  | Fact<"refused", { refusal: LeaseRefusal }>
  | Fact<"failed", { error: unknown }>;

/** How deliveries come: `none`: there is no fan-out; `down`: there is one, and surely it brings nothing now. */
export type FanoutState = "none" | "down" | "up";

type Timed<Type extends string, Data> = Fact<Type, Data & { at: Moment }>;

export type NodeInput =
  /** The first. `snapshot`: what this node's own disk holds, if it checks out. */
  | Timed<"started", { snapshot: LoadedSnapshot | null; denials?: DenialsOnDisk; fanout: FanoutState }>
  /** The time of the newest `wake` has come. Early, late or twice is harmless. */
  | Timed<"woke", unknown>
  /** Told at each change; `up` again also after a break that nobody else saw. */
  | Timed<"fanoutChanged", { fanout: FanoutState }>
  /** What the next renews say; told before it counts for them. */
  | Timed<"configured", { windowMs: number; configHash: string }>
  | Timed<"delivered", { delivery: Delivered | Refused }>
  /** → read */
  | Timed<"readAnswered", { id: number; answer: ReadAnswer }>
  /** → sendLease */
  | Timed<"leaseAnswered", { id: number; answer: LeaseAnswer }>
  /** → changed: everything that is now denied has been destroyed. */
  | Timed<"changeEnforced", { id: number }>
  /** → changed: nobody knows any more what is still open. Ends this boot's right to decide. */
  | Timed<"enforcementFailed", { error: unknown }>
  /** → loadSnapshot */
  | Timed<"snapshotLoaded", { id: number; snapshot: LoadedSnapshot }>
  /** → loadSnapshot. `none`: brokers were asked and have none. */
  | Timed<"snapshotFailed", { id: number; reason: "none" | "unavailable" }>
  /**
   * → reassert. `answered`: a broker has dealt with all of them, by appending, or because it need not.
   * `settled`: a place from which on the log has the last word on them; `later`: the head of the next grant is one.
   */
  | Timed<"reassertAnswered", { id: number; answer: "answered" | "failed"; settledAt?: Link | "later" }>
  /** A request needs the projection to have reached a link; `id` is the asker's own. Answered by `linkReached`. */
  | Timed<"linkAwaited", { id: number; link: Link; timeoutMs: number }>
  /** Somebody asks whether there is more: a broker is asked, unless one is being asked already. */
  | Timed<"nudged", unknown>
  /** Not ready any more, but still leased. */
  | Timed<"draining", unknown>
  /** After the last stream is closed: permit nothing more, for good, and say so. Answered by `left`. */
  | Timed<"leaving", unknown>
  /** For good: no effect but `linkReached` comes after this. */
  | Timed<"stopped", unknown>;

export type NodeEffect =
  /** Replaces the one before. */
  | Fact<"wake", { at: number }>
  /**
   * Events behind a link, from any broker. `waitMs`: how long it may hold the read open at the head.
   * @see readAnswered
   */
  | Fact<"read", { id: number; after: Link; limit: number; waitMs: number }>
  /** The answer to this question does not matter any more. */
  | Fact<"cancel", { id: number }>
  /** To the leader, by way of any broker. It is sent now: a renew's own moment is that of the input which caused it. */
  | Fact<"sendLease", { id: number; message: LeaseMessage }>
  /** To be on disk before the next effect: the boot that may be granted from now on. */
  | Fact<"recordBoot", unknown>
  /** The goodbye was taken: the next boot has nothing to replace. */
  | Fact<"clearBoot", unknown>
  /**
   * The visible projection has moved: whoever holds something open by it has to look again. `touched`: the facts that
   * changed; `rebuilt`: anything may have. @see changeEnforced, enforcementFailed
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
   * What the visible projection holds is not in the log, or is wrong: nothing is permitted until a change that is
   * `rebuilt`.
   */
  | Fact<"rebuilding", { lost: Link }>
  /**
   * `first`: the oldest position that the log still has; null: unknown, any snapshot will do.
   * @see snapshotLoaded, snapshotFailed
   */
  | Fact<"loadSnapshot", { id: number; first: Position | null }>
  /** Tightening events that this node has applied and the log does not hold. @see reassertAnswered */
  | Fact<"reassert", { id: number; commandId: CommandId; events: readonly LostTightening[] }>
  /** What the fan-out's replay buffer remembers, as deliveries. */
  | Fact<"replay", { sinceMs: number; timeoutMs: number }>
  | Fact<"linkReached", { id: number; outcome: "reached" | "behind" | "lost" }>
  /** @param taken a broker has taken the goodbye */
  | Fact<"left", { taken: boolean }>
  /** For the journal. */
  | Fact<"log", { level: "debug" | "info" | "warn" | "error"; message: string; fields: object }>;

export type LeaseMessage =
  | Fact<"renew", { renew: Renew }>
  | Fact<"confirm", { confirm: Confirm }>
  | Fact<"goodbye", { goodbye: Goodbye }>;

/**
 * Region messages: the inputs and effects of the core of a regional broker. Only types.
 *
 * - Every input carries the moment at which it happened and the broker's own copy at that moment.
 * - An input with an `id` is a caller's request. The effect named beside it answers the request once.
 * - An `askHome` effect is a question of the core; the shell answers it once, by `homeAnswered` with the same id.
 * - The shell performs effects in order.
 */
import type { CommandId, Fact, Link, Projection } from "../../events/index.ts";
import type { PageOutcome } from "../../replication/index.ts";
import type { HeldLease, LeaseRefusal, Moment } from "../../replication/lease/index.ts";
import type { Batch, Grant, LocalRevocation, SealedRevocation } from "../../replication/wire/index.ts";
import type { OpenedNodeMessage } from "../core/messages.ts";
import type {
  DenialsPage,
  LocalAnswer,
  LocalReceiptAnswer,
  LocalRequest,
  PeerAnswer,
  PeerQuestion,
} from "./local-messages.ts";
import type { StoredRevocations } from "./revocation-store.ts";

/** The broker's own projection and lease. */
export type OwnCopy = Readonly<{
  applied: Link;
  /** The level that was finalized last, by the projection. */
  level: number;
  /** The digest of the projection at `applied`. */
  digest: () => string;
  projection: Pick<Projection, "session" | "sessionStatus" | "sessionsOf" | "user">;
  /** Null: the broker holds none from which it could grant. */
  lease: HeldLease | null;
}>;

export type HomeAnswer =
  | PageOutcome
  /** The leader has granted a renew, with these limits; the shell keeps the envelope. */
  | Fact<"granted", { windowMs: number; drift: number }>
  /** The leader has accepted a confirmation or a goodbye, or has handled a newer renew of the node. */
  | Fact<"taken", unknown>
  | Fact<"refused", { refusal: LeaseRefusal }>
  /** The log denies, at this link, what a local revocation denies. */
  | Fact<"merged", { link: Link }>
  /** `other-change`: the command id means another change. `refused`: an operator has to decide. */
  | Fact<"mergeRefused", { code: "other-change" | "refused"; message: string }>
  /** `by`: "home": a broker of the home region has answered that no broker leads; otherwise none has answered. */
  | Fact<"unavailable", { error: unknown; by?: "home" }>
  /** Anything else; the shell keeps the error for the caller. */
  | Fact<"failed", { error: unknown }>;

export type RegionFact =
  /** The time of the newest `wake` has arrived. Early, late or twice is harmless. */
  | Fact<"woke", unknown>
  /** The broker's own projection reads after a link. Answered by `answerOwnRead`. */
  | Fact<"ownReadAsked", { id: number; after: Link; limit: number; waitMs: number }>
  /** A node of the region reads after a link. Answered by `answerRead`. */
  | Fact<"readAsked", { id: number; after: Link; limit: number; waitMs: number }>
  /** The node does not wait for its read any longer. Answered by `answerRead`. */
  | Fact<"readGivenUp", { id: number }>
  /** A renew, confirmation or goodbye of a node. Answered by `answerNode`. */
  | Fact<"nodeMessage", { id: number; message: OpenedNodeMessage }>
  /** → askHome */
  | Fact<"homeAnswered", { id: number; answer: HomeAnswer }>
  /** The leader has answered a question that was not the core's. */
  | Fact<"leaderAnswered", unknown>
  /** A broker of the home region has answered such a question. It need not know a leader. */
  | Fact<"homeBrokerAnswered", unknown>
  /** The own projection has changed. Answered by `enforced`. `rebuilt`: its history may be another one. */
  | Fact<"changed", { id: number; link: Link; rebuilt: boolean }>
  /** A leader's batch arrived over the fan-out; the own projection has already handled it. */
  | Fact<"delivered", { batch: Batch }>
  /** Batches of the replay buffer, which the own projection handles next. */
  | Fact<"replayed", { batches: readonly Batch[] }>
  /** → keepMark: the mark is on the disk. */
  | Fact<"markKept", unknown>
  /** → keepMark: the disk rejected it. */
  | Fact<"markNotKept", { reason: string }>
  /** A command that only tightens, which home cannot answer. Answered by `answerLocal`. */
  | Fact<"localAsked", { id: number; request: LocalRequest }>
  /** → signRevocation */
  | Fact<"revocationSigned", { id: number; envelope: Uint8Array }>
  /** → keepRevocations: the disk has these keys, and this window and drift. */
  | Fact<"revocationsKept", { keys: readonly string[]; windowMs: number; drift: number }>
  /** → keepRevocations: the disk rejected them. */
  | Fact<"revocationsNotKept", { reason: string }>
  /** Another broker of the region. Answered by `answerPeer`. */
  | Fact<"peerAsked", { id: number; question: PeerQuestion }>
  /** → askPeer. `lacking`: the revocations in the answer, opened. */
  | Fact<
      "peerAnswered",
      { id: number; answer: PeerAnswer | Readonly<{ failed: string }>; lacking: readonly SealedRevocation[] }
    >
  /** A node waits for revocations after a position in a store. Answered by `answerDenials`. */
  | Fact<"denialsAsked", { id: number; store: string | null; after: number; waitMs: number }>
  /** The node does not wait for them any longer. Answered by `answerDenials`. */
  | Fact<"denialsGivenUp", { id: number }>
  /** A node has brought a revocation from its disk. */
  | Fact<"revocationBrought", { sealed: SealedRevocation }>
  /** Answered by `answerLocalReceipt`. */
  | Fact<"localReceiptAsked", { id: number; commandId: CommandId; timeoutMs: number }>
  /** The process ends. Answered by `leave`. */
  | Fact<"stopping", unknown>;

export type RegionInput = RegionFact & Readonly<{ at: Moment; own: OwnCopy }>;

export type HomeQuestion =
  /** `reader`: the own read that this serves; null when the core fills the copy. */
  | Readonly<{ op: "read"; after: Link; limit: number; waitMs: number; reader: number | null }>
  /** Forwards the node message of the `nodeMessage` input with this id. */
  | Readonly<{ op: "forward"; messageId: number }>
  /** Submits a local revocation to the leader. */
  | Readonly<{ op: "merge"; commandId: CommandId; actor: string; envelope: Uint8Array }>;

export type NodeAnswer =
  /** The leader's answer to the forwarded message. */
  | Fact<"leader", unknown>
  | Fact<"grantByAge", { grant: Grant }>
  | Fact<"taken", unknown>
  | Fact<"refused", { refusal: LeaseRefusal }>
  | Fact<"unavailable", { message: string }>;

export type RegionEffect =
  | Fact<"wake", { at: number }>
  | Fact<"askHome", { id: number; question: HomeQuestion }>
  | Fact<"answerOwnRead", { id: number; answer: PageOutcome | Readonly<{ type: "failed"; error: unknown }> }>
  | Fact<"answerRead", { id: number; answer: PageOutcome | Readonly<{ type: "unavailable"; message: string }> }>
  | Fact<"answerNode", { id: number; answer: NodeAnswer }>
  /** Every node whose lease depends on the broker's lease enforces this change. */
  | Fact<"enforced", { id: number }>
  /** The own projection must check for more events now. */
  | Fact<"look", unknown>
  /** Force the age mark to the disk. Answered by `markKept` or `markNotKept`. */
  | Fact<"keepMark", unknown>
  /** Remove the age mark from the disk. */
  | Fact<"clearMark", unknown>
  | Fact<"answerLocal", { id: number; answer: LocalAnswer }>
  /** Sign a revocation in an envelope. Answered by `revocationSigned`. */
  | Fact<"signRevocation", { id: number; revocation: LocalRevocation }>
  /** Force the whole store to the disk. Answered by `revocationsKept`, with these keys, or `revocationsNotKept`. */
  | Fact<"keepRevocations", { stored: StoredRevocations; keys: readonly string[] }>
  /** Answered by `peerAnswered`. */
  | Fact<"askPeer", { id: number; address: string; question: PeerQuestion }>
  | Fact<"answerPeer", { id: number; answer: PeerAnswer | Readonly<{ failed: string }> }>
  | Fact<"answerDenials", { id: number; answer: Readonly<{ page: DenialsPage }> | Readonly<{ failed: string }> }>
  | Fact<"answerLocalReceipt", { id: number; answer: LocalReceiptAnswer }>
  /** The process may end. `withhold`: leases by age may still count, so the process sends no goodbye. */
  | Fact<"leave", { goodbye: "say" | "withhold" }>
  /** A step has failed because of a defect: its callers get no answer. */
  | Fact<"broken", { error: unknown }>
  | Fact<"log", { level: "debug" | "info" | "warn" | "error"; message: string; fields: object }>;

/** Revocation facts: what happens to the local revocations of a region. facts.ts has the rest. Only types. */
import type { BootId, CommandId, Link, NodeId, SessionId, UserId } from "../../src/events/index.ts";
import type { FactOf } from "./facts.ts";

/** One local revocation: what it denies, and the command ids under which it may be merged. */
export type RevocationView = Readonly<{
  /** Names it among those of all brokers and boots. */
  key: string;
  commandId: CommandId;
  mergeIds: readonly CommandId[];
  region: string;
  sessions: readonly SessionId[];
  /** The person that it suspends. Null: it revokes sessions. */
  suspended: UserId | null;
}>;

/** B: a regional broker has decided its answer to an operator. `refused`: any answer but `local`. */
export type LocalAnswered = FactOf<
  "local-answered",
  | Readonly<{ commandId: CommandId; answer: "local"; revocation: RevocationView }>
  | Readonly<{ commandId: CommandId; answer: "refused"; code: string }>
>;
/** B, N: this process's disk holds the revocation from now on. Brokers: under this number of their store. */
export type RevocationStored = FactOf<
  "revocation-stored",
  { revocation: RevocationView; place: Readonly<{ store: string; seq: number }> | null }
>;
/** B: a regional broker passes a grant of the leader on to one of its nodes. */
export type GrantPassed = FactOf<"grant-passed", { node: NodeId; boot: BootId; nonce: number; head: Link }>;
/** N: the revocation has reached this boot, which is about to deny what it denies. */
export type RevocationArrived = FactOf<"revocation-arrived", { key: string; node: NodeId; boot: BootId }>;
/** N: this boot denies what the revocation denies, and no open exchange carries it any more. */
export type RevocationEnforced = FactOf<"revocation-enforced", { key: string; node: NodeId; boot: BootId }>;
/** B, N: the process has removed the revocation from its disk, because the log has it. */
export type RevocationDropped = FactOf<"revocation-dropped", { key: string }>;
/** B, N: the home region has answered that the log denies at this link what the revocation denies. */
export type MergeAnswered = FactOf<"merge-answered", { key: string; link: Link }>;
/** W: the disk of the process was replaced: it holds nothing any more. */
export type DiskReplaced = FactOf<"disk-replaced", unknown>;
/** B: a regional broker has decided the answer to a request for a local receipt. */
export type LocalReceiptAnswered = FactOf<
  "local-receipt-answered",
  {
    key: string;
    complete: boolean;
    nodes: readonly Readonly<{ node: string; boot: string; status: "applied" | "fenced" | "unconfirmed" }>[];
  }
>;

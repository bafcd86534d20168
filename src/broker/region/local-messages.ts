/**
 * Local messages: what nodes, other brokers of the region and operators exchange with a regional broker about local
 * revocations. Only types.
 */
import type { CommandId, CommandOutcome, Fact, Link, RefusalCode, UnixMs } from "../../events/index.ts";
import type { LocalReceiptNode } from "../../replication/index.ts";
import type { LocalCommand, SealedRevocation } from "../../replication/wire/index.ts";

export type LocalRequest = Readonly<{ commandId: CommandId; actor: string; command: LocalCommand }>;

/** Why a region does not accept a command by itself, or cannot say whether it did. */
export type LocalRefusal =
  /** This broker holds no lease from which its nodes could decide. */
  | "local-no-lease"
  /** The region does not know what the command names; home may. */
  | "local-unknown"
  /** Only the leader can accept it. */
  | "local-unsupported"
  | "local-full"
  | "local-not-stored"
  /** Another broker of the region cannot be reached. */
  | "local-broker-unreachable"
  /** The brokers of the region do not name the same `broker.urls`. */
  | "local-brokers-differ"
  /** A node of the region keeps no local revocations, or uses other brokers. */
  | "local-node-unable"
  /** The leader answers: the command belongs there. */
  | "local-home-answers"
  | "local-off";

export type LocalAnswer =
  | Fact<"local", { revocation: SealedRevocation["revocation"] }>
  | Fact<"refused", { code: RefusalCode; message: string }>
  /** `outcome`: `none` if nothing of the command was kept; absent: something may be. */
  | Fact<"unavailable", { code: LocalRefusal; message: string; outcome?: CommandOutcome }>;

/** A node of the region, as one broker knows it. */
export type PeerNode = Readonly<{
  node: string;
  boot: string;
  role: string;
  /** The addresses of brokers that it uses; null: it keeps no local revocations. */
  brokers: readonly string[] | null;
  /** In that broker's store. */
  confirmed: number;
  /** Leases that may count for `forMs` more; `seq`: revocations up to here were in force first. */
  passed: readonly Readonly<{ seq: number; forMs: number }>[];
}>;

/** What a broker of the region gives to another one, and asks of it. */
export type PeerQuestion = Readonly<{
  broker: string;
  /** Tells this process from another one that has its name, as after its disk was cloned. */
  boot: string;
  /** Its `broker.urls` and its own address. */
  addresses: readonly string[];
  /** Revocations for the other one to store. */
  sealed: readonly SealedRevocation[];
  /** The keys of all that it retains, so that the other one can give it what it lacks. */
  held: readonly string[];
}>;

export type PeerAnswer = Readonly<{
  broker: string;
  boot: string;
  addresses: readonly string[];
  /** The revocations that it retains on its disk, by key, with their numbers in its store. */
  stored: readonly Readonly<{ key: string; seq: number }>[];
  /** Those that it knows to be merged, or has dropped since. */
  merged: readonly Readonly<{ key: string; link: Link }>[];
  /** What the asking broker lacks. */
  lacking: readonly Uint8Array[];
  nodes: readonly PeerNode[];
  /** For how long (ms) a lease may count of a node that it does not know. */
  unknownForMs: number;
}>;

export type DenialsPage = Readonly<{
  store: string;
  /** Everything up to here is in the pages so far. */
  upTo: number;
  entries: readonly Readonly<{ seq: number; sealed: SealedRevocation }>[];
  more: boolean;
}>;

export type LocalReceiptState = Readonly<{
  revocation: SealedRevocation["revocation"];
  complete: boolean;
  /** Every broker of the region has it on its disk. */
  stored: boolean;
  brokers: readonly Readonly<{ broker: string; stored: boolean }>[];
  nodes: readonly LocalReceiptNode[];
  at: UnixMs;
}>;

export type LocalReceiptAnswer =
  | Fact<"receipt", { receipt: LocalReceiptState }>
  /** The log has it: the receipt of the whole cluster is the better one. */
  | Fact<"merged", { link: Link }>
  /** No local revocation of this command is retained here. */
  | Fact<"unknown", unknown>;

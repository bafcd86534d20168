/** Broker facts: what a broker's driver reports about its core. facts.ts has the other facts. Only types. */
import type {
  BootId,
  CommandId,
  CommandResult,
  Epoch,
  Hash,
  Incarnation,
  Link,
  NodeId,
  Position,
  SessionId,
  Stream,
} from "../../src/events/index.ts";
import type { FactOf } from "./facts.ts";

/** B: the core starts to lead (it knows that its epoch is open), or stops. */
export type Leading = FactOf<"leading", { epoch: Epoch; leading: boolean }>;
/** B: the leader received an authentic renew. */
export type RenewArrived = FactOf<"renew-arrived", { node: NodeId; boot: BootId; nonce: number; epoch: Epoch }>;
/** B: the broker sends a grant, which may never arrive. `own`: for a node in the same process. */
export type GrantSent = FactOf<
  "grant-sent",
  {
    node: NodeId;
    boot: BootId;
    nonce: number;
    epoch: Epoch;
    incarnation: Incarnation;
    head: Link;
    deltaMs: number;
    drift: number;
    windowMs: number;
    own: boolean;
    /**
     * Age of the grant (ms) that a regional broker derived this one from (docs/protocol.md §5.4). Null: a leader's
     * grant.
     */
    agedMs: number | null;
  }
>;
/** B: an authentic renew gets no grant, for a permanent reason (drift, a boot that left, too many nodes). */
export type GrantRefused = FactOf<"grant-refused", { node: NodeId; boot: BootId; reason: string }>;
/** B: the broker accepted an authentic goodbye, or a renew that names the boot it replaces. */
export type BootLeft = FactOf<"boot-left", { node: NodeId; boot: BootId; how: "goodbye" | "replaced" }>;
/**
 * B: the nodes that the leader of this epoch shows to operators: those that may hold a lease, and those that are absent
 * (docs/adr/0040).
 */
export type NodesListed = FactOf<"nodes-listed", { epoch: Epoch; nodes: readonly string[] }>;
/** B: the outcome of reasserting a tightening event that a node had applied and the log lost. `lost`: its link. */
export type Reasserted = FactOf<
  "reasserted",
  { lost: Link; stream: Stream; outcome: "appended" | "already-denied" | "operator" }
>;
/** B: the snapshot builder starts at this link. */
export type SnapshotBegun = FactOf<"snapshot-begun", { link: Link }>;
/**
 * B, N: a snapshot was saved. `digest`: of the contents of its chunks. `id`: the id that the log may name; null: a
 * node's own snapshot.
 */
export type SnapshotBuilt = FactOf<"snapshot-built", { link: Link; digest: string; id: Hash | null }>;
/** B: a due snapshot was given up. */
export type SnapshotGivenUp = FactOf<"snapshot-given-up", { reason: string }>;
/**
 * B: the broker asks the log to drop all events before `first`.
 * - `held`: when the run began, operators wanted all events kept.
 * - `saves`: the snapshots on this disk, newest first. `whole`: all chunks of the snapshot are unchanged.
 */
export type RetainAsked = FactOf<
  "retain-asked",
  { first: Position; held: boolean; saves: readonly Readonly<{ link: Link; whole: boolean }>[] }
>;
/** B: a duty, in a run of this epoch, submits a command to the core. */
export type DutySubmitted = FactOf<
  "duty-submitted",
  { duty: string; commandId: CommandId; epoch: Epoch; incarnation: Incarnation }
>;
/** B: the core answered the command of a duty. */
export type DutyAnswered = FactOf<
  "duty-answered",
  { duty: string; commandId: CommandId; outcome: CommandResult["type"] }
>;
/** B: a duty sends a refresh token to the provider under this intent. Null: the build records no intents. */
export type TokenSent = FactOf<
  "token-sent",
  { sessionId: SessionId; token: string; epoch: Epoch; incarnation: Incarnation; intent: CommandId | null }
>;
/** The provider receives a refresh token. */
export type TokenPresented = FactOf<
  "token-presented",
  { sessionId: SessionId; token: string; intent: CommandId | null }
>;
/**
 * B: a duty ends a session because of its refresh. `because`: the provider's own reason, which it reveals to no client,
 * or the end of the grace period.
 */
export type SessionDismissed = FactOf<
  "session-dismissed",
  { sessionId: SessionId; token: string; because: "reuse" | "dismissal" | "grace" }
>;
/** B: the broker sends an append that raises the cluster's level. It has just checked that nothing blocks the raise. */
export type Finalizing = FactOf<"finalizing", { level: number }>;
/** B: the broker sends the log an append that follows this link. */
export type AppendSent = FactOf<"append-sent", { previous: Link }>;
/**
 * B: the outcome of a batch made while another was in flight. The broker sends it after that batch, or discards it with
 * that batch.
 */
export type MadeAhead = FactOf<"made-ahead", { became: "sent" | "thrown-away" }>;

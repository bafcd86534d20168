/** Broker facts: what a broker's driver reports of its core; the rest is in facts.ts. Only types. */
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
import type { Happened } from "./facts.ts";

/** B: the core says that it leads from now on (it knows that its epoch is open) or no longer. */
export type Leading = Happened<"leading", { epoch: Epoch; leading: boolean }>;
/** B: the leader's inbox has an authentic renew. */
export type RenewArrived = Happened<"renew-arrived", { node: NodeId; boot: BootId; nonce: number; epoch: Epoch }>;
/** B: a grant leaves; whether it arrives is another matter. `own`: for a node in the same process. */
export type GrantSent = Happened<
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
    /** By a regional broker from a grant of its own (docs/protocol.md §5.4): how old that was; null: the leader. */
    agedMs: number | null;
  }
>;
/** B: an authentic renew gets no grant for a reason that stays (drift, a boot that left, too many). */
export type GrantRefused = Happened<"grant-refused", { node: NodeId; boot: BootId; reason: string }>;
/** B: an authentic goodbye, or a renew that names the boot it replaces, was taken. */
export type BootLeft = Happened<"boot-left", { node: NodeId; boot: BootId; how: "goodbye" | "replaced" }>;
/** B: a tightening event that a node had applied and the log lost: what became of it. `lost` is its link. */
export type Reasserted = Happened<
  "reasserted",
  { lost: Link; stream: Stream; outcome: "appended" | "already-denied" | "operator" }
>;
/** B: the snapshot builder begins at this place. */
export type SnapshotBegun = Happened<"snapshot-begun", { link: Link }>;
/**
 * B, N: a snapshot was saved. `digest`: of what is in its chunks. `id`: what the log may say of it; null: a node's own.
 */
export type SnapshotBuilt = Happened<"snapshot-built", { link: Link; digest: string; id: Hash | null }>;
/** B: a snapshot that was due came to nothing. */
export type SnapshotGivenUp = Happened<"snapshot-given-up", { reason: string }>;
/**
 * B: the log is asked to let go of all before `first`. `held`: operators wanted everything kept when the run began.
 * `saves`: what is on this disk by now, newest first; `whole`: all its chunks are what they were.
 */
export type RetainAsked = Happened<
  "retain-asked",
  { first: Position; held: boolean; saves: readonly Readonly<{ link: Link; whole: boolean }>[] }
>;
/** B: a duty, in a run of this epoch, hands a command to the core. */
export type DutySubmitted = Happened<
  "duty-submitted",
  { duty: string; commandId: CommandId; epoch: Epoch; incarnation: Incarnation }
>;
/** B: the core has answered it. */
export type DutyAnswered = Happened<
  "duty-answered",
  { duty: string; commandId: CommandId; outcome: CommandResult["type"] }
>;
/** B: a duty sends a refresh token to the provider, behind this intent; null: as a build that records none. */
export type TokenSent = Happened<
  "token-sent",
  { sessionId: SessionId; token: string; epoch: Epoch; incarnation: Incarnation; intent: CommandId | null }
>;
/** The provider receives it. */
export type TokenPresented = Happened<
  "token-presented",
  { sessionId: SessionId; token: string; intent: CommandId | null }
>;
/**
 * B: a duty ends a session for its refresh. `because`: the provider's own reason, which it tells no client; or the
 * grace is over.
 */
export type SessionDismissed = Happened<
  "session-dismissed",
  { sessionId: SessionId; token: string; because: "reuse" | "dismissal" | "grace" }
>;
/**
 * B: an append that raises the cluster's level leaves for the log: whether anybody stands in its way was just looked
 * at.
 */
export type Finalizing = Happened<"finalizing", { level: number }>;
/** B: an append leaves for the log, to stand behind this link. */
export type AppendSent = Happened<"append-sent", { previous: Link }>;
/** B: a batch that was carried out while another was in flight: it is sent behind that one, or thrown away with it. */
export type MadeAhead = Happened<"made-ahead", { became: "sent" | "thrown-away" }>;

/**
 * DecisionRecord: one decision with its request, its answer, and the link and configuration behind it.
 *
 * - Every decision makes one, also re-decisions of open streams.
 * - It holds ids and reasons, and no claims, tokens or query strings.
 * - (link, configuration hash) determine the decision, so it can be replayed and explained later.
 */
import type { BootId, ConfigHash, Link, NodeId, SessionId, UnixMs, UserId } from "../events/index.ts";
import type { DecisionTrace, ShadowAnswer } from "./authorize/index.ts";

export type DecisionRecord = Readonly<{
  /** `<boot>:<seq>`; `seq` is dense per boot, so a lost record shows. */
  node: NodeId;
  boot: BootId;
  region: string;
  at: UnixMs;
  /**
   * A new request; the re-decision of an open exchange after one of its facts changed; or the end of a permitted
   * stream, which decides nothing.
   */
  occasion: "request" | "redecision" | "closed";
  requestId: string;
  routeId: string | null;
  method: string;
  host: string;
  /** Path without query. */
  path: string;
  ip: string;
  sessionId: SessionId | null;
  userId: UserId | null;
  result: "permit" | "deny" | "signin" | "unavailable" | "not_found" | "bad_request";
  status: number;
  reasons: readonly string[];
  /**
   * Names of the rules and criteria that were met and unmet, without the values they compare with, and the log position
   * of each fact. Every refusal has it; a permit has it if the route requests it.
   */
  trace?: DecisionTrace;
  /** Answer of the route's `shadow_policy`, if it differs. */
  shadow?: ShadowAnswer;
  /** Link of the projection behind the decision. */
  applied: Link;
  configHash: ConfigHash;
  /** Lease age beyond Δ (ms); negative: still fresh. null: no lease, or not consulted. */
  overdueMs: number | null;
  /**
   * Milliseconds from the end of the request's head to the decision. Absent in re-decisions and in records of older
   * builds.
   */
  latencyMs?: number;
  /**
   * Milliseconds from the leader recording a change to the cut of the exchange. It compares two wall clocks, which
   * differ by 2 s at most. Absent if the re-decision cut nothing or no log change caused it.
   */
  cutMs?: number;
  /** How a stream ended: an upgraded connection, a tunnel, or a response of 10 s or longer. Bytes without heads. */
  closed?: Readonly<{
    /** Why it was cut, or failed; `ended`: one of its sides ended it. */
    cause: string;
    durationMs: number;
    bytes: number;
    bytesReceived: number;
  }>;
}>;

/** Queues a record off the request path. Never throws, never waits. */
export type RecordDecision = (record: DecisionRecord) => void;

/**
 * DecisionRecord: what was asked, what was answered, and from which link and configuration.
 *
 * Every decision makes one, also those about open streams. It holds ids and reasons, no claims, tokens or query
 * strings. (link, configuration hash) determine the decision, so that it can be replayed and explained later.
 */
import type { BootId, ConfigHash, Link, NodeId, SessionId, UnixMs, UserId } from "../events/index.ts";
import type { DecisionTrace, ShadowAnswer } from "./authorize/index.ts";

export type DecisionRecord = Readonly<{
  /** `<boot>:<seq>`; `seq` is dense per boot, so a lost record shows. */
  node: NodeId;
  boot: BootId;
  region: string;
  at: UnixMs;
  /** What occasioned it: a new request, or the re-decision of an open exchange because one of its facts changed. */
  occasion: "request" | "redecision";
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
   * Of every refusal, and of permits where the route asks for it: which rules and criteria were met and which were not,
   * by name and without what they compare with; and where the log said last what the answer rests on.
   */
  trace?: DecisionTrace;
  /** What the route's `shadow_policy` would have answered, where that is something else. */
  shadow?: ShadowAnswer;
  /** The projection the decision was made from. */
  applied: Link;
  configHash: ConfigHash;
  /** How long past Δ the lease was (negative: fresh by that much); null when it was not consulted or there is none. */
  overdueMs: number | null;
  /**
   * From when the request's head had been read to the decision, in milliseconds. Absent in re-decisions, and in records
   * of older builds.
   */
  latencyMs?: number;
  /**
   * Of a re-decision that cut an exchange: milliseconds from when the leader recorded the change to the cut. It
   * compares two wall clocks, which differ by 2 s at most. Absent where no change of the log caused it.
   */
  cutMs?: number;
}>;

/** Takes a record off the request path. Never throws, never waits. */
export type RecordDecision = (record: DecisionRecord) => void;

/**
 * DecisionRecord: one decision with its request, its answer, and the link and configuration behind it.
 *
 * - Every decision makes one, also re-decisions of open streams.
 * - It holds ids and reasons, and no claims or tokens. Of the query and the headers it holds what the route names.
 * - (link, configuration hash) determine the decision, so it can be replayed and explained later.
 */
import type { BootId, ConfigHash, Link, NodeId, SessionId, UnixMs, UserId } from "../events/index.ts";
import type { DecisionTrace, RecordedSide, ShadowAnswer } from "./authorize/index.ts";

export type DecisionRecord = Readonly<{
  /** `<boot>:<seq>`; `seq` is dense per boot, so a lost record shows. */
  node: NodeId;
  boot: BootId;
  region: string;
  at: UnixMs;
  /**
   * A new request; the re-decision of an open exchange after one of its facts changed; or the end of a permitted
   * stream, or of any permitted request where the route says so, which decides nothing.
   */
  occasion: "request" | "redecision" | "closed";
  requestId: string;
  routeId: string | null;
  method: string;
  host: string;
  /** Path without query. The segments that the route redacts are `[redacted]`. */
  path: string;
  ip: string;
  /** Name of the route. Absent: it has none, or the record is of an older build, as in each field below. */
  routeName?: string | undefined;
  /** Its first 256 characters; control characters are replaced. Absent: none was sent, or it is not recorded. */
  userAgent?: string | undefined;
  /** W3C trace id: of this node's span, else of the caller. */
  traceId?: string | undefined;
  /** The query parameters that the route records, in their order, as they were sent. */
  query?: string | undefined;
  /** The headers that the route records, except the user agent, by their lowercase names. */
  headers?: Readonly<Record<string, string>> | undefined;
  sessionId: SessionId | null;
  userId: UserId | null;
  result: "permit" | "deny" | "signin" | "unavailable" | "not_found" | "bad_request";
  status: number;
  reasons: readonly string[];
  /** What the allow rules and the deny rules answered, each with its reasons. Absent: policy was not evaluated. */
  allow?: RecordedSide | undefined;
  deny?: RecordedSide | undefined;
  /**
   * The rule that decided. Absent: no rule did, or the route has so many allow rules that only a trace finds the one.
   */
  rule?: string | undefined;
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
  latencyMs?: number | undefined;
  /**
   * Milliseconds from the leader recording a change to the cut of the exchange. It compares two wall clocks, which
   * differ by 2 s at most. Absent if the re-decision cut nothing or no log change caused it.
   */
  cutMs?: number;
  /** How a stream or a request ended. Bytes without heads. */
  closed?: Readonly<{
    /** Why it was cut, or failed; `ended`: one of its sides ended it. */
    cause: string;
    /** The last event of the batch of changes that cut it. Absent: no change of the log did. */
    link?: Link;
    /** As `cutMs` of a re-decision. */
    cutMs?: number;
    durationMs: number;
    bytes: number;
    bytesReceived: number;
  }>;
}>;

/** Queues a record off the request path. Never throws, never waits. */
export type RecordDecision = (record: DecisionRecord) => void;

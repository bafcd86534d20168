/** Forward job: what the forwarder needs to send one permitted request, and how sending it can fail. Pure. */
import type { RouteConfig } from "../../config/index.ts";
import { CodedError } from "../../events/index.ts";
import type { CutReason, Exchange } from "../enforce/exchanges.ts";
import type { ResponseRules } from "../headers/downstream-headers.ts";
import type { Downstream } from "../message/downstream-request.ts";
import type { HeaderLines } from "../message/header-lines.ts";
import type { FailureReason } from "../reply/failures.ts";
import type { BreakerBound } from "../upstream/pool-metrics.ts";
import type { UpstreamTarget } from "../upstream/upstream-choice.ts";

export type ForwardJob = Readonly<{
  downstream: Downstream;
  exchange: Exchange;
  target: UpstreamTarget;
  isGrpc: boolean;
  method: string;
  /** Path and query, as sent to the upstream. */
  path: string;
  headers: HeaderLines;
  /** Whether the request id is sent to the upstream. */
  sendsRequestId: boolean;
  rules: ResponseRules;
  requestId: string;
  /** 0: no limit. */
  timeoutMs: number;
  /** When `timeoutMs` starts: with the permit, or when the request body is complete. */
  timeoutFrom: RouteConfig["timeoutFrom"];
  /** Longest time without a byte in either direction; 0: no limit. */
  idleTimeoutMs: number;
  /** Longest request body; 0: no limit. */
  bodyBytesMax: number;
  /** The caller waits for 100 Continue before it sends its body. */
  expectsContinue: boolean;
  /** The caller accepts trailers of the response. */
  acceptsTrailers: boolean;
  counts: ForwardCounts;
  /** The request failed before any response; the caller of `forward` replies. Called at most once. */
  onFailed: (failure: ForwardFailure) => void;
  onRetry: () => void;
  /** The request is sent again on a new connection, because a kept one was closed. */
  onResend: () => void;
  onOverflow: (bound: BreakerBound) => void;
  /** The request trailers to forward; names and values alternate. */
  trailersOf: (lines: readonly string[]) => readonly string[];
  /**
   * Another upstream for the request, and the headers for it. Undefined: there is none.
   */
  nextTarget: (failed: UpstreamTarget) => Readonly<{ target: UpstreamTarget; headers: HeaderLines }> | undefined;
}>;

/** Counts of one call, for metrics and the access log. */
export type ForwardCounts = {
  bytes: number;
  bytesReceived: number;
  /** When the first byte of the request was sent, and when the head of the response arrived. Monotonic. */
  sentAt: number;
  answeredAt: number;
  failure: FailureReason | null;
};

export type ForwardFailure =
  | Readonly<{ type: "error"; error: unknown }>
  | Readonly<{ type: "cut"; reason: CutReason }>
  | Readonly<{ type: "busy" }>
  /** The request body is longer than the route accepts. */
  | Readonly<{ type: "too-large" }>
  /** The request body did not arrive in time. */
  | Readonly<{ type: "too-slow" }>
  /** No upstream of the route is available. */
  | Readonly<{ type: "unhealthy" }>;

export class ForwardTimeoutError extends CodedError<"ERR_PROXY_TIMEOUT"> {
  override readonly code = "ERR_PROXY_TIMEOUT";
  constructor(timeoutMs: number) {
    super(`the upstream took longer than ${timeoutMs} ms`);
  }
}

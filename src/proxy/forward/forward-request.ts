/**
 * Forward request: the forwarder's view of a permitted request, with the upstream chosen for it.
 *
 * There is one per request. Values that few requests need are computed on read.
 */
import type { Permit } from "../../auth/index.ts";
import type { Clock } from "../../replication/index.ts";
import type { Exchange } from "../enforce/exchanges.ts";
import type { ResponseRules } from "../headers/downstream-headers.ts";
import type { ForwardedTokens } from "../headers/provider-tokens.ts";
import { withSearch } from "../headers/rewrite.ts";
import {
  forwardedTrailers,
  stripSessionQuery,
  type UpstreamIdentity,
  upstreamLines,
} from "../headers/upstream-headers.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import { type RequestTrace, withTraceContext } from "../observe/traces.ts";
import type { CompiledRoute } from "../routing/compiled-route.ts";
import { authorityOf } from "../routing/route-table.ts";
import type { BreakerBound } from "../upstream/pool-metrics.ts";
import type { BalancingCaller, NextUpstream, UpstreamTarget } from "../upstream/upstream-choice.ts";
import type { ForwardCounts, ForwardFailure, ForwardJob } from "./forward-job.ts";

/** The part of a request's context that forwarding reads, and in which it counts. */
export type ForwardContext = ForwardCounts &
  Readonly<{
    downstream: Downstream;
    requestId: string;
    /** The connection's peer, and the caller's address as far as proxies in front are trusted. */
    peer: string;
    ip: string;
    trace: RequestTrace | null;
  }>;

/** The parts of a permitted request that forwarding reads. */
export type ForwardableRequest = Readonly<{
  context: ForwardContext;
  plan: CompiledRoute;
  request: CanonicalRequest;
  exchange: Exchange;
  permit: Permit;
}>;

export type ForwardTools<Permitted extends ForwardableRequest> = Readonly<{
  clock: Pick<Clock, "wall">;
  metrics: Pick<HttpMetrics, "retried" | "resent" | "overflow">;
  /** Forwarding failed before any response. */
  notForwarded: (failure: ForwardFailure, permitted: Permitted) => void;
}>;

/** The identity that the upstream receives. Null: no identity, or no tokens. */
type AttachedIdentity = Readonly<{ identity: UpstreamIdentity | null; tokens: ForwardedTokens | null }>;

/** The chosen upstream, the choice of the next one, and the path as the route rewrites it. */
type ChosenUpstream = Readonly<{
  target: UpstreamTarget;
  next: NextUpstream;
  asking: BalancingCaller;
  rewritten: string;
}>;

const trailers = /(?:^|,)\s*trailers\s*(?:,|$)/i;
const grpc = /^application\/grpc(?:\+|;|$)/i;

export class ForwardRequest<Permitted extends ForwardableRequest> implements ForwardJob {
  readonly #tools: ForwardTools<Permitted>;
  readonly #permitted: Permitted;
  readonly #identity: UpstreamIdentity | null;
  readonly #tokens: ForwardedTokens | null;
  readonly #next: NextUpstream;
  readonly #asking: BalancingCaller;
  /** Trace headers; null: the request is not traced. */
  readonly #place: ReturnType<RequestTrace["upstreamBegins"]> | null;
  readonly target: UpstreamTarget;
  readonly path: string;

  constructor(
    tools: ForwardTools<Permitted>,
    permitted: Permitted,
    { identity, tokens }: AttachedIdentity,
    { target, next, asking, rewritten }: ChosenUpstream,
  ) {
    this.#tools = tools;
    this.#permitted = permitted;
    this.#identity = identity;
    this.#tokens = tokens;
    this.#next = next;
    this.#asking = asking;
    this.#place = permitted.context.trace?.upstreamBegins(target.host) ?? null;
    this.target = target;
    this.path = withSearch(rewritten, stripSessionQuery(permitted.request.search));
  }

  get downstream(): Downstream {
    return this.#permitted.context.downstream;
  }
  get exchange(): Exchange {
    return this.#permitted.exchange;
  }
  get method(): string {
    return this.#permitted.request.method;
  }
  get requestId(): string {
    return this.#permitted.context.requestId;
  }
  get counts(): ForwardCounts {
    return this.#permitted.context;
  }
  get sendsRequestId(): boolean {
    return this.#permitted.plan.headerRules.sendsRequestId;
  }
  get rules(): ResponseRules {
    return this.#permitted.plan.responseRules;
  }
  get timeoutMs(): number {
    return this.#permitted.plan.route.timeoutMs;
  }
  get timeoutFrom(): ForwardJob["timeoutFrom"] {
    return this.#permitted.plan.route.timeoutFrom;
  }
  get idleTimeoutMs(): number {
    return this.#permitted.plan.route.idleTimeoutMs;
  }
  get bodyBytesMax(): number {
    return this.#permitted.plan.route.maxRequestBodyBytes;
  }
  get expectsContinue(): boolean {
    // HTTP/1.0 has no interim responses, so the expectation is ignored (RFC 9110 §10.1.1).
    return this.#permitted.request.headers["expect"] !== undefined && this.downstream.head.httpVersion !== "1.0";
  }
  get acceptsTrailers(): boolean {
    const te = this.#permitted.request.headers["te"];
    return te !== undefined && trailers.test(te);
  }
  get isGrpc(): boolean {
    const contentType = this.#permitted.request.headers["content-type"];
    return contentType !== undefined && grpc.test(contentType);
  }
  get headers(): HeaderLines {
    return this.headersFor(this.target.host);
  }

  get authority(): string {
    return authorityOf(this.#permitted.plan.route, this.#permitted.request);
  }

  headersFor(upstreamHost: string): HeaderLines {
    const { context, plan, request } = this.#permitted;
    const parts = {
      request,
      authority: this.authority,
      scheme: plan.scheme,
      peer: context.peer,
      upstreamHost,
      sessionId: this.#asking.sessionId,
      identity: this.#identity,
      tokens: this.#tokens,
      certificate: plan.clientTrust?.trusted(context.downstream.certificate, this.#tools.clock.wall()) ?? null,
    };
    const lines = upstreamLines(plan.headerRules, parts);
    return this.#place === null ? lines : new HeaderLines(withTraceContext(lines.list, this.#place));
  }

  /** The headers as the handshake of another protocol writes them. @param upstreamHost default: the target's */
  headerList(upstreamHost: string = this.target.host): readonly string[] {
    // A handshake has no body and so no trailers; `node:http` throws where they are announced.
    const { list } = this.headersFor(upstreamHost).without("trailer");
    return this.sendsRequestId ? [...list, "x-request-id", this.requestId] : list;
  }

  onFailed(failure: ForwardFailure): void {
    this.#tools.notForwarded(failure, this.#permitted);
  }

  onRetry(): void {
    this.#tools.metrics.retried();
  }

  onResend(): void {
    this.#tools.metrics.resent();
  }

  onOverflow(bound: BreakerBound): void {
    this.#tools.metrics.overflow(this.#permitted.plan.route.id, bound);
  }

  trailersOf(lines: readonly string[]): readonly string[] {
    const { plan, request } = this.#permitted;
    return forwardedTrailers(plan.headerRules, request, lines);
  }

  nextTarget(failed: UpstreamTarget): ReturnType<ForwardJob["nextTarget"]> {
    const target = this.#next(this.#asking, failed);
    return target === undefined ? undefined : { target, headers: this.headersFor(target.host) };
  }
}

/**
 * Request end: after a request's last byte, updates the metrics and the trace and writes the access log line.
 *
 * Pure: clocks, meters and the log are passed in.
 */

import { forwardedFor } from "../headers/upstream-headers.ts";
import { roundedMs } from "../message/recorded-text.ts";
import { compileAccessLine, isProbe } from "../observe/access-line.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import type { ProxyDeps } from "./dependencies.ts";
import type { RequestContext } from "./request-context.ts";

type RequestEndParts = Readonly<{
  deps: Pick<ProxyDeps, "config" | "clock" | "accessLog">;
  metrics: Pick<HttpMetrics, "requestEnded" | "lineDropped">;
}>;

/** @returns the recorder, to be called once per request */
export function createRequestEndRecorder({ deps, metrics }: RequestEndParts): (context: RequestContext) => void {
  const { config, clock, accessLog: log } = deps;
  const { skipXffAppend, xffNumTrustedHops: trustedHops } = config;
  const accessLine = log === null ? undefined : compileAccessLine(config.accessLogFields);

  return (context) => {
    const { downstream, trace, meter, sentAt, answeredAt, bytes, bytesReceived } = context;
    const lasting = downstream.upgrade !== null;
    if (context.exchange?.cutReason !== undefined) context.failure ??= "cut";
    else if (!lasting && !downstream.ended) context.failure ??= "client-left";
    const { failure } = context;
    const status = context.upgraded ? 101 : downstream.status;
    const durationMs = roundedMs(clock.monotonic() - context.startedAt);
    const upstreamMs = answeredAt > 0 ? roundedMs(answeredAt - sentAt) : null;
    metrics.requestEnded({
      meter,
      status,
      failure,
      durationMs: lasting ? null : durationMs,
      upstreamMs,
      bytes,
      bytesReceived,
    });
    if (trace !== null) {
      if (sentAt > 0) trace.upstreamEnds(answeredAt > 0 ? status : null);
      trace.ends({ status, failure, bytes, bytesReceived });
    }
    if (log === null || accessLine === undefined || (isProbe(context) && !log.probes)) return;
    const sent = context.request?.headers["x-forwarded-for"];
    const addresses = forwardedFor(sent, { peer: context.peer, trustedHops, skipXffAppend });
    const facts = { context, status, durationMs, upstreamMs, at: clock.wall(), forwardedFor: addresses };
    if (!log.write(accessLine(facts))) metrics.lineDropped();
  };
}

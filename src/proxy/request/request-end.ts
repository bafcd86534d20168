/**
 * Visit's end: behind a request's last byte, what is known of it is counted, traced and written to the access log.
 *
 * Pure: clocks, meters and the log are given to it.
 */

import { forwardedFor } from "../headers/upstream-headers.ts";
import { roundedMs } from "../message/recorded-text.ts";
import { compileAccessLine, isProbe } from "../observe/access-line.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import type { ProxyPorts } from "./dependencies.ts";
import type { Visit } from "./request-context.ts";

type EndParts = Readonly<{
  ports: Pick<ProxyPorts, "config" | "clock" | "accessLog">;
  metrics: Pick<HttpMetrics, "ended" | "lineDropped">;
}>;

/** @returns to be called once for each request */
export function tellEnds({ ports, metrics }: EndParts): (visit: Visit) => void {
  const { config, clock, accessLog: log } = ports;
  const { skipXffAppend, xffNumTrustedHops: trustedHops } = config;
  const accessLine = log === null ? undefined : compileAccessLine(config.accessLogFields);

  return (visit) => {
    const { downstream, trace, meter, sentAt, answeredAt, bytes, bytesReceived } = visit;
    const lasting = downstream.upgrade !== null;
    if (visit.exchange?.cutReason !== undefined) visit.failure ??= "cut";
    else if (!lasting && !downstream.ended) visit.failure ??= "client-left";
    const { failure } = visit;
    const status = visit.switched ? 101 : downstream.status;
    const durationMs = roundedMs(clock.monotonic() - visit.startedAt);
    const upstreamMs = answeredAt > 0 ? roundedMs(answeredAt - sentAt) : null;
    metrics.ended({
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
    if (log === null || accessLine === undefined || (isProbe(visit) && !log.probes)) return;
    const sent = visit.request?.headers["x-forwarded-for"];
    const addresses = forwardedFor(sent, { peer: visit.peer, trustedHops, skipXffAppend });
    const facts = { visit, status, durationMs, upstreamMs, at: clock.wall(), forwardedFor: addresses };
    if (!log.write(accessLine(facts))) metrics.lineDropped();
  };
}

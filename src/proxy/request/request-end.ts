/**
 * Request end: after a request's last byte, updates the metrics and the trace, records the end of a stream, and writes
 * the access log line.
 *
 * Pure: clocks, meters and the log are passed in.
 */

import { forwardedFor } from "../headers/upstream-headers.ts";
import { roundedMs } from "../message/recorded-text.ts";
import { compileAccessLine, isProbe } from "../observe/access-line.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import type { ProxyDeps } from "./dependencies.ts";
import { decisionRecordOf, type RequestContext } from "./request-context.ts";

/** A response that takes this long is a stream, whose end is recorded. */
const streamMsMin = 10_000;

type RequestEndParts = Readonly<{
  deps: ProxyDeps;
  metrics: Pick<HttpMetrics, "requestEnded" | "lineDropped">;
}>;

/** @returns the recorder, to be called once per request */
export function createRequestEndRecorder({ deps, metrics }: RequestEndParts): (context: RequestContext) => void {
  const { config, clock, accessLog: log } = deps;
  const { skipXffAppend, xffNumTrustedHops: trustedHops } = config;
  const accessLine = log === null ? undefined : compileAccessLine(config.accessLogFields);

  /** Unless the route wants every end, only of streams that began: a refused upgrade was none. */
  function recordStreamEnd(
    context: RequestContext,
    { status, durationMs, lasting }: Readonly<{ status: number; durationMs: number; lasting: boolean }>,
  ): void {
    const { permitted, answeredAt, bytes, bytesReceived } = context;
    const isOpened = lasting && (status === 101 || status === 200);
    if (permitted === null) return;
    const { audit, auditEnds } = permitted.plan.route;
    const isStream = isOpened || (answeredAt > 0 && durationMs >= streamMsMin);
    if (!isStream && auditEnds === "streams") return;
    const cause = context.exchange?.cutReason ?? context.failure ?? "ended";
    const { link = null, cutMs = null } = context.exchange?.cutCause ?? {};
    const by = { ...(link === null ? {} : { link }), ...(cutMs === null ? {} : { cutMs }) };
    const closed = { cause, ...by, durationMs, bytes, bytesReceived };
    const outcome = { result: "permit", status, reasons: [], occasion: "closed", closed } as const;
    const record = decisionRecordOf(context, outcome, permitted.permit.principal, deps);
    const { recorder } = deps;
    if (audit === "strict") (recorder.recordKept ?? recorder.record)(record);
    else recorder.record(record);
  }

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
    recordStreamEnd(context, { status, durationMs, lasting });
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

/**
 * OpenTelemetry client: records a span for each request and for its call to an upstream, and exports them by OTLP.
 *
 * - The OpenTelemetry packages are loaded only here, and only if traces are configured.
 * - An unreachable collector costs memory for 2,048 spans, and never delays or fails a request.
 * - A span never contains a query, the caller's identity, or any header except the user agent.
 */
import type { Context, Span, Tracer } from "@opentelemetry/api";
import type { SpanExporter } from "@opentelemetry/sdk-trace";
import type { TracingConfig } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { RequestTrace, TraceHead, Tracing } from "./traces.ts";

export type TracingClient = Tracing & Readonly<{ close(): Promise<void> }>;

/** The default of the OpenTelemetry specification. */
const waitingSpansMax = 2_048;
const closeMsMax = 3_000;

export async function createTracing(
  config: TracingConfig,
  who: Readonly<{ version: string; node: string; region: string; logger: Logger }>,
): Promise<TracingClient> {
  const [api, sdk, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/resources"),
  ]);
  if (config.logLevel !== "none") api.diag.setLogger(troubles(who.logger), { logLevel: levelOf(api, config.logLevel) });
  const { delayMs, timeoutMs, spansMax } = config.batch;
  const processor = new sdk.BatchSpanProcessor({
    exporter: await exporterOf(config),
    maxQueueSize: waitingSpansMax,
    maxExportBatchSize: spansMax,
    scheduledDelayMillis: delayMs,
    exportTimeoutMillis: timeoutMs,
  });
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({
      "service.name": "cardea",
      "service.version": who.version,
      "service.instance.id": who.node,
      "cardea.region": who.region,
      ...config.resource,
    }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(config.share) }),
    spanProcessors: [processor],
    ...(config.valueLengthMax === null ? {} : { spanLimits: { attributeValueLengthLimit: config.valueLengthMax } }),
  });
  const tracer = provider.getTracer("cardea", who.version);
  return {
    begin: (head) => new OpenTelemetryTrace(api, tracer, head),
    async close() {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, closeMsMax);
      });
      await Promise.race([provider.shutdown().catch(() => {}), late]);
      clearTimeout(timer);
    },
  };
}

async function exporterOf({ protocol, endpoint, headers, timeoutMs }: TracingConfig): Promise<SpanExporter> {
  const common = { url: endpoint.href, timeoutMillis: timeoutMs };
  switch (protocol) {
    case "grpc": {
      const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-grpc");
      const { Metadata } = await import("@grpc/grpc-js");
      const metadata = new Metadata();
      for (const [name, value] of Object.entries(headers)) metadata.set(name.toLowerCase(), value);
      return new OTLPTraceExporter({ ...common, metadata });
    }
    case "http/json": {
      const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
      return new OTLPTraceExporter({ ...common, headers: { ...headers } });
    }
    default: {
      const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-proto");
      return new OTLPTraceExporter({ ...common, headers: { ...headers } });
    }
  }
}

type Api = typeof import("@opentelemetry/api");

class OpenTelemetryTrace implements RequestTrace {
  readonly traceId: string;
  readonly spanId: string;
  readonly #api: Api;
  readonly #tracer: Tracer;
  readonly #method: string;
  readonly #state: string | null;
  readonly #context: Context;
  readonly #span: Span;
  #call: Span | undefined;

  constructor(api: Api, tracer: Tracer, head: TraceHead) {
    this.#api = api;
    this.#tracer = tracer;
    this.#method = head.method;
    this.#state = head.parent?.state ?? null;
    const from = contextOf(api, head);
    this.#span = tracer.startSpan(head.method, { kind: api.SpanKind.SERVER, attributes: attributesOf(head) }, from);
    this.#context = api.trace.setSpan(from, this.#span);
    ({ traceId: this.traceId, spanId: this.spanId } = this.#span.spanContext());
  }

  routed(routeId: string, routeName: string, scheme: string): void {
    this.#span.updateName(`${this.#method} ${routeName}`);
    this.#span.setAttributes({ "cardea.route.id": routeId, "url.scheme": scheme });
  }

  decided(result: string, reasons: readonly string[]): void {
    this.#span.addEvent("decision", { "cardea.decision": result, "cardea.reasons": [...reasons] });
  }

  text(): Readonly<{ parent: string; state: string }> {
    return { parent: parentText(this.#span), state: this.#state ?? "" };
  }

  upstreamBegins(host: string): readonly string[] {
    const attributes = { "http.request.method": this.#method, "server.address": host };
    this.#call = this.#tracer.startSpan(this.#method, { kind: this.#api.SpanKind.CLIENT, attributes }, this.#context);
    const parent = parentText(this.#call);
    return this.#state === null ? ["traceparent", parent] : ["traceparent", parent, "tracestate", this.#state];
  }

  upstreamEnds(status: number | null): void {
    if (status === null) this.#call?.setStatus({ code: this.#api.SpanStatusCode.ERROR });
    else {
      this.#call?.setAttribute("http.response.status_code", status);
      if (status >= 400) this.#call?.setStatus({ code: this.#api.SpanStatusCode.ERROR });
    }
    this.#call?.end();
  }

  ends({ status, failure, bytes, bytesReceived }: Parameters<RequestTrace["ends"]>[0]): void {
    const span = this.#span;
    if (status > 0) span.setAttribute("http.response.status_code", status);
    span.setAttributes({ "http.response.body.size": bytes, "http.request.body.size": bytesReceived });
    if (failure !== null) span.setAttribute("error.type", failure);
    if (status === 0 || status >= 500) span.setStatus({ code: this.#api.SpanStatusCode.ERROR });
    span.end();
  }
}

function parentText(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}

function contextOf(api: Api, { parent }: TraceHead): Context {
  if (parent === null) return api.ROOT_CONTEXT;
  const { traceId, spanId, sampled, state } = parent;
  return api.trace.setSpanContext(api.ROOT_CONTEXT, {
    traceId,
    spanId,
    isRemote: true,
    traceFlags: sampled ? api.TraceFlags.SAMPLED : api.TraceFlags.NONE,
    ...(state === null ? {} : { traceState: api.createTraceState(state) }),
  });
}

/** Attributes by OpenTelemetry's semantic conventions for HTTP servers. */
function attributesOf(head: TraceHead): Record<string, string> {
  return {
    "http.request.method": head.method,
    "url.path": head.path,
    "server.address": head.host,
    "client.address": head.ip,
    "network.protocol.version": head.protocolVersion,
    "user_agent.original": head.userAgent,
    "cardea.request.id": head.requestId,
  };
}

/** Logs the errors and warnings of the exporter. */
function troubles(logger: Logger): Parameters<Api["diag"]["setLogger"]>[0] {
  const say =
    (level: "debug" | "info" | "warn") =>
    (problem: string): void =>
      logger[level]({ problem: problem.slice(0, 500) }, "traces");
  return { error: say("warn"), warn: say("warn"), info: say("info"), debug: say("debug"), verbose: say("debug") };
}

function levelOf({ DiagLogLevel }: Api, level: TracingConfig["logLevel"]): number {
  const levels = {
    none: DiagLogLevel.NONE,
    error: DiagLogLevel.ERROR,
    warn: DiagLogLevel.WARN,
    info: DiagLogLevel.INFO,
    debug: DiagLogLevel.DEBUG,
    verbose: DiagLogLevel.VERBOSE,
  };
  return levels[level];
}

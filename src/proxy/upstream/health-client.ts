/**
 * Health client: probes upstreams over connections of its own.
 *
 * One loop for each upstream and check. The next check is scheduled when the previous one has ended, so none overlap.
 * The configuration says what is sent and what counts as healthy; upstream/health.ts says when the next check is due.
 */
import { connect as connectPlain } from "node:net";
import { connect as connectTls } from "node:tls";
import type { HealthCheckConfig, Probe, StatusRange } from "../../config/index.ts";
import { connectOptionsOf, Http1Pool, type UpstreamAddress } from "../http1/upstream-pool.ts";
import { Http2Pool } from "../http2/upstream-pool.ts";
import { HeaderLines } from "../message/header-lines.ts";
import type { UpstreamPool, UpstreamRequest } from "../message/upstream-call.ts";
import { type CheckResult, HealthState } from "./health.ts";

export type CheckedUpstream = Readonly<{
  address: UpstreamAddress;
  /** Host and port for the Host header. */
  host: string;
  /** It uses HTTP/2 without TLS. */
  http2: boolean;
}>;

export type HealthChecks = Readonly<{
  /** The first request was sent: checks now run at the interval for upstreams with traffic. */
  onTraffic(): void;
  stop(): void;
}>;

export type HealthCheckHooks = Readonly<{
  hasTraffic(): boolean;
  random(): number;
  /** Called after every check. @param healthy all checks of this upstream pass */
  onChecked(upstream: number, result: CheckResult, healthy: boolean): void;
}>;

export function startHealthChecks(
  configs: readonly HealthCheckConfig[],
  upstreams: readonly CheckedUpstream[],
  hooks: HealthCheckHooks,
): HealthChecks {
  const loops = upstreams.flatMap((upstream, i) => {
    const all: HealthState[] = [];
    return configs.map((config) => {
      const health = new HealthState(config);
      all.push(health);
      return new CheckLoop(config, upstream, health, {
        ...hooks,
        onChecked: (result) =>
          hooks.onChecked(
            i,
            result,
            all.every(({ healthy }) => healthy),
          ),
      });
    });
  });
  return {
    onTraffic() {
      for (const loop of loops) loop.onTraffic();
    },
    stop() {
      for (const loop of loops) loop.stop();
    },
  };
}

type CheckLoopHooks = Pick<HealthCheckHooks, "hasTraffic" | "random"> &
  Readonly<{ onChecked: (result: CheckResult) => void }>;

class CheckLoop {
  readonly #config: HealthCheckConfig;
  readonly #upstream: CheckedUpstream;
  readonly #health: HealthState;
  readonly #hooks: CheckLoopHooks;
  #timer: NodeJS.Timeout | undefined;
  #pool: UpstreamPool | undefined;
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(config: HealthCheckConfig, upstream: CheckedUpstream, health: HealthState, watch: CheckLoopHooks) {
    this.#config = config;
    this.#upstream = upstream;
    this.#health = health;
    this.#hooks = watch;
    this.#schedule(config.initialJitterMs * watch.random());
  }

  onTraffic(): void {
    if (this.#timer !== undefined) this.#schedule(this.#health.nextIn(true, this.#hooks.random));
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#cancel?.();
    this.#pool?.close();
  }

  #schedule(inMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#runCheck(), inMs).unref();
  }

  #runCheck(): void {
    this.#timer = undefined;
    let over = false;
    const done = (result: CheckResult): void => {
      if (over) return;
      over = true;
      clearTimeout(timeout);
      this.#cancel?.();
      this.#cancel = undefined;
      if (!this.#config.reuseConnection) this.#closePool();
      if (this.#stopped) return;
      this.#health.record(result);
      this.#hooks.onChecked(result);
      if (!this.#stopped) this.#schedule(this.#health.nextIn(this.#hooks.hasTraffic(), this.#hooks.random));
    };
    const timeout = setTimeout(() => done("fail"), this.#config.timeoutMs);
    timeout.unref();
    this.#cancel = this.#probe(done);
  }

  #closePool(): void {
    this.#pool?.close();
    this.#pool = undefined;
  }

  #probe(done: (result: CheckResult) => void): () => void {
    const { probe } = this.#config;
    if (probe.type === "tcp") return probeTcp(probe, this.#upstream.address, done);
    const { address, http2 } = this.#upstream;
    const limits = {
      connectionsMax: 1,
      connectTimeoutMs: this.#config.timeoutMs,
      idleMs: 2 * this.#config.intervalMs,
    };
    const overHttp2 = probe.type === "grpc" || probe.http2 || http2;
    const http2Only = { ...address, tls: { ...address.tls, ALPNProtocols: ["h2"] } };
    this.#pool ??= overHttp2 ? new Http2Pool(http2Only, limits) : new Http1Pool(address, limits);
    return probe.type === "grpc"
      ? probeGrpc(probe, this.#pool, this.#upstream.host, done)
      : probeHttp(probe, this.#pool, this.#upstream.host, done);
  }
}

type OnResult = (result: CheckResult) => void;
type ProbeResponse = Readonly<{ status: number; body: Buffer; trailers: readonly string[] }>;

/** @returns cancels the probe */
function sendProbe(
  pool: UpstreamPool,
  request: UpstreamRequest,
  how: Readonly<{ body?: Buffer; bodyBytesMax: number; onAnswer: (answer: ProbeResponse | undefined) => void }>,
): () => void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let status = 0;
  const call = pool.call(request, {
    maySend: () => true,
    onWritable() {
      queueMicrotask(() => {
        if (how.body !== undefined) call.write(how.body);
        call.end();
      });
    },
    onInformational() {},
    onHead(code) {
      status = code;
    },
    onData(chunk) {
      const came = typeof chunk === "string" ? Buffer.from(chunk, "latin1") : chunk;
      if (bytes < how.bodyBytesMax) chunks.push(came.subarray(0, how.bodyBytesMax - bytes));
      bytes += chunk.length;
      return true;
    },
    onEnd: (trailers) => how.onAnswer({ status, body: Buffer.concat(chunks), trailers }),
    onError: () => how.onAnswer(undefined),
  });
  return () => call.abort();
}

const isWithin = (status: number, ranges: readonly StatusRange[]): boolean =>
  ranges.some(({ from, to }) => status >= from && status < to);

function probeHttp(
  probe: Extract<Probe, { type: "http" }>,
  pool: UpstreamPool,
  host: string,
  done: OnResult,
): () => void {
  const headers = ["host", probe.host ?? host, "user-agent", "Cardea/health"];
  const kept = headers.filter((_, i) => {
    const name = headers[i - (i % 2)] ?? "";
    return name === "host" || !probe.removeHeaders.includes(name);
  });
  return sendProbe(
    pool,
    {
      method: probe.method,
      path: probe.path,
      headers: new HeaderLines([...kept, ...probe.addHeaders.flat()]),
      requestId: null,
      hasBody: false,
      idleTimeoutMs: 0,
    },
    {
      bodyBytesMax: probe.bodyBytesMax,
      onAnswer(answer) {
        if (answer === undefined) done("fail");
        else if (isWithin(answer.status, probe.expected))
          done(matchesPatterns(answer.body, probe.receive) ? "pass" : "fail");
        else done(isWithin(answer.status, probe.retriable) ? "fail" : "hard");
      },
    },
  );
}

/** Whether the bytes contain every pattern, in order. */
function matchesPatterns(bytes: Buffer, patterns: readonly string[]): boolean {
  let from = 0;
  return patterns.every((pattern) => {
    const wanted = Buffer.from(pattern, "hex");
    const at = bytes.indexOf(wanted, from);
    from = at + wanted.length;
    return at >= 0;
  });
}

/** `grpc.health.v1.Health/Check`: one field in, one out. @see the health checking protocol of gRPC */
function probeGrpc(
  probe: Extract<Probe, { type: "grpc" }>,
  pool: UpstreamPool,
  host: string,
  done: OnResult,
): () => void {
  const service = Buffer.from(probe.service, "utf8");
  const message =
    service.length === 0 ? service : Buffer.concat([Buffer.from([0x0a]), varint(service.length), service]);
  const frame = Buffer.concat([Buffer.alloc(5), message]);
  frame.writeUInt32BE(message.length, 1);
  const lines = ["host", probe.authority ?? host, "content-type", "application/grpc", "user-agent", "Cardea/health"];
  const headers = new HeaderLines(lines);
  return sendProbe(
    pool,
    {
      method: "POST",
      path: "/grpc.health.v1.Health/Check",
      headers,
      requestId: null,
      hasBody: true,
      idleTimeoutMs: 0,
    },
    {
      body: frame,
      bodyBytesMax: 1_024,
      onAnswer(answer) {
        if (answer === undefined) return done("fail");
        const at = answer.trailers.indexOf("grpc-status");
        if (answer.status !== 200 || at < 0 || answer.trailers[at + 1] !== "0") return done("fail");
        done(isServing(answer.body) ? "pass" : "hard");
      },
    },
  );
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  return Buffer.from([...bytes, rest]);
}

/** `HealthCheckResponse{status: SERVING}`; the default, UNKNOWN, is not written at all. */
function isServing(frame: Buffer): boolean {
  return frame.length === 7 && frame[0] === 0 && frame[5] === 0x08 && frame[6] === 0x01;
}

const tcpBytesMax = 65_536;

function probeTcp(probe: Extract<Probe, { type: "tcp" }>, address: UpstreamAddress, done: OnResult): () => void {
  const { secure, tls } = address;
  const socket = secure
    ? connectTls({ ...connectOptionsOf(address), ...tls })
    : connectPlain(connectOptionsOf(address));
  let received = Buffer.alloc(0);
  socket.once(secure ? "secureConnect" : "connect", () => {
    if (probe.send !== null) socket.write(Buffer.from(probe.send, "hex"));
    if (probe.receive.length === 0) done("pass");
  });
  socket.on("data", (chunk: Buffer) => {
    if (received.length < tcpBytesMax) received = Buffer.concat([received, chunk]);
    if (matchesPatterns(received, probe.receive)) done("pass");
  });
  socket.on("error", () => done("fail"));
  socket.on("close", () => done("fail"));
  return () => socket.destroy();
}

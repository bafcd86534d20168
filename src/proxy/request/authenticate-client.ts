/**
 * Authenticate client: the gateway's connections to the authenticate service, and whether the service answers at all.
 *
 * A link that drops packets leaves a request without an answer and without an error. So while a request waits, the
 * service is probed over a connection of its own. If it does not answer the probe, the requests that wait fail, and
 * further ones fail at once until it answers one.
 */
import { isIP } from "node:net";
import { getCACertificates } from "node:tls";
import { Agent, buildConnector, DecoratorHandler, type Dispatcher, errors } from "undici";
import type { Config } from "../../config/index.ts";
import { operatorApiPrefix } from "../../console/index.ts";
import type { Clock } from "../../replication/index.ts";
import { codeOf } from "../reply/write-reply.ts";

export type AuthenticateClient = Readonly<{
  dispatcher: Dispatcher;
  /** Why a request would wait in vain; null: it would not. */
  problem(): Error | null;
  close(): Promise<void>;
}>;

/** Without a connection in this time (ms), the service counts as unreachable: a person waits. */
const connectMsMax = 3_000;
const headersMsMax = 30_000;
/** A command (10 s) and the longest wait for its receipt (120 s), each with the time of the hops behind. */
const receiptHeadersMsMax = 150_000;
const bodyIdleMsMax = 300_000;
/** A request that waits longer than this (ms) causes a probe, unless the service has answered meanwhile. */
const quietMsMax = 2_000;
const probeEveryMs = 1_000;
const probeMsMax = 3_000;
/** An unreachable service is probed until this long (ms) after the last request. */
const probeAfterRequestMs = 60_000;

/** A request whose response has not begun. */
type Waiting = { readonly at: number; abort: (error: Error) => void };

export function connectAuthenticate(
  upstream: URL,
  { config, clock }: Readonly<{ config: Pick<Config, "certificateAuthority">; clock: Clock }>,
): AuthenticateClient {
  // The certificate must match the name in the URL, never the Host header, which names the authenticate host.
  const hostname = upstream.hostname.replace(/^\[|\]$/g, "");
  const servername = isIP(hostname) === 0 ? hostname : "";
  const connector = buildConnector({
    rejectUnauthorized: true,
    timeout: connectMsMax,
    ...(config.certificateAuthority === null ? {} : { ca: [...getCACertificates(), config.certificateAuthority] }),
  });
  const connect: buildConnector.connector = (target, callback) => connector({ ...target, servername }, callback);
  const probes = new Agent({ connections: 1, headersTimeout: probeMsMax, bodyTimeout: probeMsMax, connect });
  const watch = new AnswerWatch(clock, async () => {
    const { body } = await probes.request({ origin: upstream.origin, path: "/ping", method: "GET", reset: true });
    await body.dump();
  });
  const agent = new Agent({
    connections: 128,
    bodyTimeout: bodyIdleMsMax,
    keepAliveTimeout: 4_000,
    connect: (target, callback) =>
      connect(target, (...outcome) => {
        const [error] = outcome;
        if (error !== null && codeOf(error) === "UND_ERR_CONNECT_TIMEOUT") watch.notConnected(error);
        callback(...outcome);
      }),
  });
  const dispatcher = agent.compose((dispatch) => (request, handler) => {
    const mayWait = request.path.startsWith(`${operatorApiPrefix}/`);
    const headersTimeout = mayWait ? receiptHeadersMsMax : headersMsMax;
    return dispatch({ ...request, headersTimeout }, new WatchedHandler(handler, watch));
  });
  return {
    dispatcher,
    problem: () => watch.problem(),
    async close() {
      watch.stop();
      await Promise.all([agent.destroy(), probes.destroy()]);
    },
  };
}

class AnswerWatch {
  readonly #clock: Clock;
  readonly #probe: () => Promise<void>;
  /** In the order in which they were sent. */
  readonly #waiting = new Set<Waiting>();
  #unreachable: Error | null = null;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #requestedAt = Number.NEGATIVE_INFINITY;
  #isProbing = false;
  #timer: NodeJS.Timeout | null = null;

  /** @param probe rejects with an error of undici */
  constructor(clock: Clock, probe: () => Promise<void>) {
    this.#clock = clock;
    this.#probe = probe;
  }

  problem(): Error | null {
    this.#requestedAt = this.#clock.monotonic();
    return this.#unreachable;
  }

  notConnected(error: Error): void {
    this.#unreachable = error;
  }

  sent(): Waiting {
    const request = { at: this.#clock.monotonic(), abort: () => {} };
    this.#waiting.add(request);
    this.#timer ??= setInterval(() => this.#tick(), probeEveryMs).unref();
    return request;
  }

  ended(request: Waiting, how: "answered" | "failed"): void {
    this.#waiting.delete(request);
    if (how === "answered") this.#answered();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #answered(): void {
    this.#unreachable = null;
    this.#answeredAt = this.#clock.monotonic();
  }

  #tick(): void {
    const now = this.#clock.monotonic();
    const [longest] = this.#waiting;
    if (longest === undefined && now - this.#requestedAt > probeAfterRequestMs) this.#unreachable = null;
    const isQuiet = longest !== undefined && now - Math.max(longest.at, this.#answeredAt) >= quietMsMax;
    if (longest === undefined && this.#unreachable === null) this.stop();
    else if (!this.#isProbing && (isQuiet || this.#unreachable !== null)) void this.#ask(now);
  }

  async #ask(startedAt: number): Promise<void> {
    this.#isProbing = true;
    try {
      await this.#probe();
      this.#answered();
    } catch (error) {
      const code = codeOf(error);
      const isSilent = code === "UND_ERR_CONNECT_TIMEOUT" || code === "UND_ERR_HEADERS_TIMEOUT";
      // Any other error comes from the machine behind the address, so requests fail by themselves.
      if (!isSilent) this.#unreachable = null;
      else if (this.#answeredAt < startedAt) this.#giveUp(startedAt);
    } finally {
      this.#isProbing = false;
    }
  }

  #giveUp(startedAt: number): void {
    this.#unreachable = new errors.ConnectTimeoutError("the authenticate service does not answer");
    // The service may have got these requests, so each ends as one whose answer comes too late.
    for (const { at, abort } of [...this.#waiting])
      if (at < startedAt) abort(new errors.HeadersTimeoutError("the authenticate service does not answer any more"));
  }
}

/** Tells the watch when a request was sent and when its response began. */
class WatchedHandler extends DecoratorHandler {
  readonly #inner: Dispatcher.DispatchHandler;
  readonly #watch: AnswerWatch;
  readonly #request: Waiting;

  constructor(handler: Dispatcher.DispatchHandler, watch: AnswerWatch) {
    const inner = new DecoratorHandler(handler); // which understands every form of handler
    super(inner);
    this.#inner = inner;
    this.#watch = watch;
    this.#request = watch.sent();
  }

  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.#request.abort = (error) => controller.abort(error);
    this.#inner.onRequestStart?.(controller, context);
  }

  onResponseStart(...response: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseStart"]>>): void {
    this.#watch.ended(this.#request, "answered");
    this.#inner.onResponseStart?.(...response);
  }

  onResponseError(controller: Dispatcher.DispatchController, error: Error): void {
    this.#watch.ended(this.#request, "failed");
    this.#inner.onResponseError?.(controller, error);
  }
}

/**
 * HTTP and WebSocket clients for the cluster tests: each calls one process of its choice under the public host name.
 *
 * `permitted` does not rest on the proxy's word: only the upstream's own header sets it.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { WebSocket } from "ws";
import { newestStamp, stamped, upstreamMarker } from "./upstream.ts";

export type RequestOptions = Readonly<{
  port: number;
  /** With its port, as in the address bar. */
  host: string;
  path?: string;
  cookie?: string;
  headers?: Readonly<Record<string, string>>;
  method?: string;
  body?: string | Uint8Array;
  agent?: Agent;
  timeoutMs?: number;
}>;
export type HttpReply = Readonly<{ status: number; headers: IncomingHttpHeaders; body: string; permitted: boolean }>;

const answerWithinMs = 60_000;
/** A caller that retries while a node cannot decide gives up after this. */
const undecidedMsMax = 20_000;
/** Between two requests of a hammer. */
const pauseMs = { answered: 8, broken: 20 };
/** A wait for the end of a stream fails after this. */
const endWithinMs = 60_000;

export async function sendRequest(options: RequestOptions): Promise<HttpReply> {
  const response = await beginRequest(options);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const { statusCode = 0, headers } = response;
  return {
    status: statusCode,
    headers,
    body: Buffer.concat(chunks).toString("utf8"),
    permitted: headers[upstreamMarker] !== undefined,
  };
}

/**
 * Sends the request again while the node answers 503 with `Retry-After`, as a browser does. A node that lags, or whose
 * machine paused it, rightly answers so.
 */
export function sendUntilDecided(options: RequestOptions): Promise<HttpReply> {
  return untilDecided(
    () => sendRequest(options),
    ({ status, headers }) => status === 503 && headers["retry-after"] !== undefined,
  );
}

/** Sends again while there is no decision, for at most 20 s. */
export async function untilDecided<T>(send: () => Promise<T>, isUndecided: (answer: T) => boolean): Promise<T> {
  const giveUpAt = performance.now() + undecidedMsMax;
  for (;;) {
    const answer = await send();
    if (!isUndecided(answer) || performance.now() >= giveUpAt) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Resolves with the head of the first response that is a decision. */
function beginUntilDecided(options: RequestOptions): Promise<IncomingMessage> {
  return untilDecided(
    () => beginRequest(options),
    (response) => {
      const undecided = response.statusCode === 503 && response.headers["retry-after"] !== undefined;
      if (undecided) response.resume();
      return undecided;
    },
  );
}

function beginRequest(options: RequestOptions): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request(
    {
      host: "127.0.0.1",
      port: options.port,
      path: options.path ?? "/",
      method: options.method ?? "GET",
      agent: options.agent ?? new Agent(),
      headers: { host: options.host, ...(options.cookie && { cookie: options.cookie }), ...options.headers },
      signal: AbortSignal.timeout(options.timeoutMs ?? answerWithinMs),
    },
    resolve,
  );
  outgoing.on("error", reject);
  outgoing.end(options.body);
  return promise;
}

/** A long response, collected from its first byte. */
export type Stream = Readonly<{
  status: number;
  headers: IncomingHttpHeaders;
  body(): string;
  /** `whole`: the response is complete; `broken`: the connection ended in the middle of it. */
  ended: Promise<"whole" | "broken">;
  close(): void;
}>;

export async function openStream(options: RequestOptions): Promise<Stream> {
  const response = await beginUntilDecided({ timeoutMs: 120_000, ...options });
  let body = "";
  response.setEncoding("utf8");
  response.on("data", (chunk: string) => {
    body += chunk;
  });
  const { promise: ended, resolve, reject } = Promise.withResolvers<"whole" | "broken">();
  rejectIfEndless(ended, reject, "a streaming response");
  response.on("close", () => resolve(response.complete ? "whole" : "broken"));
  response.on("error", () => {}); // `close` reports it
  if (!response.readableEnded && body === "") await Promise.race([once(response, "data"), ended]).catch(() => {});
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: () => body,
    ended,
    close: () => response.destroy(),
  };
}

/** A long response whose bytes are counted and dropped. */
export type MeteredStream = Readonly<{
  status: number;
  bytes(): number;
  /** Send time of the newest bytes, from their stamp. */
  newest(): number;
  ended: Promise<"whole" | "broken">;
  close(): void;
}>;

export async function openMeteredStream(options: RequestOptions): Promise<MeteredStream> {
  return meterStream(await beginUntilDecided({ timeoutMs: 120_000, ...options }));
}

function meterStream(response: IncomingMessage): MeteredStream {
  let [bytes, newest] = [0, 0];
  response.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    newest = newestStamp(chunk) ?? newest;
  });
  const { promise: ended, resolve, reject } = Promise.withResolvers<"whole" | "broken">();
  rejectIfEndless(ended, reject, "a long response");
  response.on("close", () => resolve(response.complete ? "whole" : "broken"));
  response.on("error", () => {}); // `close` reports it
  return {
    status: response.statusCode ?? 0,
    bytes: () => bytes,
    newest: () => newest,
    ended,
    close: () => response.destroy(),
  };
}

/** An endless upload, 8 KiB every 10 ms; the response has begun. */
export type Upload = Readonly<{ status: number; sent(): number; ended: Promise<unknown>; close(): void }>;

export async function openUpload(options: RequestOptions): Promise<Upload> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request(
    {
      ...{ host: "127.0.0.1", port: options.port, path: options.path ?? "/", method: "POST", agent: new Agent() },
      headers: { host: options.host, ...(options.cookie && { cookie: options.cookie }), "content-type": "x/y" },
    },
    resolve,
  );
  outgoing.on("error", reject); // no effect once the response has begun
  let bytes = 0;
  const timer = setInterval(() => {
    if (outgoing.destroyed || outgoing.writableNeedDrain) return;
    bytes += 8_192;
    outgoing.write(stamped(8_192));
  }, 10);
  const ended = Promise.withResolvers<void>();
  rejectIfEndless(ended.promise, ended.reject, "an upload");
  outgoing.on("close", () => {
    clearInterval(timer);
    ended.resolve();
  });
  const response = await promise;
  response.resume().on("error", () => {});
  return { status: response.statusCode ?? 0, sent: () => bytes, ended: ended.promise, close: () => outgoing.destroy() };
}

/** An open WebSocket that receives ticks. */
export type LiveSocket = Readonly<{
  ticks(): number;
  /** When the upstream sent the newest tick. */
  newest(): number;
  isOpen(): boolean;
  /** Resolves with the close code; 1006: no close frame was received. */
  closed: Promise<Readonly<{ code: number; reason: string }>>;
  close(): void;
}>;

/** @throws an error that names the status if the upgrade is refused */
export function openSocket(options: RequestOptions): Promise<LiveSocket> {
  return untilDecided(
    () => upgrade(options).catch((error: unknown) => error as Error),
    (opened) => opened instanceof Error && opened.message === "Unexpected server response: 503",
  ).then((opened) => (opened instanceof Error ? Promise.reject(opened) : opened));
}

async function upgrade(options: RequestOptions): Promise<LiveSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${options.port}${options.path ?? "/"}`, {
    headers: { host: options.host, ...(options.cookie && { cookie: options.cookie }) },
    perMessageDeflate: false,
    handshakeTimeout: answerWithinMs,
  });
  let ticks = 0;
  let newest = 0;
  socket.on("message", (stamp) => {
    ticks += 1;
    newest = Number(String(stamp));
  });
  const { promise: closed, resolve, reject } = Promise.withResolvers<{ code: number; reason: string }>();
  rejectIfEndless(closed, reject, "a WebSocket");
  socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
  const first = once(socket, "message");
  first.catch(() => {});
  await once(socket, "open");
  socket.on("error", () => {}); // `closed` reports it
  await Promise.race([first, closed]);
  return {
    ticks: () => ticks,
    newest: () => newest,
    isOpen: () => socket.readyState === WebSocket.OPEN,
    closed,
    close: () => socket.terminate(),
  };
}

function rejectIfEndless(ended: Promise<unknown>, reject: (error: Error) => void, what: string): void {
  const timer = setTimeout(() => reject(new Error(`${what} did not end within ${endWithinMs} ms`)), endWithinMs);
  timer.unref();
  const done = (): void => clearTimeout(timer); // also handles an unobserved rejection
  ended.then(done, done);
}

/** One request of a hammer and its outcome; `status` 0: the connection broke. */
export type Shot = Readonly<{
  id: string;
  name: string;
  sentAt: number;
  endedAt: number;
  status: number;
  permitted: boolean;
}>;

/**
 * Callers that send one request after another on keep-alive connections, with pauses that leave processor time to the
 * cluster that they call.
 */
export function hammer(targets: readonly Readonly<{ name: string; target: RequestOptions }>[], { callers = 2 } = {}) {
  const agent = new Agent({ keepAlive: true, maxSockets: callers * targets.length });
  const shots: Shot[] = [];
  let running = true;
  async function caller(name: string, target: RequestOptions): Promise<void> {
    while (running) {
      const id = randomUUID();
      const sentAt = performance.now();
      const answer = await sendRequest({ ...target, agent, path: `/?r=${id}` }).catch(() => undefined);
      const { status = 0, permitted = false } = answer ?? {};
      shots.push({ id, name, sentAt, endedAt: performance.now(), status, permitted });
      await new Promise((resolve) => setTimeout(resolve, status === 0 ? pauseMs.broken : pauseMs.answered));
    }
  }
  const all = targets.flatMap(({ name, target }) => Array.from({ length: callers }, () => caller(name, target)));
  return {
    shots: shots as readonly Shot[],
    async stop(): Promise<readonly Shot[]> {
      running = false;
      await Promise.all(all);
      agent.destroy();
      return shots;
    },
  };
}

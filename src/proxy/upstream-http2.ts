/**
 * HTTP/2 upstream: calls as streams of a few connections to one origin. For gRPC, and where a route asks for it (`h2c://`).
 *
 * A connection is opened when no open one has room; one that says GOAWAY takes nothing new and ends behind its last stream. What
 * the upstream refused unread (REFUSED_STREAM, or a stream above GOAWAY's last) is `unprocessed`: the protocol says that nothing
 * looked at it (RFC 9113 §6.8, §8.7).
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from "node:http2";
import { connect as connectPlain } from "node:net";
import { connect as connectTls } from "node:tls";
import type { RawLines } from "./http1-parser.ts";
import { resetUnended } from "./http2-reset.ts";
import { AnswerLines } from "./received-lines.ts";
import {
  type CallFailure,
  type UpstreamCall,
  UpstreamClosedError,
  UpstreamConnectTimeoutError,
  type UpstreamHandler,
  UpstreamIdleError,
  type UpstreamPool,
  UpstreamProtocolError,
  type UpstreamRequest,
} from "./upstream-call.ts";
import { type PoolLimits, placeOf, type UpstreamAddress } from "./upstream-http1.ts";

/** What an upstream may have at once on one connection, unless it says less. */
const streamsMax = 100;
const windowBytes = 1_048_576;

/** Only for one connection, or implied (RFC 9113 §8.2.2). */
const notSent: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "keep-alive",
  "transfer-encoding",
  "upgrade",
  "te",
]);

export class Http2Pool implements UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #limits: PoolLimits;
  readonly #sessions = new Set<Session>();
  #calls = 0;

  constructor(address: UpstreamAddress, limits: PoolLimits) {
    this.#address = address;
    this.#limits = limits;
  }

  get busy(): number {
    return this.#calls;
  }

  /** Streams are not queued: the bound on requests is theirs. */
  get waiting(): number {
    return 0;
  }
  get isFull(): boolean {
    return false;
  }
  get refusesUnread(): boolean {
    return true;
  }

  call(request: UpstreamRequest, handler: UpstreamHandler, refused?: UpstreamCall): UpstreamCall {
    const call = new Call(request, handler, () => {
      this.#calls--;
    });
    this.#calls++;
    const full = refused instanceof Call ? refused.session : undefined;
    let session: Session | undefined;
    for (const each of this.#sessions) if (each.hasRoom && each !== full) session = each;
    session ??= this.#open();
    session.take(call);
    return call;
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }

  #open(): Session {
    const session = new Session(this.#address, this.#limits, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    return session;
  }
}

/** Two lines of a name that should stand once are the caller's to write; Node would throw. (Its types know this of servers only.) */
const manyLines: object = { strictSingleValueFields: false };

class Session {
  readonly #session: ClientHttp2Session;
  readonly #secure: boolean;
  readonly #idleMs: number;
  readonly #waiting = new Set<Call>();
  readonly #connecting: NodeJS.Timeout;
  #idle: NodeJS.Timeout | undefined;
  #ready = false;
  #leaving = false;
  #farewell: Readonly<{ code: number; lastStreamId: number }> | undefined;
  #streams = 0;
  #answered = 0;
  #error: Error | undefined;

  constructor(address: UpstreamAddress, limits: PoolLimits, onGone: () => void) {
    const { secure, hostname: host, port, tls } = address;
    this.#secure = secure;
    this.#idleMs = limits.idleMs;
    const authority = `${secure ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
    const common = { ...placeOf(address), noDelay: true, keepAlive: true };
    this.#session = connect(authority, {
      createConnection: () =>
        secure ? connectTls({ ...common, ...tls, ALPNProtocols: ["h2"] }) : connectPlain(common),
      settings: { enablePush: false, initialWindowSize: windowBytes },
      maxHeaderListPairs: 2_000,
      ...manyLines,
      peerMaxConcurrentStreams: streamsMax,
    });
    this.#connecting = setTimeout(() => {
      this.#end(new UpstreamConnectTimeoutError("the upstream took too long to connect"));
    }, limits.connectTimeoutMs);
    this.#session.on("connect", () => {
      clearTimeout(this.#connecting);
      this.#ready = true;
      for (const call of this.#waiting) this.#begin(call);
      this.#waiting.clear();
    });
    this.#session.on("goaway", (code, lastStreamId) => {
      this.#leaving = true;
      this.#farewell = { code, lastStreamId };
    });
    this.#session.on("error", (error) => {
      this.#error = error;
    });
    this.#session.on("close", () => {
      this.#leaving = true;
      clearTimeout(this.#connecting);
      clearTimeout(this.#idle);
      onGone();
      const error = this.#error ?? new UpstreamClosedError("the upstream closed the connection");
      for (const call of this.#waiting) call.fail(error, noMore);
      this.#waiting.clear();
    });
  }

  get hasRoom(): boolean {
    const max = Math.min(streamsMax, this.#session.remoteSettings?.maxConcurrentStreams ?? streamsMax);
    const isOpen = !this.#leaving && !this.#session.closed && !this.#session.destroyed;
    return isOpen && this.#streams + this.#waiting.size < max;
  }

  take(call: Call): void {
    call.session = this;
    clearTimeout(this.#idle);
    if (this.#ready) this.#begin(call);
    else this.#waiting.add(call);
  }

  destroy(): void {
    this.#session.destroy();
  }

  #end(error: Error): void {
    this.#error ??= error;
    this.#session.destroy();
  }

  #begin(call: Call): void {
    if (call.over) return;
    if (!call.mayBegin()) {
      call.finish();
      return;
    }
    let stream: ClientHttp2Stream;
    const { hasBody } = call.request;
    // An end without trailers is then a frame of its own, which gRPC, that has none in requests, is spared.
    const waitForTrailers = hasBody && !isGrpc(call.request.headers.list);
    try {
      stream = this.#session.request(linesOf(call.request, this.#secure), { endStream: !hasBody, waitForTrailers });
    } catch (error) {
      call.fail(error as Error, noMore);
      return;
    }
    this.#streams++;
    const reused = this.#answered > 0;
    stream.once("response", () => {
      this.#answered++;
    });
    stream.once("close", () => {
      this.#streams--;
      if (this.#streams === 0 && !this.#leaving)
        this.#idle = setTimeout(() => this.#session.close(), this.#idleMs).unref();
    });
    call.begin(stream, (error) => ({
      staleConnection: (reused || this.#leaving) && isBroken(error),
      unprocessed: this.#refusedUnread(stream),
    }));
  }

  /** A connection's error is given to all of its streams as their code, also to those that were carried out: GOAWAY's last one counts. */
  #refusedUnread({ id = Infinity, rstCode }: ClientHttp2Stream): boolean {
    if (this.#farewell === undefined) return rstCode === constants.NGHTTP2_REFUSED_STREAM;
    const { code, lastStreamId } = this.#farewell;
    if (id > lastStreamId) return true;
    return code === constants.NGHTTP2_NO_ERROR && rstCode === constants.NGHTTP2_REFUSED_STREAM;
  }
}

/** Nothing is known that would allow a second try. */
const noMore: CallFailure = { staleConnection: false, unprocessed: false };

class Call implements UpstreamCall {
  readonly reads = Number.NaN; // its session's socket is Node's to read
  readonly request: UpstreamRequest;
  readonly #handler: UpstreamHandler;
  readonly #done: () => void;
  #stream: ClientHttp2Stream | undefined;
  /** Whose stream it is, or will be. */
  session: Session | undefined;
  over = false;

  constructor(request: UpstreamRequest, handler: UpstreamHandler, done: () => void) {
    this.request = request;
    this.#handler = handler;
    this.#done = done;
  }

  mayBegin(): boolean {
    return this.#handler.mayBegin(this);
  }

  /** @param failureOf what became of a stream that has ended without a byte of an answer */
  begin(stream: ClientHttp2Stream, failureOf: (error: Error | undefined) => CallFailure): void {
    this.#stream = stream;
    const handler = this.#handler;
    let trailers: RawLines = [];
    let sawHint = false;
    let sawHead = false;
    let ended = false;
    let error: Error | undefined;
    const { idleTimeoutMs } = this.request;
    if (idleTimeoutMs > 0)
      stream.setTimeout(idleTimeoutMs, () => {
        error ??= new UpstreamIdleError("the upstream fell silent");
        resetUnended(stream, constants.NGHTTP2_CANCEL);
      });
    stream.on("headers", (_headers: object, _flags: number, raw: RawLines) => {
      sawHint = true;
      const [status, lines] = readHead(raw);
      if (!this.over) handler.onHint(status, lines);
    });
    stream.on("response", (_headers: object, _flags: number, raw: RawLines) => {
      sawHead = true;
      const [status, lines] = readHead(raw);
      if (!this.over) handler.onHead(status, new AnswerLines(lines));
    });
    stream.on("data", (chunk: Buffer) => {
      if (!this.over && !handler.onData(chunk)) stream.pause();
    });
    stream.on("trailers", (_headers: object, _flags: number, raw: RawLines) => {
      trailers = raw;
    });
    stream.on("drain", () => {
      if (!this.over) handler.onWritable();
    });
    stream.on("end", () => {
      ended = true;
    });
    stream.on("error", (reason) => {
      error ??= reason;
    });
    stream.on("close", () => {
      if (this.over) return;
      const complete = ended && sawHead && stream.rstCode === constants.NGHTTP2_NO_ERROR;
      if (complete) {
        this.finish();
        handler.onEnd(trailers);
        return;
      }
      const failure = sawHint || sawHead ? noMore : failureOf(error);
      this.fail(error ?? new UpstreamClosedError(`the upstream reset the stream (${stream.rstCode})`), failure);
    });
    if (this.request.hasBody) handler.onWritable();
  }

  write(chunk: Buffer): boolean {
    return this.over || this.#stream === undefined ? true : this.#stream.write(chunk);
  }

  end(trailers: readonly string[] = []): void {
    const stream = this.#stream;
    if (this.over || stream === undefined) return;
    stream.once("wantTrailers", () => {
      if (!stream.destroyed) sendTrailers(stream, trailers);
    });
    stream.end();
  }

  resume(): void {
    if (!this.over) this.#stream?.resume();
  }

  abort(): void {
    if (this.finish() && this.#stream !== undefined) resetUnended(this.#stream, constants.NGHTTP2_CANCEL);
  }

  finish(): boolean {
    if (this.over) return false;
    this.over = true;
    this.#done();
    return true;
  }

  fail(error: Error, failure: CallFailure): void {
    if (!this.finish()) return;
    const code = "code" in error ? String(error.code) : "";
    const known = !code.startsWith("ERR_HTTP2") ? error : new UpstreamProtocolError(error.message, { cause: error });
    this.#handler.onError(known, failure);
  }
}

function isBroken(error: Error | undefined): boolean {
  const code = error !== undefined && "code" in error ? error.code : undefined;
  return code === undefined || code === "ECONNRESET" || code === "EPIPE" || code === "ERR_HTTP2_SESSION_ERROR";
}

function linesOf(
  { method, path, headers: { list: headers }, requestId }: UpstreamRequest,
  secure: boolean,
): OutgoingHttpHeaders {
  const authority = headers[0] === "host" ? (headers[1] ?? "") : "";
  const lines = [":method", method, ":path", path, ":authority", authority, ":scheme", secure ? "https" : "http"];
  let trailers = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    if (name === "content-type" && headers[i + 1]?.startsWith("application/grpc") === true) trailers = true;
    if (!notSent.has(name)) lines.push(name, headers[i + 1] ?? "");
  }
  if (requestId !== null) lines.push("x-request-id", requestId);
  if (trailers) lines.push("te", "trailers"); // gRPC servers insist on it
  return lines as unknown as OutgoingHttpHeaders; // a list, so that lines of one name stay lines
}

/** By lowercase name; lines of one name stay lines. */
function grouped(lines: readonly string[]): OutgoingHttpHeaders {
  const values: Record<string, string[]> = Object.create(null);
  for (let i = 0; i < lines.length; i += 2) {
    const name = (lines[i] ?? "").toLowerCase();
    values[name] = [...(values[name] ?? []), lines[i + 1] ?? ""];
  }
  return values;
}

/** What cannot be written is left out as a whole: no line of a caller's ends more than its own request. */
function sendTrailers(stream: ClientHttp2Stream, lines: readonly string[]): void {
  try {
    stream.sendTrailers(grouped(lines));
  } catch {
    stream.sendTrailers({});
  }
}

function isGrpc(headers: readonly string[]): boolean {
  for (let i = 0; i < headers.length; i += 2)
    if (headers[i]?.toLowerCase() === "content-type") return headers[i + 1]?.startsWith("application/grpc") === true;
  return false;
}

function readHead(raw: RawLines): [status: number, lines: RawLines] {
  const lines: RawLines = [];
  let status = 0;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i] === ":status") status = Number(raw[i + 1]);
    else lines.push(raw[i] ?? "", raw[i + 1] ?? "");
  }
  return [status, lines];
}

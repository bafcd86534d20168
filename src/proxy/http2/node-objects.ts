/**
 * Node objects: a request and its response as handlers written for `node:http` expect them, over a stream of an
 * HTTP/2 connection.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Writable } from "node:stream";
import { NodeRequest } from "../http1/node-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";

export type NodeObjects = Readonly<{ req: IncomingMessage; res: ServerResponse }>;

export function createNodeObjects(downstream: Downstream, socket: Socket): NodeObjects {
  const req = new NodeRequest(socket, () => downstream.resumeBody());
  req.method = downstream.head.method;
  req.url = downstream.head.url;
  req.httpVersion = "2.0";
  req.httpVersionMajor = 2;
  req.httpVersionMinor = 0;
  req.takeHeaders(downstream.head.rawHeaders);
  const res = new Http2Response(downstream);
  res.on("error", () => {}); // the caller is gone; `close` says so
  downstream.onClose(() => {
    req.destroy();
    res.destroy();
  });
  if (downstream.hasBody) {
    downstream.readBody({
      onChunk: (chunk) => req.push(chunk),
      onBodyEnd: () => req.finish(),
      onAbort: () => req.destroy(),
    });
  } else req.finish();
  return { req, res: res as unknown as ServerResponse };
}

type Callback = (error?: Error | null) => void;
type HeaderValue = string | number | readonly string[];
type Headers = Readonly<Record<string, HeaderValue | undefined>> | readonly string[];

/** What handlers use of a `ServerResponse`. */
class Http2Response extends Writable {
  statusCode = 200;
  statusMessage = "";
  readonly #downstream: Downstream;
  /** By lowercase name. */
  readonly #headers = new Map<string, readonly [name: string, value: HeaderValue]>();
  #onDrained: Callback | undefined;

  constructor(downstream: Downstream) {
    super({ decodeStrings: true });
    this.#downstream = downstream;
    downstream.onDrain(() => {
      const callback = this.#onDrained;
      this.#onDrained = undefined;
      callback?.();
    });
  }

  get headersSent(): boolean {
    return this.#downstream.status !== 0;
  }
  get finished(): boolean {
    return this.writableEnded;
  }

  setHeader(name: string, value: HeaderValue): this {
    this.#headers.set(name.toLowerCase(), [name, value]);
    return this;
  }
  appendHeader(name: string, value: string | readonly string[]): this {
    const before = this.getHeader(name);
    return this.setHeader(name, before === undefined ? value : [before, value].flat().map(String));
  }
  getHeader(name: string): HeaderValue | undefined {
    return this.#headers.get(name.toLowerCase())?.[1];
  }
  hasHeader(name: string): boolean {
    return this.#headers.has(name.toLowerCase());
  }
  removeHeader(name: string): void {
    this.#headers.delete(name.toLowerCase());
  }
  getHeaderNames(): string[] {
    return [...this.#headers.keys()];
  }
  getHeaders(): Record<string, HeaderValue> {
    return Object.fromEntries([...this.#headers].map(([name, [, value]]) => [name, value]));
  }

  writeContinue(): void {
    this.#downstream.writeContinue();
  }

  writeHead(status: number, reasonOrHeaders?: string | Headers, headers?: Headers): this {
    this.statusCode = status;
    this.#setAll(typeof reasonOrHeaders === "string" ? headers : (reasonOrHeaders ?? headers));
    this.flushHeaders();
    return this;
  }

  #setAll(headers: Headers | undefined): void {
    if (headers === undefined) return;
    if (isList(headers))
      for (let i = 0; i < headers.length; i += 2) this.setHeader(headers[i] ?? "", headers[i + 1] ?? "");
    else for (const [name, value] of Object.entries(headers)) if (value !== undefined) this.setHeader(name, value);
  }

  flushHeaders(): void {
    if (this.headersSent) return;
    const lines: string[] = [];
    for (const [name, value] of this.#headers.values())
      for (const one of typeof value === "object" ? value : [value]) lines.push(name, String(one));
    this.#downstream.writeHead(this.statusCode, new HeaderLines(lines), null);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.flushHeaders();
    if (this.#downstream.write(chunk)) callback();
    else this.#onDrained = callback;
  }

  override _final(callback: Callback): void {
    this.flushHeaders();
    this.#downstream.end();
    callback();
  }

  override _destroy(error: Error | null, callback: Callback): void {
    if (!this.#downstream.ended) this.#downstream.destroy();
    callback(error);
  }
}

function isList(headers: Headers): headers is readonly string[] {
  return Array.isArray(headers);
}

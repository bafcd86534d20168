/** Test receiver: an HTTP or HTTPS server that records what it gets, and answers as a test says. */
import {
  createServer as createHttp,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createHttps, type ServerOptions } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";

export type Received = Readonly<{
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** The subject of the client's certificate; null: none. */
  client: string | null;
}>;

/** @returns the status, or answers by itself and returns nothing */
export type Answer = (got: Received, response: ServerResponse, request: IncomingMessage) => number | undefined;

export class TestReceiver {
  readonly got: Received[] = [];
  answer: Answer = () => 204;
  readonly #server: ReturnType<typeof createHttp>;
  readonly #sockets = new Set<Socket>();
  #port = 0;
  readonly #isTls: boolean;

  constructor(tls?: ServerOptions) {
    this.#isTls = tls !== undefined;
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      const chunks: Buffer[] = [];
      request.on("error", () => undefined);
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const peer = request.socket as Partial<TLSSocket>;
        const got: Received = {
          method: request.method ?? "",
          path: request.url ?? "",
          headers: request.headers,
          body: Buffer.concat(chunks),
          client: peer.authorized === true ? String(peer.getPeerCertificate?.().subject?.CN) : null,
        };
        this.got.push(got);
        const status = this.answer(got, response, request);
        if (status !== undefined) response.writeHead(status).end();
      });
    };
    this.#server = tls === undefined ? createHttp(handle) : (createHttps(tls, handle) as never);
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  get url(): URL {
    return new URL(`${this.#isTls ? "https" : "http"}://localhost:${this.#port}/hook`);
  }

  /** Ends the server and its connections. `start` opens the same port again. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

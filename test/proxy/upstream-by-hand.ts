/** Scripted upstream: a server that sends exactly the bytes that a test gives it, behind a pool of one connection. */
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Http1Pool } from "../../src/proxy/http1/upstream-pool.ts";
import { HeaderLines } from "../../src/proxy/message/header-lines.ts";

export type Upstream = Readonly<{
  pool: Http1Pool;
  /** Heads of the requests, as received. */
  requests: string[];
  /** Sets the response from now on. Each piece is written separately. */
  respondWith(...pieces: string[]): void;
  /** Number of connections that the pool opened. */
  connections(): number;
  close(): void;
}>;

export async function startUpstream(t: TestContext): Promise<Upstream> {
  let pieces: readonly string[] = [];
  let connections = 0;
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    connections++;
    sockets.add(socket);
    let text = "";
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      if (!text.endsWith("\r\n\r\n")) return;
      requests.push(text);
      text = "";
      void (async () => {
        for (const [i, piece] of pieces.entries()) {
          if (i > 0) await delay(3);
          socket.write(piece, "latin1");
        }
      })();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const pool = new Http1Pool(
    { secure: false, path: null, hostname: "127.0.0.1", port, lookup: () => {}, tls: {} },
    { connectionsMax: 1, connectTimeoutMs: 60_000, idleMs: 60_000 },
  );
  const close = (): void => {
    pool.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  t.after(close);
  return {
    pool,
    requests,
    respondWith(...next) {
      pieces = next;
    },
    connections: () => connections,
    close,
  };
}

export type RequestOptions = Readonly<{
  method?: string;
  path?: string;
  headers?: HeaderLines;
  requestId?: string | null;
}>;

/** @returns status and body, after the status of each interim response */
export function sendRequest(
  pool: Http1Pool,
  { method = "GET", path = "/", headers = new HeaderLines(["host", "a"]), requestId = null }: RequestOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    let result = "";
    const add = (text: string): void => {
      result += text;
    };
    pool.call(
      { method, path, headers, requestId, hasBody: false, idleTimeoutMs: 0 },
      {
        maySend: () => true,
        onWritable() {},
        onInformational: (status) => add(`${status} `),
        onHead: (status) => add(`${status} `),
        onData(chunk) {
          add(chunk.toString("latin1"));
          return true;
        },
        onEnd: () => resolve(result),
        onError: reject,
      },
    );
  });
}

export const responseOf = (body: string): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nX: y\r\n\r\n${body}`;

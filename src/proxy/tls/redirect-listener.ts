/**
 * Redirect listener: plain HTTP that redirects to the same address under https and answers ACME HTTP-01 challenges.
 *
 * It forwards nothing and reads no credential. As in Pomerium it redirects to the requested host without its port; a
 * route that names a port keeps it.
 */
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer, type Socket } from "node:net";
import type { HostPort } from "../../config/index.ts";
import { parseHost } from "../message/canonical-request.ts";
import { listenAt } from "./bound-server.ts";
import { readFirstBytes } from "./first-bytes-socket.ts";
import { lookForProxyHeader } from "./proxy-protocol.ts";

export type RedirectListener = Readonly<{ address: HostPort; close(): Promise<void> }>;

const connectionMsMax = 15_000;
const challengePath = /^\/\.well-known\/acme-challenge\/([A-Za-z0-9_-]{1,256})$/;
/** Origin form, in characters that a header value may have. */
const targetPattern = /^\/[!-~]{0,8191}$/;

export async function startRedirectListener(
  options: Readonly<{
    listen: HostPort;
    useProxyProtocol: boolean;
    /** The https port of this host; null: 443 or unknown. */
    portOf(hostname: string): number | null;
    /** The answer to an ACME challenge; undefined: no such challenge is open. */
    challengeAnswer(token: string): string | undefined;
    onRefused(code: string): void;
  }>,
): Promise<RedirectListener> {
  const http = createHttpServer({ maxHeaderSize: 16_384 }, answer);
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    // The HTTP server does not listen itself, so it enforces no deadlines. Each connection serves one request.
    const slow = setTimeout(() => socket.destroy(), connectionMsMax);
    slow.unref();
    socket.once("close", () => {
      clearTimeout(slow);
      sockets.delete(socket);
    });
    if (!options.useProxyProtocol) {
      http.emit("connection", socket);
      return;
    }
    readFirstBytes(socket, {
      look: lookForProxyHeader,
      onFound: () => http.emit("connection", socket),
      onBad: (why) => options.onRefused(`proxy-protocol-${why}`),
    });
  });

  function answer(req: IncomingMessage, res: ServerResponse): void {
    const [path = "", ...query] = (req.url ?? "").split("?");
    const token = challengePath.exec(path)?.[1];
    const challenge = token === undefined || query.length > 0 ? undefined : options.challengeAnswer(token);
    if (challenge !== undefined && (req.method === "GET" || req.method === "HEAD")) {
      send(res, 200, { "content-type": "application/octet-stream", "cache-control": "no-store" }, challenge);
      return;
    }
    const [named, another] = req.headersDistinct["host"] ?? [];
    const host = another === undefined ? parseHost(named) : undefined; // RFC 9112 §3.2
    if (host === undefined || !targetPattern.test(req.url ?? "")) {
      options.onRefused("redirect-target");
      send(res, 400, {}, "Bad Request\n");
      return;
    }
    const port = options.portOf(host.hostname);
    const location = `https://${host.hostname}${port === null ? "" : `:${port}`}${req.url}`;
    send(res, 301, { location }, "Moved Permanently\n");
  }

  const address = await listenAt(server, options.listen);
  return {
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function send(res: ServerResponse, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  res
    .writeHead(status, {
      "content-type": "text/plain; charset=utf-8",
      ...headers,
      connection: "close",
      "content-length": Buffer.byteLength(body),
    })
    .end(body);
}

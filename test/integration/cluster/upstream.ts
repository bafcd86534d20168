/**
 * Upstream: the service behind the proxies, in the test's own process, so that it is a witness of what reached it.
 *
 *   /            the headers that it got, as JSON        /stream      a line every 20 ms, without end
 *   /slow        waits until the test lets it go          WebSocket    a tick every 20 ms
 *   /events      Server-Sent Events, one every 20 ms      /download    bytes as fast as they are taken, without end
 *   /upload      takes whatever comes, and counts it by `?r=`
 *
 * Lines and ticks say when they were sent, by the clock that the test reads as well. Every answer of its carries
 * `x-upstream`, so that no answer of a proxy's own can be taken for it.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";

export type UploadState = Readonly<{
  bytes: number;
  /** When the newest of it was sent, by its stamp. */
  newest: number;
  ended: "no" | "whole" | "broken";
}>;

export type Upstream = Readonly<{
  port: number;
  /** `?r=` of each request that has arrived. */
  requestIds: ReadonlySet<string>;
  /** Requests to `/slow` that wait. */
  slowRequests(): number;
  /** Of an upload, by its `?r=`. */
  uploadOf(id: string): UploadState;
  finishSlow(): void;
  close(): Promise<void>;
}>;

const tickMs = 20;
export const upstreamMarker = "x-upstream";

/** When something was sent, so that whoever gets it knows, however long it was on its way. */
export const stamp = (): string => `@${performance.now().toFixed(3)}@`;

export function stamped(bytes: number): Buffer {
  const block = Buffer.alloc(bytes);
  block.write(stamp(), "latin1");
  return block;
}

/** @returns undefined where the chunk has none that is whole */
export function newestStamp(chunk: Buffer): number | undefined {
  const last = chunk
    .toString("latin1")
    .match(/@\d+\.\d+@/g)
    ?.at(-1);
  return last === undefined ? undefined : Number(last.slice(1, -1));
}

export async function startUpstream(): Promise<Upstream> {
  const requestIds = new Set<string>();
  const slow = new Set<ServerResponse>();
  const uploads = new Map<string, UploadState>();
  const note = (request: IncomingMessage): URL => {
    const url = new URL(request.url ?? "/", "http://upstream.invalid");
    const id = url.searchParams.get("r");
    if (id !== null) requestIds.add(id);
    return url;
  };

  const server = createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
    response.setHeader(upstreamMarker, "1");
    switch (note(request).pathname) {
      case "/stream": {
        const timer = setInterval(() => void response.write(`${performance.now()}\n`), tickMs);
        response.once("close", () => clearInterval(timer));
        response.write("begun\n");
        return;
      }
      case "/events": {
        response.setHeader("content-type", "text/event-stream");
        const timer = setInterval(() => void response.write(`data: ${stamp()}\n\n`), tickMs);
        response.once("close", () => clearInterval(timer));
        response.write(": begun\n\n");
        return;
      }
      case "/download": {
        const more = (): void => {
          while (!response.destroyed && response.write(stamped(64 * 1024)));
        };
        response.on("drain", more);
        return more();
      }
      case "/upload":
        return receiveUpload(request, response, uploads);
      case "/slow":
        response.write("begun\n");
        slow.add(response);
        response.once("close", () => slow.delete(response));
        return;
      default:
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify(request.headers));
    }
  });
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  server.on("upgrade", (request, socket, head) => {
    note(request);
    socket.on("error", () => socket.destroy());
    sockets.handleUpgrade(request, socket, head, sendTicks);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    port: (server.address() as AddressInfo).port,
    requestIds,
    slowRequests: () => slow.size,
    uploadOf: (id) => uploads.get(id) ?? { bytes: 0, newest: 0, ended: "no" },
    finishSlow() {
      for (const response of slow) response.end("whole\n");
    },
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function receiveUpload(request: IncomingMessage, response: ServerResponse, uploads: Map<string, UploadState>): void {
  const id = new URL(request.url ?? "/", "http://upstream.invalid").searchParams.get("r") ?? "";
  let so: UploadState = { bytes: 0, newest: 0, ended: "no" };
  const put = (parts: Partial<UploadState>): void => {
    so = { ...so, ...parts };
    uploads.set(id, so);
  };
  response.write("begun\n"); // an answer that goes on while the question does
  request.on("data", (chunk: Buffer) =>
    put({ bytes: so.bytes + chunk.length, newest: newestStamp(chunk) ?? so.newest }),
  );
  request.on("end", () => response.end("whole\n"));
  request.on("close", () => put({ ended: request.complete ? "whole" : "broken" }));
  request.on("error", () => {}); // told by `close`
}

function sendTicks(socket: WebSocket): void {
  const timer = setInterval(() => socket.send(String(performance.now())), tickMs);
  socket.on("error", () => socket.terminate());
  socket.on("close", () => clearInterval(timer));
  socket.send(String(performance.now()));
}

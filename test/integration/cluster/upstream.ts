/**
 * Upstream: the service behind the proxies, in the test's own process, so that it witnesses what reached it.
 *
 *   /            the received headers, as JSON            /stream      a line every 20 ms, without end
 *   /slow        waits until `finishSlow`                 WebSocket    a tick every 20 ms
 *   /events      Server-Sent Events, one every 20 ms      /download    bytes as fast as they are read, without end
 *   /upload      counts what it receives, by `?r=`
 *
 * Lines and ticks carry their send time, by the clock that the test reads as well. Every response carries `x-upstream`,
 * so that it cannot be confused with a local reply of a proxy.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";

export type UploadState = Readonly<{
  bytes: number;
  /** Send time of the newest bytes, from their stamp. */
  newest: number;
  ended: "no" | "whole" | "broken";
}>;

export type Upstream = Readonly<{
  port: number;
  /** `?r=` of each request that arrived. */
  requestIds: ReadonlySet<string>;
  /** The number of open requests to `/slow`. */
  slowRequests(): number;
  /** The state of an upload, by its `?r=`. */
  uploadOf(id: string): UploadState;
  finishSlow(): void;
  close(): Promise<void>;
}>;

const tickMs = 20;
export const upstreamMarker = "x-upstream";

/** The send time, so that a receiver knows it despite any delay. */
export const stamp = (): string => `@${performance.now().toFixed(3)}@`;

export function stamped(bytes: number): Buffer {
  const block = Buffer.alloc(bytes);
  block.write(stamp(), "latin1");
  return block;
}

/** @returns undefined if the chunk holds no whole stamp */
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
  const recordRequest = (request: IncomingMessage): URL => {
    const url = new URL(request.url ?? "/", "http://upstream.invalid");
    const id = url.searchParams.get("r");
    if (id !== null) requestIds.add(id);
    return url;
  };

  const server = createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
    response.setHeader(upstreamMarker, "1");
    switch (recordRequest(request).pathname) {
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
    recordRequest(request);
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
  let state: UploadState = { bytes: 0, newest: 0, ended: "no" };
  const update = (parts: Partial<UploadState>): void => {
    state = { ...state, ...parts };
    uploads.set(id, state);
  };
  response.write("begun\n"); // the response begins while the request continues
  request.on("data", (chunk: Buffer) =>
    update({ bytes: state.bytes + chunk.length, newest: newestStamp(chunk) ?? state.newest }),
  );
  request.on("end", () => response.end("whole\n"));
  request.on("close", () => update({ ended: request.complete ? "whole" : "broken" }));
  request.on("error", () => {}); // `close` reports it
}

function sendTicks(socket: WebSocket): void {
  const timer = setInterval(() => socket.send(String(performance.now())), tickMs);
  socket.on("error", () => socket.terminate());
  socket.on("close", () => clearInterval(timer));
  socket.send(String(performance.now()));
}

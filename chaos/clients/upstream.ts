/**
 * Upstream: the application behind the proxies, and a witness.
 *
 *   /echo?r=<id>       answers at once
 *   /download?r=<id>&ms=   a line every tick for that long
 *   /flow?r=<id>&ms=   filler for that long, as fast as it is read
 *   /clock?r=<id>      WebSocket: a frame every tick; frames of the client are recorded
 *
 * Every response carries the run's token, so that no response of the proxy can be mistaken for one, and says when the
 * request arrived and when the response left. It records what reaches it, whether or not the client ever gets a
 * response.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { connectMain } from "../cluster/helper-process.ts";
import type { Ns } from "../judge/history.ts";
import { openHistoryFile } from "../judge/history-file.ts";
import { runClock } from "../judge/run-clock.ts";
import { stampHeaders } from "../world.ts";

export type UpstreamOptions = Readonly<{ origin: string; token: string; history: string; tickMs: number }>;

const { options, main } = connectMain<UpstreamOptions>();
const now = runClock(options.origin);
const history = openHistoryFile(options.history, { process: "upstream", now });

function arrive(request: IncomingMessage): Readonly<{ url: URL; id: string; arrivedAt: Ns }> {
  const arrivedAt = now();
  const url = new URL(request.url ?? "/", "http://upstream.invalid");
  const id = url.searchParams.get("r") ?? "";
  history.write({ type: "arrived", id, at: arrivedAt });
  return { url, id, arrivedAt };
}

function stamps(arrivedAt: Ns): Record<string, string> {
  return {
    [stampHeaders.token]: options.token,
    [stampHeaders.arrivedAt]: String(arrivedAt),
    [stampHeaders.sentAt]: String(now()),
  };
}

const tick = (): string => `{"sentAt":${now()}}\n`;

function download(response: ServerResponse, ms: number): void {
  const timer = setInterval(() => void response.write(tick()), options.tickMs);
  const end = setTimeout(() => response.end(tick()), ms);
  response.once("close", () => {
    clearInterval(timer);
    clearTimeout(end);
  });
  response.write(tick());
}

const filler = Buffer.alloc(64 * 1_024, "x");

function flow(id: string, response: ServerResponse, ms: number): void {
  const until = performance.now() + ms;
  const more = (): void => {
    while (performance.now() < until && !response.destroyed) if (!response.write(filler)) return;
    response.end();
  };
  response.on("drain", more);
  const end = setTimeout(() => response.end(), ms);
  response.once("close", () => {
    clearTimeout(end);
    history.write({ type: "left", id, at: now() });
  });
  more();
}

const server = createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
  const { url, id, arrivedAt } = arrive(request);
  response.writeHead(200, { "content-type": "text/plain", ...stamps(arrivedAt) });
  if (url.pathname === "/download") download(response, Math.min(10_000, Number(url.searchParams.get("ms") ?? 1_000)));
  else if (url.pathname === "/flow") flow(id, response, Math.min(30_000, Number(url.searchParams.get("ms") ?? 1_000)));
  else response.end("here\n");
});

const clocks = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 1_024 });
clocks.on("headers", (lines: string[], request: IncomingMessage & { arrivedAt?: Ns }) => {
  for (const [name, value] of Object.entries(stamps(request.arrivedAt ?? 0))) lines.push(`${name}: ${value}`);
});
server.on("upgrade", (request: IncomingMessage & { arrivedAt?: Ns }, socket, head) => {
  const { id, arrivedAt } = arrive(request);
  request.arrivedAt = arrivedAt;
  socket.on("error", () => socket.destroy());
  clocks.handleUpgrade(request, socket, head, (stream) => keepClock(stream, id));
});

function keepClock(stream: WebSocket, id: string): void {
  const timer = setInterval(() => stream.send(tick()), options.tickMs);
  stream.on("message", (bytes) => {
    const at = now();
    const { sentAt } = JSON.parse(String(bytes)) as { sentAt: Ns };
    history.write({ type: "carried", id, sentAt, at });
  });
  stream.on("error", () => stream.terminate());
  stream.on("close", () => clearInterval(timer));
}

server.listen(0, "127.0.0.1", () => main.send({ type: "ready", port: (server.address() as AddressInfo).port }));
main.onMessage((message) => {
  if (message.type === "stop") void history.close().then(() => process.exit(0));
});

/**
 * Demo app server: an application behind the proxy. It shows what it received about its visitor and whether that is
 * valid, and holds connections open to show how they are cut.
 *
 *   /        the page            /headers  the request as received, JSON     /echo    the request's body, streamed back
 *   /clock   WebSocket           /sse      server-sent events                /slow    answers after ?ms=
 *
 * With a guide, one more host has the start page of `cardea dev` (demo-start-page.ts).
 *
 * A WebSocket with an invalid assertion is refused. Open streams are bounded. A slow reader gets fewer ticks, not a
 * growing queue.
 */
import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { createRemoteJWKSet, customFetch, type FetchImplementation } from "jose";
import { type WebSocket, WebSocketServer } from "ws";
import { createLocalFetch } from "../auth/index.ts";
import type { UnixMs } from "../events/index.ts";
import { demoAppPage, demoAppPolicy } from "./demo-app-page.ts";
import { type AssertionVerdict, requestedHost, verifyAssertion } from "./demo-assertion.ts";
import { demoClockScript } from "./demo-clock-script.ts";
import { type DemoGuideOptions, GuideTracker, guideTargets } from "./demo-guide.ts";
import { demoStartPage, startPaths } from "./demo-start-page.ts";
import { demoStartScript } from "./demo-start-script.ts";
import { type ListenAddress, listenServer } from "./listen-server.ts";

export type DemoAppOptions = Readonly<{
  /** Port 0: any free one. */
  listen: ListenAddress;
  /** The proxy's keys. A `*.localhost` name connects to loopback, without DNS. */
  jwksUrl: URL;
  /** Default: a fetch that never asks DNS for `*.localhost`. */
  fetch?: FetchImplementation;
  /** Shown as buttons: the other routes. */
  links?: readonly Readonly<{ name: string; url: string }>[];
  tickMs?: number;
  /** The start page and its steps; absent: there is none. */
  guide?: DemoGuideOptions;
  /** Called with internal errors; absent: dropped. */
  onError?: (error: unknown) => void;
}>;
export type DemoApp = Readonly<{ url: URL; close: () => Promise<void> }>;

const keysTimeoutMs = 3_000;
const keysMaxAgeMs = 600_000;
const slowMsMax = 60_000;
const streamsMax = 2_000;
const bufferedBytesMax = 65_536;
const goodbyeMs = 250;
const messageBytesMax = 1_024;

export async function startDemoApp(options: DemoAppOptions): Promise<DemoApp> {
  const local = createLocalFetch({ timeoutMs: keysTimeoutMs });
  const fetchKeys = options.fetch ?? (local.fetch as unknown as FetchImplementation);
  const keys = createRemoteJWKSet(options.jwksUrl, {
    timeoutDuration: keysTimeoutMs,
    cacheMaxAge: keysMaxAgeMs,
    [customFetch]: fetchKeys,
  });
  const onError = options.onError ?? (() => {});
  const tickMs = options.tickMs ?? 1_000;
  const clocks = new WebSocketServer({ noServer: true, maxPayload: messageBytesMax });
  const { guide } = options;
  const tracker = guide === undefined ? undefined : new GuideTracker(guide.email);
  let streams = 0;

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      onError(error);
      if (response.headersSent) response.destroy();
      else send(response, 500, "text/plain; charset=utf-8", "failed\n");
    });
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    upgrade(request, socket, head).catch((error: unknown) => {
      onError(error);
      socket.destroy();
    });
  });

  const verdictOn = (request: IncomingMessage): Promise<AssertionVerdict> =>
    verifyAssertion(request.headersDistinct["x-pomerium-jwt-assertion"] ?? [], requestedHost(request.headers), keys);

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = URL.parse(request.url ?? "/", "http://demo.invalid");
    if (guide !== undefined && tracker !== undefined && requestedHost(request.headers) === guide.host)
      return handleGuide(request, response, { path: url?.pathname ?? "", guide, tracker });
    switch (url?.pathname) {
      case "/": {
        if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);
        const page = demoAppPage({
          host: requestedHost(request.headers),
          verdict: await verdictOn(request),
          rawHeaders: request.rawHeaders,
          jwksUrl: options.jwksUrl.href,
          links: options.links ?? [],
        });
        response.setHeader("content-security-policy", demoAppPolicy);
        return send(response, 200, "text/html; charset=utf-8", page);
      }
      case "/clock.js":
        return send(response, 200, "text/javascript; charset=utf-8", demoClockScript);
      case "/headers":
        return send(response, 200, "application/json", await asReceived(request));
      case "/echo":
        // Never as HTML: the body is the caller's.
        response.writeHead(200, { "content-type": "application/octet-stream", "x-content-type-options": "nosniff" });
        return pipeline(request, response).catch(() => void response.destroy());
      case "/sse":
        return streams < streamsMax ? sse(request, response) : refuse(response, 503);
      case "/slow": {
        const ms = Number(url.searchParams.get("ms") ?? "0");
        return ms >= 0 && ms <= slowMsMax ? slow(ms, response) : refuse(response, 400);
      }
      case "/health":
        return send(response, 200, "text/plain; charset=utf-8", "OK\n");
      default:
        return refuse(response, 404);
    }
  }

  async function asReceived(request: IncomingMessage): Promise<string> {
    const { method, url, httpVersion, rawHeaders } = request;
    const headers = rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ""]] : []));
    return `${JSON.stringify({ method, url, httpVersion, headers, assertion: await verdictOn(request) }, null, 2)}\n`;
  }

  function sse(request: IncomingMessage, response: ServerResponse): void {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    let ticks = 0;
    const beat = (): void => {
      ticks += 1;
      if (response.writableLength > bufferedBytesMax) return;
      response.write(`id: ${ticks}\nevent: tick\ndata: ${JSON.stringify({ now: new Date(), ticks })}\n\n`);
    };
    const timer = setInterval(beat, tickMs);
    streams += 1;
    response.once("close", () => {
      clearInterval(timer);
      streams -= 1;
    });
    request.resume();
    beat();
  }

  function slow(ms: number, response: ServerResponse): void {
    const timer = setTimeout(() => send(response, 200, "text/plain; charset=utf-8", `after ${ms} ms\n`), ms);
    response.once("close", () => clearTimeout(timer));
  }

  async function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    if ((request.url ?? "").split("?", 1)[0] !== "/clock") return refuseUpgrade(socket, 404);
    const verdict = await verdictOn(request);
    if (verdict.type === "refused") return refuseUpgrade(socket, 401);
    if (streams >= streamsMax) return refuseUpgrade(socket, 503);
    const user = verdict.type === "verified" ? (verdict.claims["email"] ?? verdict.subject) : null;
    clocks.handleUpgrade(request, socket, head, (clock) => run(clock, user));
  }

  function run(clock: WebSocket, user: unknown): void {
    let ticks = 0;
    const beat = (): void => {
      ticks += 1;
      if (clock.bufferedAmount > bufferedBytesMax) return;
      clock.send(JSON.stringify({ now: new Date(), ticks, user: user === "" ? null : user }));
    };
    const timer = setInterval(beat, tickMs);
    streams += 1;
    const ended = tracker?.clockStarted(user, () => Date.now() as UnixMs);
    clock.on("error", () => clock.terminate());
    clock.once("close", (code) => {
      clearInterval(timer);
      ended?.(code);
      streams -= 1;
    });
    beat();
  }

  const listening = await listenServer(server, options.listen);

  async function end(): Promise<void> {
    for (const clock of clocks.clients) clock.close(1001, "the demo app is shutting down");
    const gone = new Promise<void>((resolve) => clocks.close(() => resolve()));
    await Promise.race([gone, delay(goodbyeMs, undefined, { ref: false })]);
    for (const clock of clocks.clients) clock.terminate();
    await listening.close();
    await local.close();
  }

  let ended: Promise<void> | undefined;
  return {
    url: listening.url,
    close() {
      ended ??= end();
      return ended;
    },
  };
}

/** The start page, its script, its steps and its progress. */
async function handleGuide(
  { method }: IncomingMessage,
  response: ServerResponse,
  { path, guide, tracker }: Readonly<{ path: string; guide: DemoGuideOptions; tracker: GuideTracker }>,
): Promise<void> {
  if (method !== "GET" && method !== "HEAD") return refuse(response, 405);
  const target = guideTargets.find((known) => path === `${startPaths.open}${known}`);
  if (target !== undefined) {
    tracker.opened(target);
    response.writeHead(303, { location: guide.urlOf(target).href, "cache-control": "no-store" });
    return void response.end();
  }
  if (path === startPaths.script) return send(response, 200, "text/javascript; charset=utf-8", demoStartScript);
  const progress = tracker.progress();
  if (path === startPaths.progress) return send(response, 200, "application/json", `${JSON.stringify(progress)}\n`);
  if (path !== startPaths.page) return refuse(response, 404);
  response.setHeader("content-security-policy", demoAppPolicy);
  return send(response, 200, "text/html; charset=utf-8", demoStartPage(guide, progress));
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    "content-type": type,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.end(body);
}

function refuse(response: ServerResponse, status: number): void {
  send(response, status, "text/plain; charset=utf-8", `${STATUS_CODES[status] ?? status}\n`);
}

function refuseUpgrade(socket: Duplex, status: number): void {
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
}

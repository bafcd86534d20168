/**
 * Handler listener: one host with one request handler, behind the same TLS, parsing and limits as the proxy. It
 * forwards nothing.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { RenderPage, ReservedPathHandler } from "../../auth/index.ts";
import type { Config, HostPort } from "../../config/index.ts";
import type { AcmeServing } from "../autocert/autocert-timer.ts";
import { callerAddress } from "../headers/upstream-headers.ts";
import { canonicaliseRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import type { EntryHooks } from "../tls/entry-listener.ts";
import { type ListenerConfig, openProxyListener } from "./proxy-listener.ts";

export type HandlerListener = Readonly<{
  address: HostPort;
  /** Uses these certificates for new handshakes. @throws when they are unusable; then nothing changes */
  reload(config: ListenerConfig): void;
  /** Accepts connections until load balancers have noticed, then waits for open requests up to the limit. */
  close(): Promise<void>;
}>;

/** Health checks call it by address. */
const askedByAddress: ReadonlySet<string> = new Set(["/healthz", "/ping"]);

export type HandlerConfig = ListenerConfig & Pick<Config, "xffNumTrustedHops" | "drainDelayMs" | "drainTimeoutMs">;

/** @param config the current configuration */
export async function startHandlerListener(
  config: () => HandlerConfig,
  options: Readonly<{
    site: () => URL;
    handle: ReservedPathHandler;
    requestId: () => string;
    render: RenderPage;
    clock: Readonly<{ monotonic: () => number; wall: () => number }>;
    acme: AcmeServing | null;
  }> &
    Pick<EntryHooks, "onRefused" | "onConnectionFailure">,
): Promise<HandlerListener> {
  const { requestId, clock } = options;
  let draining = false;

  function onRequest(downstream: Downstream): void {
    const canonical = canonicaliseRequest(downstream.head);
    if (canonical.type === "refused" || downstream.upgrade !== null) {
      options.onRefused(canonical.type === "refused" ? canonical.reason : "upgrade");
      say(downstream, 400, "This request cannot be read.\n");
      return;
    }
    const { request } = canonical;
    const site = options.site();
    if (request.hostname !== site.hostname && !askedByAddress.has(request.path)) {
      say(downstream, 421, "This is the authenticate service of another host.\n");
      return;
    }
    const { req, res } = downstream.asNode();
    req.url = request.rawPath + request.search; // the bytes that were parsed here
    res.setHeader("x-frame-options", "SAMEORIGIN");
    options.handle(req, res, {
      origin: site.origin,
      hostname: site.hostname,
      requestId: requestId(),
      ip: callerAddress(request.headers["x-forwarded-for"], downstream.peer, config().xffNumTrustedHops),
    });
  }

  const listener = await openProxyListener(
    config(),
    onRequest,
    {
      requestId,
      render: options.render,
      monotonic: clock.monotonic,
      wall: clock.wall,
      draining: () => draining,
      mayUpgrade: () => false,
      onRefused: options.onRefused,
      onConnectionFailure: options.onConnectionFailure,
    },
    options.acme,
  );
  return {
    address: listener.address,
    reload: (next) => listener.reload(next),
    async close() {
      draining = true;
      const { drainDelayMs, drainTimeoutMs } = config();
      if (drainDelayMs > 0) await delay(drainDelayMs);
      const cutting = setTimeout(() => listener.destroyConnections(), drainTimeoutMs);
      cutting.unref();
      await listener.stopAccepting();
      clearTimeout(cutting);
    },
  };
}

function say(downstream: Downstream, status: number, text: string): void {
  const length = ["content-length", String(Buffer.byteLength(text))];
  const lines = ["content-type", "text/plain; charset=utf-8", "x-frame-options", "SAMEORIGIN", ...length];
  downstream.writeHead(status, new HeaderLines(lines), null);
  downstream.end(text);
}

/**
 * Local fetch: an HTTP client for server-side calls that resolves this installation's own hosts without DNS.
 *
 * - `*.localhost` and `localhost` connect to loopback (RFC 6761 §6.3).
 * - A name in `hosts` connects to the given address, or to the given other name, which may use DNS.
 * - TLS names and Host headers stay those of the URL.
 */
import type { LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { Agent, DecoratorHandler, type Dispatcher, fetch as undiciFetch } from "undici";
import { createSystemLookup } from "../../../replication/runtime/index.ts";

export type LocalFetch = Readonly<{
  fetch: typeof undiciFetch;
  /**
   * Sends a request that must not be sent twice: without a retry, and on its own connection, because a server may close
   * an idle one at any time.
   * @param options.onSend called right before the first byte of the request is written
   */
  fetchOnce(
    input: Parameters<typeof undiciFetch>[0],
    init: Parameters<typeof undiciFetch>[1],
    options: Readonly<{ timeoutMs: number; onSend: () => void }>,
  ): ReturnType<typeof undiciFetch>;
  close(): Promise<void>;
}>;

export function createLocalFetch(options: {
  hosts?: Readonly<Record<string, string>>;
  timeoutMs: number;
  /** PEM of authorities trusted in addition to those of the system. */
  ca?: string;
}): LocalFetch {
  const connect = {
    timeout: options.timeoutMs,
    ...(options.ca === undefined ? {} : { secureContext: trusting(options.ca) }),
    lookup: createLocalLookup(options.hosts ?? {}),
  };
  const agent = new Agent({ connect, headersTimeout: options.timeoutMs, bodyTimeout: options.timeoutMs });
  /** Without keep-alive. The signal of each request bounds its time. */
  const once = new Agent({ connect, pipelining: 0, headersTimeout: 0, bodyTimeout: 0 });
  const fetchLocally: typeof undiciFetch = (input, init) =>
    undiciFetch(input, {
      ...init,
      dispatcher: agent,
      redirect: init?.redirect ?? "manual",
      signal: init?.signal ?? AbortSignal.timeout(options.timeoutMs),
    });
  return {
    fetch: fetchLocally,
    fetchOnce: (input, init, { timeoutMs, onSend }) =>
      undiciFetch(input, {
        ...init,
        dispatcher: once.compose((dispatch) => (sent, handler) => dispatch(sent, new SendObserver(handler, onSend))),
        redirect: "manual",
        signal: AbortSignal.timeout(timeoutMs),
      }),
    close: async () => {
      await Promise.all([agent.close(), once.close()]);
    },
  };
}

/** TLS context, made once: parsing all authorities per connection would cost milliseconds. */
function trusting(ca: string): SecureContext {
  return createSecureContext({ ca: [...getCACertificates(), ca] });
}

/** Reports when a connected client starts to write the request. */
class SendObserver extends DecoratorHandler {
  readonly #inner: Dispatcher.DispatchHandler;
  readonly #onSend: () => void;

  constructor(inner: Dispatcher.DispatchHandler, onSend: () => void) {
    super(inner);
    this.#inner = inner;
    this.#onSend = onSend;
  }

  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.#onSend();
    this.#inner.onRequestStart?.(controller, context);
  }
}

/** @param hosts name in lowercase to a name or an address */
export function createLocalLookup(
  hosts: Readonly<Record<string, string>>,
  dnsLookup: LookupFunction = createSystemLookup(),
): LookupFunction {
  return (hostname, options, callback) => {
    const name = hostname.toLowerCase().replace(/\.$/, "");
    const alias = Object.hasOwn(hosts, name) ? hosts[name] : undefined;
    const address = alias ?? (name === "localhost" || name.endsWith(".localhost") ? "127.0.0.1" : undefined);
    const family = isIP(address ?? "");
    if (address === undefined || family === 0) return dnsLookup(address ?? hostname, options, callback);
    if (options.all !== true) return callback(null, address, family);
    const all: LookupAddress[] = [{ address, family }];
    callback(null, all);
  };
}

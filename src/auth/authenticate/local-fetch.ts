/**
 * Server-side calls to our own hosts never use DNS: `*.localhost` and `localhost` connect to loopback (RFC 6761 §6.3), and a
 * name given in `hosts` connects where it says: an address, or another name, which DNS may then be asked about. TLS names
 * and Host headers stay what the URL says.
 */
import type { LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { Agent, fetch as undiciFetch } from "undici";
import { createSystemLookup } from "../../replication/index.ts";

export type LocalFetch = Readonly<{ fetch: typeof undiciFetch; close(): Promise<void> }>;

export function createLocalFetch(options: {
  hosts?: Readonly<Record<string, string>>;
  timeoutMs: number;
  ca?: string;
}): LocalFetch {
  const agent = new Agent({
    connect: {
      timeout: options.timeoutMs,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
      lookup: createLocalLookup(options.hosts ?? {}),
    },
    headersTimeout: options.timeoutMs,
    bodyTimeout: options.timeoutMs,
  });
  const fetchLocally: typeof undiciFetch = (input, init) =>
    undiciFetch(input, {
      ...init,
      dispatcher: agent,
      redirect: init?.redirect ?? "manual",
      signal: init?.signal ?? AbortSignal.timeout(options.timeoutMs),
    });
  return { fetch: fetchLocally, close: () => agent.close() };
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

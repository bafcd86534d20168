/**
 * Upstream lookup: the addresses of upstreams' names, in the order in which they are connected to.
 *
 * `*.localhost` is loopback (RFC 6761 §6.3), whatever the system's resolver says. Everything else is asked of the system, by all
 * upstreams together: a name whose DNS server is silent holds up no other upstream, and costs none of its own its last answer.
 * Pure but for that question.
 */
import type { LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import type { Config } from "../config/index.ts";

export type LookupFamily = Config["dnsLookupFamily"];

const loopback: readonly LookupAddress[] = [
  { address: "127.0.0.1", family: 4 },
  { address: "::1", family: 6 },
];

/** @returns the lookup for each family; they share what is known */
export function createUpstreamLookups(systemLookup: LookupFunction): (family: LookupFamily) => LookupFunction {
  const resolve: LookupFunction = (hostname, options, callback) => {
    if (hostname === "localhost" || hostname.endsWith(".localhost")) callback(null, [...loopback]);
    else systemLookup(hostname, options, callback);
  };
  return (family) => (hostname, options, callback) => {
    const own = isIP(hostname);
    if (own !== 0) {
      if (options.all === true) callback(null, [{ address: hostname, family: own }]);
      else callback(null, hostname, own);
      return;
    }
    resolve(hostname, { all: true }, (error, found) => {
      if (error !== null) return callback(error, "", 0);
      const addresses = inOrder(typeof found === "string" ? [] : found, family);
      const [first] = addresses;
      if (first === undefined) {
        const problem = `${hostname} has no address that dns_lookup_family: ${family} allows`;
        return callback(Object.assign(new Error(problem), { code: "ENOTFOUND", hostname }), "", 0);
      }
      if (options.all === true) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}

/** Those of the other family are tried after: whoever does not answer over one may over the other. */
function inOrder(addresses: readonly LookupAddress[], family: LookupFamily): LookupAddress[] {
  const of = (wanted: 4 | 6): LookupAddress[] => addresses.filter((one) => one.family === wanted);
  switch (family) {
    case "V4_ONLY":
      return of(4);
    case "V6_ONLY":
      return of(6);
    case "V4_PREFERRED":
      return [...of(4), ...of(6)];
    case "AUTO":
      return [...of(6), ...of(4)];
    case "ALL":
      return [...addresses];
    default:
      return family satisfies never;
  }
}

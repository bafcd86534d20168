/**
 * Upstream lookup: the addresses to which the names of upstreams resolve.
 *
 * Pure but for the system's resolver, which all upstreams share. `*.localhost` is loopback (RFC 6761 §6.3), whatever
 * the resolver says. A name whose DNS server is silent delays no other upstream, and keeps its own last answer.
 */
import type { LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import type { Config } from "../../config/index.ts";

export type LookupFamily = Config["dnsLookupFamily"];

const loopback: readonly LookupAddress[] = [
  { address: "127.0.0.1", family: 4 },
  { address: "::1", family: 6 },
];

/** @returns the lookup for each family; all use the same system lookup */
export function createUpstreamLookups(systemLookup: LookupFunction): (family: LookupFamily) => LookupFunction {
  return (family) => (hostname, options, callback) => {
    const answer = (addresses: readonly LookupAddress[]): void => {
      const [first] = addresses;
      if (first === undefined) {
        const problem = `${hostname} has no address that dns_lookup_family: ${family} allows`;
        callback(Object.assign(new Error(problem), { code: "ENOTFOUND", hostname }), "", 0);
      } else if (options.all === true) callback(null, [...addresses]);
      else callback(null, first.address, first.family);
    };
    const own = isIP(hostname);
    if (own !== 0) answer([{ address: hostname, family: own }]);
    else if (hostname === "localhost" || hostname.endsWith(".localhost")) answer(loopbackAddresses(family));
    else
      systemLookup(hostname, { all: true }, (error, found) => {
        if (error !== null) callback(error, "", 0);
        else answer(selectFamily(typeof found === "string" ? [] : found, family));
      });
  };
}

/** As Envoy: a name with an address of the preferred family uses that family alone. */
function selectFamily(addresses: readonly LookupAddress[], family: LookupFamily): readonly LookupAddress[] {
  const of = (wanted: 4 | 6): readonly LookupAddress[] => addresses.filter((one) => one.family === wanted);
  const first = (wanted: 4 | 6, other: 4 | 6) => (of(wanted).length > 0 ? of(wanted) : of(other));
  switch (family) {
    case "V4_ONLY":
      return of(4);
    case "V6_ONLY":
      return of(6);
    case "V4_PREFERRED":
      return first(4, 6);
    case "AUTO":
      return first(6, 4);
    case "ALL":
      return addresses;
    default:
      return family satisfies never;
  }
}

/** Local servers listen on either address, so the other one is tried as well. */
function loopbackAddresses(family: LookupFamily): readonly LookupAddress[] {
  const only = selectFamily(loopback, family);
  if (family === "V4_ONLY" || family === "V6_ONLY") return only;
  return [...only, ...loopback.filter((one) => !only.includes(one))];
}

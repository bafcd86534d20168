/**
 * Source addresses: single addresses and CIDR blocks, IPv4 and IPv6, checked by Node's BlockList.
 *
 * - IPv4-mapped IPv6 (`::ffff:10.0.0.1`, as a dual-stack socket reports it) counts as IPv4 on both sides.
 * - A block of one family never matches an address of the other.
 * - Text that is not an address matches nothing.
 */
import { BlockList, isIP, SocketAddress } from "node:net";
import { describeValue, type PolicyPath, type ReportPolicyProblem } from "./ppl-parser.ts";

type Address = Readonly<{ family: "ipv4" | "ipv6"; address: string }>;
const bits = { ipv4: 32, ipv6: 128 } as const;

export type AddressMatcher = Readonly<{ matches: (ip: string) => boolean; blocks: readonly string[] }>;

/** Parses one block or a list of blocks. */
export function parseAddressMatcher(
  data: unknown,
  path: PolicyPath,
  report: ReportPolicyProblem,
): AddressMatcher | undefined {
  const items: readonly unknown[] = Array.isArray(data) ? data : [data];
  if (items.length === 0)
    report(path, "an empty list matches no address", "list addresses, or remove the criterion", "warning");
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  let complete = true;
  items.forEach((item, index) => {
    const block = typeof item === "string" ? parseBlock(item) : undefined;
    if (block !== undefined) {
      lists[block.family].addSubnet(block.address, block.prefix, block.family);
      return;
    }
    complete = false;
    const what = typeof item === "string" ? `\`${item}\`` : describeValue(item);
    report(
      Array.isArray(data) ? [...path, index] : path,
      `${what} is not an IP address or CIDR block`,
      "write it like `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`",
    );
  });
  if (!complete) return undefined;
  return {
    matches: (ip) => {
      const source = parseAddress(ip);
      return source !== undefined && lists[source.family].check(source.address, source.family);
    },
    blocks: items.map(String),
  };
}

/** A matcher of blocks that were checked before; undefined: one is invalid. */
export function matcherOfBlocks(blocks: readonly string[]): AddressMatcher | undefined {
  return parseAddressMatcher(blocks, [], () => {});
}

/**
 * Finds the value of the narrowest range that contains an address. The cost of a lookup grows with the number of
 * distinct prefix lengths, not of ranges. Invalid ranges are skipped: their reader has refused them already.
 */
export function matcherOfRanges<T>(
  ranges: readonly Readonly<{ range: string; record: T }>[],
): (ip: string) => T | undefined {
  const byPrefix = { ipv4: new Map<number, Map<bigint, T>>(), ipv6: new Map<number, Map<bigint, T>>() };
  for (const { range, record } of ranges) {
    const block = parseBlock(range);
    if (block === undefined) continue;
    const { family, prefix } = block;
    const networks = byPrefix[family].get(prefix) ?? new Map<bigint, T>();
    networks.set(networkNumber(addressNumber(block), family, prefix), record);
    byPrefix[family].set(prefix, networks);
  }
  const narrowestFirst = (family: Address["family"]) => [...byPrefix[family]].sort(([a], [b]) => b - a);
  const sorted = { ipv4: narrowestFirst("ipv4"), ipv6: narrowestFirst("ipv6") };
  return (ip) => {
    const address = parseAddress(ip);
    if (address === undefined) return undefined;
    const number = addressNumber(address);
    for (const [prefix, networks] of sorted[address.family]) {
      const found = networks.get(networkNumber(number, address.family, prefix));
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

function networkNumber(number: bigint, family: Address["family"], prefix: number): bigint {
  return number >> BigInt(bits[family] - prefix);
}

function addressNumber({ family, address }: Address): bigint {
  if (family === "ipv4") return address.split(".").reduce((number, part) => (number << 8n) | BigInt(part), 0n);
  const [head = "", tail] = new SocketAddress({ address, family }).address.split("::");
  const words = (text: string): string[] => (text === "" ? [] : text.split(":").flatMap(wordsOfPart));
  const [front, back] = [words(head), words(tail ?? "")];
  const middle = Array.from({ length: 8 - front.length - back.length }, () => "0");
  return [...front, ...middle, ...back].reduce((number, word) => (number << 16n) | BigInt(`0x${word}`), 0n);
}

/** The 16-bit words of a part. The last four bytes of an address may be in IPv4 notation. */
function wordsOfPart(part: string): string[] {
  if (!part.includes(".")) return [part];
  const number = addressNumber({ family: "ipv4", address: part });
  return [(number >> 16n).toString(16), (number & 0xffffn).toString(16)];
}

/**
 * The network that counts as one caller: an IPv4 address, or the /64 of an IPv6 address, because a site owns all of it
 * (RFC 6177). Text that is not an address counts as one caller too.
 */
export function callerNetwork(ip: string): string {
  const address = parseAddress(ip);
  if (address === undefined) return "";
  return address.family === "ipv4" ? address.address : `${(addressNumber(address) >> 64n).toString(16)}/64`;
}

export function isAddressRange(text: string): boolean {
  return parseBlock(text) !== undefined;
}

function parseBlock(text: string): (Address & { prefix: number }) | undefined {
  const slash = text.indexOf("/");
  const written = slash === -1 ? text : text.slice(0, slash);
  const address = written.includes("%") ? undefined : parseAddress(written);
  if (address === undefined) return undefined;
  if (slash === -1) return { ...address, prefix: bits[address.family] };
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(digits)) return undefined;
  // A mapped block counts its 96 fixed bits.
  const fixed = address.family === "ipv4" && written.includes(":") ? 96 : 0;
  const prefix = Number(digits) - fixed;
  return prefix >= 0 && prefix <= bits[address.family] ? { ...address, prefix } : undefined;
}

/** Parses an address into its family, without a zone. */
function parseAddress(text: string): Address | undefined {
  const zone = text.indexOf("%");
  const address = zone === -1 ? text : text.slice(0, zone);
  const version = isIP(address);
  if (version === 4) return { family: "ipv4", address };
  if (version !== 6) return undefined;
  const canonical = new SocketAddress({ address, family: "ipv6" }).address;
  const mapped = canonical.startsWith("::ffff:") ? canonical.slice("::ffff:".length) : "";
  return isIP(mapped) === 4 ? { family: "ipv4", address: mapped } : { family: "ipv6", address };
}

/**
 * Linux TCP table: finds peers that have ended their side of a connection from which this process is not reading.
 *
 * A paused connection keeps unread bytes in the kernel, with the peer's FIN behind them. On other systems, or if the
 * table cannot be read, no ended peer is found. The table is read off the request path, and only while a connection is
 * paused.
 */
import { readFile } from "node:fs/promises";
import { SocketAddress } from "node:net";

/** The part of a socket that identifies its connection. */
export type Ends = Readonly<{
  localPort?: number | undefined;
  remotePort?: number | undefined;
  remoteAddress?: string | undefined;
}>;

const tables = ["/proc/net/tcp", "/proc/net/tcp6"] as const;
/** `sl local_address rem_address st`; 08 is CLOSE_WAIT: the FIN of the peer has arrived. */
const ended = /^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) 08 /gm;

/** @returns a check whether the peer of a socket had ended its side when the table was read */
export async function readEndedPeers(): Promise<(socket: Ends) => boolean> {
  const texts = await Promise.all(tables.map((path) => readFile(path, "latin1").catch(() => "")));
  return endedPeersIn(texts.join("\n"));
}

export function endedPeersIn(table: string): (socket: Ends) => boolean {
  const found = new Set<string>();
  for (const [, local = "", address = "", remote = ""] of table.matchAll(ended))
    found.add(`${Number.parseInt(local, 16)} ${Number.parseInt(remote, 16)} ${addressOf(address)}`);
  return ({ localPort, remotePort, remoteAddress = "" }) =>
    found.has(`${localPort} ${remotePort} ${plain(remoteAddress)}`);
}

/** Addresses are words of four bytes in host order, which is little-endian on every platform of Node. */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, "hex").swap32();
  if (bytes.length === 4) return bytes.join(".");
  const groups = bytes.toString("hex").match(/.{4}/g) ?? [];
  return plain(new SocketAddress({ family: "ipv6", address: groups.join(":") }).address);
}

/** Reduces an IPv4-mapped address to IPv4 and removes a zone id. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
}

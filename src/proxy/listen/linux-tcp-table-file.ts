/**
 * Linux TCP table: which peers have ended their side of a connection, though nobody here has read that far.
 *
 * For connections that are held back: what they still have to say waits in the kernel, and their end behind it. Elsewhere than on Linux,
 * or where the table cannot be read, nothing is known. It is read off the request path, and only while somebody asks.
 */
import { readFile } from "node:fs/promises";
import { SocketAddress } from "node:net";

/** What of a socket tells it from all others. */
export type Ends = Readonly<{
  localPort?: number | undefined;
  remotePort?: number | undefined;
  remoteAddress?: string | undefined;
}>;

const tables = ["/proc/net/tcp", "/proc/net/tcp6"] as const;
/** `sl local_address rem_address st`; 08 is CLOSE_WAIT: the peer's FIN has come. */
const ended = /^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) 08 /gm;

/** @returns whether the peer of a socket has ended its side, as it was a moment ago */
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

/** Words of four bytes, each as this machine keeps numbers: backwards, on all that Node runs on. */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, "hex").swap32();
  if (bytes.length === 4) return bytes.join(".");
  const groups = bytes.toString("hex").match(/.{4}/g) ?? [];
  return plain(new SocketAddress({ family: "ipv6", address: groups.join(":") }).address);
}

/** An IPv4 address that came over a socket of both families is that address; an interface's name is no part of one. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
}

/**
 * Ticket keys: what seals TLS session tickets. Pure.
 *
 * - Derived from the shared secret, so each process of an installation accepts the tickets of every other, also after a
 *   restart: a rolling deploy does not cost every browser a full handshake.
 * - A key seals for one period and for one set of certificates. After either ends, a ticket leads to a full handshake.
 * - A resumed TLS 1.3 session agrees on new keys all the same. In TLS 1.2 a ticket holds the keys of its connection, so
 *   a thief of the shared secret can read recorded connections of that version (docs/tls.md).
 */
import { hash } from "node:crypto";
import type { TlsFiles } from "../../config/index.ts";
import { deriveKey } from "../../replication/wire/index.ts";

export const ticketPeriodMs = 12 * 3_600_000;

/** Tickets of another application with the same key would not be accepted. */
export const ticketContext = "cardea";

/** @returns a number that changes when the key does */
export function ticketPeriodAt(wallMs: number): number {
  return Math.floor(wallMs / ticketPeriodMs);
}

/** @returns 48 bytes, as `tls.Server.setTicketKeys` takes them: 16 to name the key, 16 for HMAC, 16 for AES */
export function ticketKeysOf(sharedSecret: Uint8Array, certificates: readonly TlsFiles[], period: number): Buffer {
  const served = certificates.map(({ cert }) => hash("sha256", cert, "hex"));
  const purpose = `tls tickets ${period} ${hash("sha256", served.join(" "), "hex")}`;
  const [name, keys] = [deriveKey(sharedSecret, `${purpose} name`), deriveKey(sharedSecret, `${purpose} keys`)];
  return Buffer.concat([name.subarray(0, 16), keys]);
}

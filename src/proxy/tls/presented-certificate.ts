/**
 * Presented certificate: the client certificate of a handshake, read once per connection. Pure.
 *
 * TLS has verified it against the authorities of all routes: signatures, dates, purpose and constraints.
 * client-trust.ts decides which route's authority it satisfies and what else must hold.
 */
import { createHash, type X509Certificate } from "node:crypto";
import { readSubjectNames } from "../../config/index.ts";
import type { PresentedCertificate } from "../message/peer.ts";

export type { PresentedCertificate } from "../message/peer.ts";

/** A longer chain is invalid. */
const aboveMax = 10;

/** @param leaf undefined: the caller presented none */
export function readPresented(leaf: X509Certificate | undefined, verified: boolean): PresentedCertificate | null {
  if (leaf === undefined) return null;
  const above: X509Certificate[] = [];
  for (
    let next = leaf.issuerCertificate;
    next !== undefined && above.length < aboveMax;
    next = next.issuerCertificate
  ) {
    above.push(next);
  }
  return {
    leaf,
    leafPem: leaf.toString(),
    above,
    verified,
    names: readSubjectNames(leaf.subjectAltName ?? ""),
    fingerprint: createHash("sha256").update(leaf.raw).digest("hex"),
  };
}

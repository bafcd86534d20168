/**
 * Presented certificate: the client certificate of a handshake, read once per connection. Pure.
 *
 * TLS has verified it against the authorities of all routes: signatures, dates, purpose and constraints.
 * client-trust.ts decides which route's authority it satisfies and what else must hold.
 */
import { createHash, type X509Certificate } from "node:crypto";
import { readSubjectNames, type SubjectNames } from "../../config/index.ts";

export type PresentedCertificate = Readonly<{
  leaf: X509Certificate;
  leafPem: string;
  /** The rest of the presented chain; each certificate issued the one before it. */
  above: readonly X509Certificate[];
  /** It chains to an authority of the listener and permits client authentication. */
  verified: boolean;
  names: SubjectNames;
  /** SHA-256 fingerprint, 64 lowercase hexadecimal digits. */
  fingerprint: string;
}>;

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

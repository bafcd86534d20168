/**
 * Presented certificate: what a caller showed in its handshake, read once for the life of the connection. Pure.
 *
 * TLS itself has checked it against every authority that any route names: signatures, dates, purpose, constraints. By which
 * route's authority it counts, and what else must hold, is the matter of client-trust.ts.
 */
import { createHash, type X509Certificate } from "node:crypto";
import { readSubjectNames, type SubjectNames } from "../../config/index.ts";

export type PresentedCertificate = Readonly<{
  leaf: X509Certificate;
  leafPem: string;
  /** What was shown above it, each the issuer of the one before. */
  above: readonly X509Certificate[];
  /** It leads to one of the authorities that the listener knows, and may be shown by clients. */
  verified: boolean;
  names: SubjectNames;
  /** SHA-256 of it, 64 lowercase hexadecimal digits. */
  fingerprint: string;
}>;

/** Longer ones lead nowhere. */
const aboveMax = 10;

/** @param leaf undefined: nothing was shown */
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

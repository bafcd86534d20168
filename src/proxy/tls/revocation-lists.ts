/**
 * Revocation lists: which certificates their issuers have revoked. Pure.
 *
 * As in Pomerium, the list of a certificate's own issuer decides; without such a list the certificate is not revoked. A
 * list with a bad signature revokes every certificate of that issuer: it fails closed.
 */
import { constants, verify, type X509Certificate } from "node:crypto";
import type { Name, X509Crl } from "@peculiar/x509";
import { certificateReader } from "../../config/index.ts";

type List = Readonly<{ crl: X509Crl; serials: ReadonlySet<string> }>;

export class RevocationLists {
  /** By issuer name; the later of two lists wins. */
  readonly #byIssuer = new Map<string, List>();

  /** @param pem any number of lists that have been parsed successfully before */
  constructor(pem: string | null) {
    for (const block of pem?.match(/-----BEGIN X509 CRL-----[\s\S]*?-----END X509 CRL-----/g) ?? []) {
      const crl = new (certificateReader().X509Crl)(block);
      const serials = new Set(crl.entries.map(({ serialNumber }) => plainSerial(serialNumber)));
      this.#byIssuer.set(nameKey(crl.issuerName.toArrayBuffer()), { crl, serials });
    }
  }

  isRevoked(certificate: X509Certificate, issuer: X509Certificate): boolean {
    if (this.#byIssuer.size === 0) return false;
    const list = this.#byIssuer.get(nameKey(subjectOf(issuer).toArrayBuffer()));
    if (list === undefined) return false;
    return !isSignedBy(list.crl, issuer) || list.serials.has(plainSerial(certificate.serialNumber));
  }
}

function subjectOf({ raw }: X509Certificate): Name {
  return new (certificateReader().X509Certificate)(raw).subjectName;
}

function nameKey(der: ArrayBuffer): string {
  return Buffer.from(der).toString("base64");
}

function plainSerial(serial: string): string {
  return serial.toLowerCase().replace(/^0+(?=.)/, "");
}

/** Synchronous, unlike the library's check: nothing may wait between a request and its decision. */
function isSignedBy(crl: X509Crl, { publicKey }: X509Certificate): boolean {
  const { signature, signatureAlgorithm } = crl;
  const tbs = crl["tbs"]; // the signed bytes
  const { hash = null } = signatureAlgorithm as { hash?: { name: string } };
  const isPss = (signatureAlgorithm as { name?: string }).name === "RSA-PSS";
  const key = isPss ? { key: publicKey, padding: constants.RSA_PKCS1_PSS_PADDING } : publicKey;
  try {
    return verify(hash?.name.replace("-", "") ?? null, Buffer.from(tbs), key, Buffer.from(signature));
  } catch {
    return false;
  }
}

/** PKI: certificate authorities for a test, with the certificates that they issue and revoke. */
import { randomBytes, webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  type JsonGeneralName,
  PemConverter,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
} from "@peculiar/x509";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const hourMs = 3_600_000;
/** DER: a list with the one feature `status_request`. */
const tlsFeatures = new Uint8Array([0x30, 0x03, 0x02, 0x01, 0x05]);

export type Issued = Readonly<{
  /** PEM. */
  cert: string;
  key: string;
  serial: string;
  certificate: X509Certificate;
}>;

export type CertificateOptions = Readonly<{
  name?: string;
  hosts?: readonly string[];
  addresses?: readonly string[];
  emails?: readonly string[];
  uris?: readonly string[];
  /** Additional subject alternative names, such as a user principal name. */
  others?: readonly JsonGeneralName[];
  usage?: "server" | "client";
  /** Demands a stapled OCSP response (RFC 7633). */
  mustStaple?: boolean;
  notBefore?: Date;
  notAfter?: Date;
}>;

export class Authority {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly certificate: X509Certificate;
  private constructor(keys: webcrypto.CryptoKeyPair, certificate: X509Certificate) {
    this.#keys = keys;
    this.certificate = certificate;
  }

  static async root(name = "root"): Promise<Authority> {
    const keys = await makeKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned({
      ...{ name: `CN=${name}`, keys, signingAlgorithm: algorithm, serialNumber: serial() },
      ...lifetime({}),
      extensions: [new BasicConstraintsExtension(true, undefined, true)],
    });
    return new Authority(keys, certificate);
  }

  get pem(): string {
    return `${this.certificate.toString("pem")}\n`;
  }

  async intermediate(name: string): Promise<Authority> {
    const keys = await makeKeys();
    const extensions = [new BasicConstraintsExtension(true, undefined, true)];
    return new Authority(keys, await this.#sign(name, keys, extensions, {}));
  }

  async issue(wanted: CertificateOptions): Promise<Issued> {
    const keys = await makeKeys();
    const usage = wanted.usage === "client" ? ExtendedKeyUsage.clientAuth : ExtendedKeyUsage.serverAuth;
    const names: JsonGeneralName[] = [
      ...(wanted.hosts ?? []).map((value) => ({ type: "dns" as const, value })),
      ...(wanted.addresses ?? []).map((value) => ({ type: "ip" as const, value })),
      ...(wanted.emails ?? []).map((value) => ({ type: "email" as const, value })),
      ...(wanted.uris ?? []).map((value) => ({ type: "url" as const, value })),
      ...(wanted.others ?? []),
    ];
    const extensions: Extension[] = [new ExtendedKeyUsageExtension([usage])];
    if (names.length > 0) extensions.push(new SubjectAlternativeNameExtension(names));
    if (wanted.mustStaple === true) extensions.push(new Extension("1.3.6.1.5.5.7.1.24", false, tlsFeatures));
    const certificate = await this.#sign(wanted.name ?? wanted.hosts?.[0] ?? "leaf", keys, extensions, wanted);
    const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
    return {
      cert: `${certificate.toString("pem")}\n`,
      key: `${PemConverter.encode(key, "PRIVATE KEY")}\n`,
      serial: certificate.serialNumber,
      certificate,
    };
  }

  /** A revocation list of this authority, as PEM. */
  async revoking(serials: readonly string[]): Promise<string> {
    const crl = await X509CrlGenerator.create({
      issuer: this.certificate.subject,
      ...{ thisUpdate: new Date(Date.now() - hourMs), nextUpdate: new Date(Date.now() + hourMs) },
      entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: new Date(Date.now() - hourMs) })),
      signingAlgorithm: algorithm,
      signingKey: this.#keys.privateKey,
    });
    return `${PemConverter.encode(crl.rawData, "X509 CRL")}\n`; // as OpenSSL labels them
  }

  #sign(
    name: string,
    keys: webcrypto.CryptoKeyPair,
    extensions: Extension[],
    dates: Pick<CertificateOptions, "notBefore" | "notAfter">,
  ): Promise<X509Certificate> {
    return X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.certificate.subject,
      ...lifetime(dates),
      ...{ serialNumber: serial(), extensions, signingAlgorithm: algorithm },
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
    });
  }
}

function lifetime({ notBefore, notAfter }: Pick<CertificateOptions, "notBefore" | "notAfter">): {
  notBefore: Date;
  notAfter: Date;
} {
  return {
    notBefore: notBefore ?? new Date(Date.now() - hourMs),
    notAfter: notAfter ?? new Date(Date.now() + 24 * hourMs),
  };
}

/** A random serial number: positive, and without a leading zero. */
function serial(): string {
  const bytes = randomBytes(12);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString("hex");
}

function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<webcrypto.CryptoKeyPair>;
}

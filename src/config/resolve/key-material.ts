/**
 * Key material: secrets, keys and certificates, written inline or in the files that `_file` keys name.
 *
 * - Pure: files are read through a function that the caller passes.
 * - A message never contains a secret.
 * - It refuses secrets that are too short, made of one repeated byte, or published as an example.
 * - It refuses files that cannot be read, and certificates and keys that do not parse or do not belong together.
 * - It warns of a secret file that every user of the machine can read.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import type { TlsFiles } from "../config.ts";
import type { Path, ProblemReporter } from "../source/source-locations.ts";

/** `mode` is the file's permission bits. */
export type FileContent = Readonly<{ ok: true; text: string; mode: number } | { ok: false; reason: string }>;
export type ReadFile = (path: string) => FileContent;

/** Text and the path of the key that it came from. */
export type SourcedText = Readonly<{ text: string; path: Path }>;

const fileLengthMax = 1024 * 1024;

/** The only secret that the documentation shows: base64 of a text that says it is an example. */
export const exampleSecret = Buffer.from("example-only-do-not-use-32-bytes").toString("base64");
/** SHA-256 of the public halves of signing keys published in Pomerium's documentation. */
const publishedSigningKeys: ReadonlySet<string> = new Set([
  "065be3ac3d98e12b70d66637f2eb8c225933d4921c4bb0ff450e8a14105cf71d",
]);

export class KeyMaterial {
  readonly #report: ProblemReporter;
  readonly #readFile: ReadFile;
  readonly #now: number | undefined;
  /** @param now wall clock (ms) for checking the validity dates of certificates; undefined: dates are not checked */
  constructor(report: ProblemReporter, readFile: ReadFile, now?: number) {
    this.#report = report;
    this.#readFile = readFile;
    this.#now = now;
  }

  /** The same reader for one part of the document. */
  under(...path: Path): KeyMaterial {
    return new KeyMaterial(this.#report.under(...path), this.#readFile, this.#now);
  }

  /** The value of `key`, or the content of the file that `<key>_file` names. The file wins, as in Pomerium. */
  textOrFile(
    values: Readonly<Record<string, unknown>>,
    asked: Readonly<{ key: string; fileKey?: string; secrecy: "secret" | "public" }>,
  ): SourcedText | null {
    const fileKey = asked.fileKey ?? `${asked.key}_file`;
    const inline = values[asked.key];
    const path = values[fileKey];
    if (typeof path === "string" && path !== "") {
      if (typeof inline === "string" && inline !== "") {
        this.#report.warn([asked.key], `has no effect with ${fileKey}`, "keep one of them", "key");
      }
      return this.fileText(path, { at: [fileKey], secrecy: asked.secrecy });
    }
    return typeof inline === "string" && inline !== "" ? { text: inline, path: [asked.key] } : null;
  }

  fileText(path: string, how: Readonly<{ at: Path; secrecy: "secret" | "public" }>): SourcedText | null {
    const content = this.#readFile(path);
    if (!content.ok) {
      this.#report.error(
        how.at,
        `the file ${path} cannot be read: ${content.reason}`,
        "correct the path or the permissions",
      );
      return null;
    }
    if (content.text.length > fileLengthMax) {
      this.#report.error(how.at, `the file ${path} is longer than 1 MiB`, "is this the right file?");
      return null;
    }
    if (content.text.trim() === "") {
      this.#report.error(how.at, `the file ${path} is empty`, "write the value into it");
      return null;
    }
    if (how.secrecy === "secret" && (content.mode & 0o004) !== 0) {
      this.#report.warn(how.at, `every user of this machine can read ${path}`, `chmod 600 ${path}`);
    }
    return { text: content.text, path: how.at };
  }

  /** Decodes a secret: 32 random bytes in base64. */
  secretBytes(found: SourcedText): Uint8Array | null {
    const text = found.text.trim();
    const bytes = /^[A-Za-z0-9+/_-]+={0,2}$/.test(text) ? Buffer.from(text, "base64") : Buffer.alloc(0);
    const remedy = "make one with: openssl rand -base64 32";
    if (bytes.length !== 32) {
      const what = bytes.length === 0 ? "is not base64" : `is ${bytes.length} bytes long, not 32`;
      this.#report.error(found.path, what, remedy);
      return null;
    }
    if (new Set(bytes).size < 8) {
      this.#report.error(found.path, "repeats a few bytes and is not a strong secret", remedy);
      return null;
    }
    if (bytes.toString("base64") === exampleSecret) {
      this.#report.error(found.path, "is the example from the documentation", remedy);
      return null;
    }
    return new Uint8Array(bytes);
  }

  /** Checks a private key for signing assertions, and returns it as PEM. */
  signingKey(found: SourcedText): string | null {
    const pem = pemOf(found.text);
    const key = pem === null ? null : readKey(pem);
    const remedy = "make one with: openssl ecparam -genkey -name prime256v1 -noout";
    if (pem === null || key === null) {
      this.#report.error(found.path, "is not a private key in PEM, or base64 of it", remedy);
      return null;
    }
    const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
    const usable =
      (key.asymmetricKeyType === "ec" && namedCurve === "prime256v1") ||
      (key.asymmetricKeyType === "rsa" && modulusLength >= 2048);
    if (!usable) {
      this.#report.error(found.path, "is neither a P-256 key nor an RSA key of 2048 bits or more", remedy);
      return null;
    }
    const spki = createPublicKey(key).export({ type: "spki", format: "der" });
    if (publishedSigningKeys.has(createHash("sha256").update(spki).digest("hex"))) {
      this.#report.error(found.path, "is published as an example, so anyone can sign with it", remedy);
      return null;
    }
    return pem;
  }

  /** Checks the certificates of authorities, and returns them as PEM. */
  authorities(found: SourcedText | null): string | null {
    if (found === null) return null;
    const pem = pemOf(found.text);
    const blocks = pem?.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
    if (pem !== null && blocks.length > 0 && blocks.every((block) => readCertificate(block) !== null)) return pem;
    this.#report.error(found.path, "contains no readable certificate", "write PEM, or base64 of it");
    return null;
  }

  /** A certificate and its key. A key that does not belong to the certificate is an error. */
  pair(cert: SourcedText | null, key: SourcedText | null, at: Path): TlsFiles | null {
    if (cert === null && key === null) return null;
    if (cert === null || key === null) {
      const [here, missing] = cert === null ? [key, "certificate"] : [cert, "key"];
      this.#report.error(here?.path ?? at, `is set without a ${missing}`, `set the ${missing} too`);
      return null;
    }
    const certPem = pemOf(cert.text);
    const keyPem = pemOf(key.text);
    const certificate = certPem === null ? null : readCertificate(certPem);
    const privateKey = keyPem === null ? null : readKey(keyPem);
    if (certPem === null || certificate === null)
      this.#report.error(
        cert.path,
        "is not a certificate in PEM, or base64 of it",
        "write the certificate with its chain",
      );
    if (keyPem === null || privateKey === null)
      this.#report.error(
        key.path,
        "is not a private key in PEM, or base64 of it",
        "write the key without a passphrase",
      );
    if (certPem === null || keyPem === null || certificate === null || privateKey === null) return null;
    if (!certificate.checkPrivateKey(privateKey)) {
      this.#report.error(key.path, "is not the key of this certificate", "use the key that was created with it");
      return null;
    }
    this.#checkDates(certificate, cert.path);
    if (certificate.raw.includes(tlsFeatureOid))
      this.#report.warn(
        cert.path,
        "demands an OCSP response in each handshake, which this server does not send, so some clients refuse it",
        "request a certificate without that demand (must-staple)",
      );
    return { cert: certPem, key: keyPem };
  }

  /** Only warns: an expired certificate of one site must not stop the other sites. */
  #checkDates({ validFromDate, validToDate }: X509Certificate, at: Path): void {
    const day = (date: Date): string => date.toISOString().slice(0, 10);
    if (this.#now === undefined) return;
    if (validToDate.getTime() <= this.#now)
      this.#report.warn(at, `expired on ${day(validToDate)}, so browsers refuse it`, "renew it");
    if (validFromDate.getTime() > this.#now)
      this.#report.warn(
        at,
        `is not valid before ${day(validFromDate)}`,
        "correct the clock, or use the previous certificate",
      );
  }
}

/** DER of 1.3.6.1.5.5.7.1.24: the extension by which a certificate demands a stapled response (RFC 7633 §4). */
const tlsFeatureOid = Buffer.from("06082b06010505070118", "hex");

/** PEM, decoded from base64 if necessary; null when the text is neither. */
export function pemOf(text: string): string | null {
  const trimmed = text.trim();
  if (trimmed.includes("-----BEGIN ")) return `${trimmed}\n`;
  const decoded = /^[A-Za-z0-9+/=\s]+$/.test(trimmed) ? Buffer.from(trimmed, "base64").toString("utf8") : "";
  return decoded.includes("-----BEGIN ") ? `${decoded.trim()}\n` : null;
}

function readKey(pem: string): KeyObject | null {
  try {
    return createPrivateKey(pem);
  } catch {
    return null;
  }
}

/** @returns null when the first PEM block is not a certificate */
export function readCertificate(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem);
  } catch {
    return null;
  }
}

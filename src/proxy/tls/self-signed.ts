/**
 * Self-signed certificate: what TLS uses when no certificate is configured, as in Pomerium.
 *
 * The key is derived from the shared secret, so every process of an installation has the same one and an operator can
 * pin it. No browser trusts the certificate. It is an X.509 version 3 certificate (RFC 5280) in DER (X.690).
 */
import { createHash, createPublicKey, sign } from "node:crypto";
import { deriveKey } from "../../auth/index.ts";
import type { TlsFiles } from "../../config/index.ts";

/** Names beyond this number are omitted; a handshake for one of them still gets this certificate. */
const namesMax = 200;

export function selfSignedCertificate(sharedSecret: Uint8Array, hosts: readonly string[]): TlsFiles {
  const key = deriveKey(sharedSecret, "cardea-self-signed-serving-certificate");
  const subjectKey = createPublicKey(key).export({ type: "spki", format: "der" });
  const names = [...new Set(hosts)].filter(isDnsName).slice(0, namesMax);
  const algorithm = sequence(oid(ecdsaWithSha256));
  const name = sequence(set(sequence(oid(commonName), der(0x0c, Buffer.from("Cardea self-signed")))));
  const serial = createHash("sha256").update(subjectKey).update(names.join("\n")).digest().subarray(0, 16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive and of full length
  const signed = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name,
    sequence(utcTime("200101000000Z"), utcTime("491231235959Z")),
    name,
    subjectKey,
    der(0xa3, sequence(...extensionsFor(names.length === 0 ? ["cardea.invalid"] : names))),
  );
  const signature = sign("sha256", signed, key);
  const certificate = sequence(signed, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const body = certificate.toString("base64").replace(/.{1,64}/g, "$&\n");
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${body}-----END CERTIFICATE-----\n`,
    key: key.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

const ecdsaWithSha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const commonName = [0x55, 0x04, 0x03];
const basicConstraints = [0x55, 0x1d, 0x13];
const subjectAltName = [0x55, 0x1d, 0x11];
const extendedKeyUsage = [0x55, 0x1d, 0x25];
const serverAuth = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/** Extensions: not an authority, these names, server authentication only. */
function extensionsFor(names: readonly string[]): readonly Buffer[] {
  const extension = (id: readonly number[], value: Buffer): Buffer => sequence(oid(id), der(0x04, value));
  return [
    extension(basicConstraints, sequence()),
    extension(subjectAltName, sequence(...names.map((name) => der(0x82, Buffer.from(name, "ascii"))))),
    extension(extendedKeyUsage, sequence(oid(serverAuth))),
  ];
}

function isDnsName(host: string): boolean {
  return /^(?:\*\.)?(?:[a-z0-9_-]{1,63}\.)*[a-z0-9-]{1,63}$/.test(host) && !/^[0-9.]+$/.test(host);
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, Math.floor(length / 0x100), length % 0x100];
  return Buffer.concat([Buffer.from([tag]), Buffer.from(size), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function set(...parts: readonly Buffer[]): Buffer {
  return der(0x31, Buffer.concat(parts));
}

function oid(bytes: readonly number[]): Buffer {
  return der(0x06, Buffer.from(bytes));
}

function utcTime(text: string): Buffer {
  return der(0x17, Buffer.from(text, "ascii"));
}

/**
 * SSH keys for policy: public keys by their wire format; user certificates by authority, principals and validity.
 *
 * - The wire format is parsed here; Node's crypto checks every signature.
 * - RSA certificates must be signed with SHA-2, as OpenSSH demands.
 * - An unknown critical option refuses the certificate.
 * @see RFC 4251 §5, RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709; OpenSSH, PROTOCOL.certkeys
 */
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import type { UnixMs } from "../../../../events/index.ts";

/** One public key in base64 of its wire format. */
export type WireKey = string;

/** The key of the first line that holds one, without options and comment; undefined: no key. */
export function parseAuthorizedKey(text: string): WireKey | undefined {
  for (const line of text.split("\n").map((each) => each.trim())) {
    if (line === "" || line.startsWith("#")) continue;
    const words = line.split(/\s+/);
    const at = words.findIndex((word) => keyType.test(word));
    const [type, base64 = ""] = at < 0 ? [] : words.slice(at);
    const wire = decodeBase64(base64);
    return type !== undefined && wire !== undefined && typeOf(wire) === type ? wire.toString("base64") : undefined;
  }
  return undefined;
}

const keyType = /^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+$/;

/** Parses a key as a server presents it: base64 of the wire format, or a line of `authorized_keys`. */
export function parsePresentedKey(text: string): WireKey | undefined {
  const wire = decodeBase64(text.trim());
  return wire !== undefined && typeOf(wire) !== undefined ? wire.toString("base64") : parseAuthorizedKey(text);
}

export type UserCertificate = Readonly<{
  /** User names that it is valid for. Empty means none, since no operator intends a key for every name. */
  principals: readonly string[];
  validFrom: UnixMs;
  /** Exclusive; null: no expiry. */
  validUntil: UnixMs | null;
  /** Addresses that it may be used from; null: any. */
  sourceAddresses: readonly string[] | null;
  /** The authority's key. */
  authority: WireKey;
}>;

/** @returns undefined: not a user certificate, or its signature is invalid */
export function readUserCertificate(key: WireKey): UserCertificate | undefined {
  try {
    return readCertificate(Buffer.from(key, "base64"));
  } catch {
    return undefined;
  }
}

/** Number of key fields before the certificate's own fields, by key type. */
const keyFields: Readonly<Record<string, number>> = {
  "ssh-ed25519-cert-v01@openssh.com": 1,
  "sk-ssh-ed25519-cert-v01@openssh.com": 2,
  "ecdsa-sha2-nistp256-cert-v01@openssh.com": 2,
  "ecdsa-sha2-nistp384-cert-v01@openssh.com": 2,
  "ecdsa-sha2-nistp521-cert-v01@openssh.com": 2,
  "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com": 3,
  "ssh-rsa-cert-v01@openssh.com": 2,
};
const userCertificate = 1;
const forever = 2n ** 64n - 1n;
/** The largest time of a Date, in seconds. */
const secondsMax = 8_640_000_000_000n;

function readCertificate(wire: Buffer): UserCertificate | undefined {
  const reader = new Reader(wire);
  const fields = keyFields[reader.text()];
  if (fields === undefined) return undefined;
  reader.bytes(); // nonce
  for (let i = 0; i < fields; i++) reader.bytes();
  reader.uint64(); // serial
  const kind = reader.uint32();
  reader.bytes(); // key id
  const principals = reader.list();
  const validAfter = reader.uint64();
  const validBefore = reader.uint64();
  const options = readOptions(reader.bytes());
  reader.bytes(); // extensions
  reader.bytes(); // reserved
  const authority = reader.bytes();
  const signed = wire.subarray(0, reader.at);
  const signature = reader.bytes();
  if (!reader.ended || kind !== userCertificate || options === undefined) return undefined;
  if (validAfter > secondsMax || (validBefore !== forever && validBefore > secondsMax)) return undefined;
  if (!isSignedBy(authority, signed, signature)) return undefined;
  return {
    principals,
    validFrom: (Number(validAfter) * 1_000) as UnixMs,
    validUntil: validBefore === forever ? null : ((Number(validBefore) * 1_000) as UnixMs),
    sourceAddresses: options.sourceAddresses,
    authority: authority.toString("base64"),
  };
}

/** Undefined: an unknown critical option. */
function readOptions(bytes: Buffer): Pick<UserCertificate, "sourceAddresses"> | undefined {
  const reader = new Reader(bytes);
  let sourceAddresses: readonly string[] | null = null;
  while (!reader.ended) {
    const name = reader.text();
    const value = new Reader(reader.bytes());
    if (name !== "source-address") return undefined;
    sourceAddresses = value.text().split(",");
  }
  return { sourceAddresses };
}

const curves: Readonly<Record<string, Readonly<{ crv: string; bytes: number; hash: string }>>> = {
  "ecdsa-sha2-nistp256": { crv: "P-256", bytes: 32, hash: "sha256" },
  "ecdsa-sha2-nistp384": { crv: "P-384", bytes: 48, hash: "sha384" },
  "ecdsa-sha2-nistp521": { crv: "P-521", bytes: 66, hash: "sha512" },
};
const rsaHashes: Readonly<Record<string, string>> = { "rsa-sha2-256": "sha256", "rsa-sha2-512": "sha512" };

function isSignedBy(authority: Buffer, signed: Buffer, signature: Buffer): boolean {
  const key = new Reader(authority);
  const type = key.text();
  const parts = new Reader(signature);
  const algorithm = parts.text();
  const blob = parts.bytes();
  if (!parts.ended) return false;
  const curve = curves[type];
  if (curve !== undefined) {
    key.bytes(); // the curve's name once more
    const point = key.bytes();
    if (algorithm !== type || point.length !== 1 + 2 * curve.bytes || point[0] !== 4) return false;
    const [x, y] = [point.subarray(1, 1 + curve.bytes), point.subarray(1 + curve.bytes)].map(base64url);
    const numbers = new Reader(blob);
    const dsaEncoding = "ieee-p1363";
    const both = Buffer.concat([numbers.number(curve.bytes), numbers.number(curve.bytes)]);
    return verify(curve.hash, signed, { key: jwk({ kty: "EC", crv: curve.crv, x, y }), dsaEncoding }, both);
  }
  if (type === "ssh-ed25519") {
    return (
      algorithm === type && verify(null, signed, jwk({ kty: "OKP", crv: "Ed25519", x: base64url(key.bytes()) }), blob)
    );
  }
  const hash = rsaHashes[algorithm];
  if (type !== "ssh-rsa" || hash === undefined) return false;
  const [e, n] = [key.number(), key.number()];
  return n.length >= 256 && verify(hash, signed, jwk({ kty: "RSA", e: base64url(e), n: base64url(n) }), blob);
}

function jwk(key: Readonly<Record<string, string | undefined>>): KeyObject {
  return createPublicKey({ format: "jwk", key });
}

function base64url(bytes: Buffer): string {
  return bytes.toString("base64url");
}

function decodeBase64(text: string): Buffer | undefined {
  if (text === "" || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  return Buffer.from(text, "base64");
}

/** The type named in a key; undefined: not a key. */
function typeOf(wire: Buffer): string | undefined {
  try {
    const type = new Reader(wire).text();
    return keyType.test(type) ? type : undefined;
  } catch {
    return undefined;
  }
}

/** Reader of RFC 4251 §5 data types. Throws a RangeError past the end. */
class Reader {
  at = 0;
  readonly #wire: Buffer;
  constructor(wire: Buffer) {
    this.#wire = wire;
  }
  get ended(): boolean {
    return this.at === this.#wire.length;
  }
  uint32(): number {
    const value = this.#wire.readUInt32BE(this.at);
    this.at += 4;
    return value;
  }
  uint64(): bigint {
    const value = this.#wire.readBigUInt64BE(this.at);
    this.at += 8;
    return value;
  }
  bytes(): Buffer {
    const length = this.uint32();
    if (length > this.#wire.length - this.at) throw new RangeError("a field is longer than what is left");
    this.at += length;
    return this.#wire.subarray(this.at - length, this.at);
  }
  text(): string {
    return this.bytes().toString("utf8");
  }
  list(): readonly string[] {
    const inner = new Reader(this.bytes());
    const items: string[] = [];
    while (!inner.ended) items.push(inner.text());
    return items;
  }
  /** An integer without leading zeros, or padded to a fixed length. */
  number(length?: number): Buffer {
    const bytes = this.bytes();
    const start = bytes.findIndex((byte) => byte !== 0);
    const digits = start < 0 ? Buffer.alloc(0) : bytes.subarray(start);
    if (length === undefined) return digits;
    if (digits.length > length) throw new RangeError("a number is too long");
    return Buffer.concat([Buffer.alloc(length - digits.length), digits]);
  }
}

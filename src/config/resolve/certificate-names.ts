/** The names that a certificate is for. Pure. */
import type { X509Certificate } from "node:crypto";
import { SocketAddress } from "node:net";

/** By kind, as Node prints them: `DNS`, `email`, `URI`, `IP Address`, `othername`. */
export type SubjectNames = ReadonlyMap<string, readonly string[]>;

/**
 * Splits Node's `DNS:a.example, URI:"http://b/, c"` form: a value that holds a comma, a quote or a control character is
 * written as a JSON string, so that no certificate can smuggle in a second name. What does not read through to the end
 * has no names at all.
 * @see Node.js documentation, `x509.subjectAltName`; CVE-2021-44532
 */
export function readSubjectNames(text: string): SubjectNames {
  const names = new Map<string, string[]>();
  const name = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/y;
  while (name.lastIndex < text.length) {
    const [, kind, value] = name.exec(text) ?? [];
    if (kind === undefined || value === undefined) return new Map();
    const plain: unknown = value.startsWith('"') ? JSON.parse(value) : value;
    if (typeof plain === "string") names.set(kind, [...(names.get(kind) ?? []), plain]);
  }
  return names;
}

/** What a server may show a certificate for; names are lowercase and may begin with `*.`, addresses are canonical. */
export function servedNames(
  certificate: Pick<X509Certificate, "subjectAltName" | "subject">,
): Readonly<{ hosts: readonly string[]; addresses: readonly string[] }> {
  const names = readSubjectNames(certificate.subjectAltName ?? "");
  const hosts = (names.get("DNS") ?? []).map((name) => name.toLowerCase());
  const addresses = (names.get("IP Address") ?? []).map(canonicalAddress);
  if (hosts.length > 0 || addresses.length > 0) return { hosts, addresses };
  const common = /^CN=(.+)$/m.exec(certificate.subject ?? "")?.[1];
  return { hosts: common === undefined ? [] : [common.toLowerCase()], addresses };
}

/** An address in one spelling, IPv4 in IPv6 as IPv4. What is no address stays as it is. */
export function canonicalAddress(address: string): string {
  if (!address.includes(":")) return address;
  const bare = address.replace(/%.*$/, "");
  const parsed = SocketAddress.parse(`[${bare}]:0`)?.address ?? bare;
  return parsed.replace(/^::ffff:(?=\d+\.)/, "");
}

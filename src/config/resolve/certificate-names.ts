/** Certificate names: the subject alternative names of a certificate. Pure. */
import type { X509Certificate } from "node:crypto";
import { SocketAddress } from "node:net";

/** Names by kind, with the kinds as Node prints them: `DNS`, `email`, `URI`, `IP Address`, `othername`. */
export type SubjectNames = ReadonlyMap<string, readonly string[]>;

/**
 * Parses Node's `DNS:a.example, URI:"http://b/, c"` form. Node writes a value that contains a comma, a quote or a
 * control character as a JSON string, so a certificate cannot smuggle in a second name. Text that does not parse to its
 * end yields no names.
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

/**
 * The hosts and addresses that a server certificate covers. Hosts are lowercase and may begin with `*.`; addresses are
 * canonical. The common name counts only when there are no DNS names and no addresses.
 */
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

/** The canonical spelling of an address. IPv4-mapped IPv6 becomes IPv4; other text is returned unchanged. */
export function canonicalAddress(address: string): string {
  if (!address.includes(":")) return address;
  const bare = address.replace(/%.*$/, "");
  const parsed = SocketAddress.parse(`[${bare}]:0`)?.address ?? bare;
  return parsed.replace(/^::ffff:(?=\d+\.)/, "");
}

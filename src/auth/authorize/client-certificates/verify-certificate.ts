/**
 * Certificate chain check for policy tests: whether a chain leads from a given certificate to an authority.
 *
 * It is only for trying policies out. On a connection TLS verifies the chain, with more checks (path lengths, name
 * constraints). Node's crypto checks every signature. Pure: the moment is an argument. docs/pomerium-behaviour.md §6.8
 */
import { X509Certificate } from "node:crypto";
import type { UnixMs } from "../../../events/index.ts";

/** Bound of the search, beyond any real chain. */
const depthLimit = 10;
const clientAuth = "1.3.6.1.5.5.7.3.2";
const anyUsage = "2.5.29.37.0";

/**
 * @param authorities PEM, one or more certificates
 * @returns a shortest chain from the certificate to the authority; undefined: no chain is valid at this moment
 */
export function chainToAuthority(
  shown: Readonly<{ leaf: string; intermediates: string }>,
  authorities: string,
  now: UnixMs,
): readonly X509Certificate[] | undefined {
  const leaf = certificatesIn(shown.leaf)[0];
  if (leaf === undefined || !isUsable(leaf, now)) return undefined;
  const roots = certificatesIn(authorities);
  const others = certificatesIn(shown.intermediates);
  const isRoot = (certificate: X509Certificate): boolean => roots.some(({ raw }) => raw.equals(certificate.raw));
  let chains: readonly (readonly X509Certificate[])[] = [[leaf]];
  for (let depth = 0; depth <= depthLimit; depth++) {
    const found = chains.find((chain) => isRoot(chain.at(-1) ?? leaf));
    if (found !== undefined) return found;
    chains = chains.flatMap((chain) => {
      const last = chain.at(-1) ?? leaf;
      const above = [...roots, ...others].filter((each) => !chain.includes(each) && isUsable(each, now));
      return above.filter((issuer) => isIssuedBy(last, issuer)).map((issuer) => [...chain, issuer]);
    });
  }
  return undefined;
}

/** Whether the PEM parses; needs no authority. */
export function isCertificate(pem: string): boolean {
  return certificatesIn(pem).length > 0;
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isUsable({ validFromDate, validToDate, keyUsage }: X509Certificate, now: UnixMs): boolean {
  const inTime = validFromDate.getTime() <= now && now <= validToDate.getTime();
  // Node types it as always present; without the extension it is undefined, and every usage is allowed.
  const usages: readonly string[] | undefined = keyUsage;
  return inTime && (usages === undefined || usages.includes(clientAuth) || usages.includes(anyUsage));
}

function certificatesIn(text: string): readonly X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return blocks.flatMap((block) => {
    try {
      return [new X509Certificate(block)];
    } catch {
      return [];
    }
  });
}

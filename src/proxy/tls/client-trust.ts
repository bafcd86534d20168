/**
 * Client trust: whether a caller's certificate is valid for one authority and the settings common to all. Pure.
 *
 * TLS has verified the certificate against all authorities together (presented-certificate.ts). Here it must chain to
 * this authority within `max_verify_depth`, have a matching name, and not be revoked. The check runs once per
 * connection and configuration; a certificate that expires on an open connection stops being valid.
 */
import { X509Certificate } from "node:crypto";
import { RE2JS } from "re2js";
import type { DecisionRequest } from "../../auth/index.ts";
import {
  type Config,
  canonicalAddress,
  type DownstreamMtls,
  type RouteConfig,
  type SubjectNames,
  type SubjectNameType,
} from "../../config/index.ts";
import type { PresentedCertificate } from "./presented-certificate.ts";
import { RevocationLists } from "./revocation-lists.ts";

type Judged = Readonly<{
  /** Unix time in ms at which it expires; 0: it is not valid. */
  validUntil: number;
  valid: NonNullable<DecisionRequest["clientCertificate"]>;
  invalid: NonNullable<DecisionRequest["clientCertificate"]>;
}>;

const nothingShown = { presented: false, valid: false, leafPem: "" } as const;

export class ClientTrust {
  readonly #anchors: readonly X509Certificate[];
  readonly #revoked: RevocationLists;
  readonly #hasWantedName: (names: SubjectNames) => boolean;
  readonly #depthMax: number;
  /** One object for the life of a connection; policy caches parsed facts by its identity. */
  readonly #judged = new WeakMap<PresentedCertificate, Judged>();

  /** @param authorities PEM; any one of them is sufficient */
  constructor(
    authorities: readonly string[],
    settings: Readonly<Pick<DownstreamMtls, "matchSubjectAltNames" | "maxVerifyDepth"> & { revoked: RevocationLists }>,
  ) {
    this.#anchors = authorities.flatMap(certificatesIn);
    this.#revoked = settings.revoked;
    this.#hasWantedName = compileNames(settings.matchSubjectAltNames);
    this.#depthMax = settings.maxVerifyDepth === 0 ? Infinity : settings.maxVerifyDepth;
  }

  /** The certificate as policy sees it. */
  judge(presented: PresentedCertificate | null, now: number): NonNullable<DecisionRequest["clientCertificate"]> {
    if (presented === null) return nothingShown;
    let judged = this.#judged.get(presented);
    if (judged === undefined) {
      const { leafPem } = presented;
      judged = {
        validUntil: this.#validUntil(presented),
        valid: { presented: true, valid: true, leafPem },
        invalid: { presented: true, valid: false, leafPem },
      };
      this.#judged.set(presented, judged);
    }
    return now < judged.validUntil ? judged.valid : judged.invalid;
  }

  /** Unverified certificates are withheld from policy, since a caller can put any name into its own certificate. */
  trusted(presented: PresentedCertificate | null, now: number): PresentedCertificate | null {
    return this.judge(presented, now).valid ? presented : null;
  }

  #validUntil(presented: PresentedCertificate): number {
    if (!presented.verified) return 0;
    const path = this.#pathOf(presented);
    if (path === undefined || path.length - 1 > this.#depthMax || !this.#hasWantedName(presented.names)) return 0;
    const [leaf, issuer] = path;
    if (leaf !== undefined && issuer !== undefined && this.#revoked.isRevoked(leaf, issuer)) return 0;
    return Math.min(...path.map(({ validToDate }) => validToDate.getTime()));
  }

  /** The shortest chain from the certificate to an authority. Each certificate has signed the one before it. */
  #pathOf({ leaf, above }: PresentedCertificate): readonly X509Certificate[] | undefined {
    const path: X509Certificate[] = [];
    for (const certificate of [leaf, ...above]) {
      const last = path.at(-1);
      if (last !== undefined && !(certificate.ca && hasIssued(certificate, last))) return undefined;
      path.push(certificate);
      if (this.#anchors.some(({ raw }) => raw.equals(certificate.raw))) return path;
      const anchor = this.#anchors.find((each) => hasIssued(each, certificate));
      if (anchor !== undefined) return [...path, anchor];
    }
    return undefined;
  }
}

/** The client trust of each route of a configuration. */
export type ClientTrusts = Readonly<{
  /** Null: the route verifies no certificate. */
  of(route: Pick<RouteConfig, "clientCa">): ClientTrust | null;
  /** PEM of the authorities of all routes; empty: no certificate is requested. */
  authorities: readonly string[];
  /** Refuses connections without a certificate that some route accepts; null: every connection is accepted. */
  door: ClientTrust | null;
}>;

export function compileClientTrusts({
  downstreamMtls,
  routes,
}: Pick<Config, "downstreamMtls" | "routes">): ClientTrusts {
  const { ca, crl, enforcement } = downstreamMtls;
  const settings = { ...downstreamMtls, revoked: new RevocationLists(crl) };
  const authorities = [...new Set([ca, ...routes.map(({ clientCa }) => clientCa)])].filter((pem) => pem !== null);
  const byAuthority = new Map(authorities.map((pem) => [pem, new ClientTrust([pem], settings)]));
  return {
    of: ({ clientCa }) => (clientCa === null ? null : (byAuthority.get(clientCa) ?? null)),
    authorities,
    door: enforcement === "reject_connection" && authorities.length > 0 ? new ClientTrust(authorities, settings) : null,
  };
}

function hasIssued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  try {
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  } catch {
    return false;
  }
}

function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/** Node's names for Pomerium's name types. */
const printedTypes: Readonly<Record<SubjectNameType, string>> = {
  dns: "DNS",
  email: "email",
  ip_address: "IP Address",
  uri: "URI",
  user_principal_name: "othername",
};

function namesOf(names: SubjectNames, type: SubjectNameType): readonly string[] {
  const printed = names.get(printedTypes[type]) ?? [];
  if (type === "ip_address") return printed.map(canonicalAddress);
  if (type !== "user_principal_name") return printed;
  return printed.flatMap((name) => (name.startsWith("UPN:") ? [name.slice("UPN:".length)] : []));
}

function compileNames(wanted: DownstreamMtls["matchSubjectAltNames"]): (names: SubjectNames) => boolean {
  if (wanted.length === 0) return () => true;
  const patterns = wanted.map(({ type, pattern }) => ({ type, expression: RE2JS.compile(pattern) }));
  return (names) =>
    patterns.some(({ type, expression }) => namesOf(names, type).some((name) => expression.testExact(name)));
}

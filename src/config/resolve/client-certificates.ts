/**
 * Client certificate settings: the authorities that verify callers' certificates, for all routes and for one route.
 *
 * Pure. Refuses settings that would verify no caller, and authorities on a listener without TLS.
 */
import type { X509Crl } from "@peculiar/x509";
import type { Config, RouteConfig } from "../config.ts";
import type { Globals, Route } from "../schema/schema.ts";
import type { Path, ProblemReporter } from "../source/source-locations.ts";
import { certificateReader } from "./certificate-reader.ts";
import { type KeyMaterial, pemOf, type SourcedText } from "./key-material.ts";

type From = Readonly<{ report: ProblemReporter; material: KeyMaterial }>;

export function resolveClientCertificates(globals: Globals, { report, material }: From): Config["downstreamMtls"] {
  const written = globals.downstream_mtls;
  const inside = material.under("downstream_mtls");
  for (const key of ["ca", "crl"] as const) {
    if (isSet(written[key]) && isSet(written[`${key}_file`]))
      report.error(["downstream_mtls", `${key}_file`], `cannot be combined with ${key}`, "keep one of them", "key");
  }
  const ca = inside.authorities(inside.textOrFile(written, { key: "ca", secrecy: "public" }));
  const crl = revocationLists(
    inside.textOrFile(written, { key: "crl", secrecy: "public" }),
    report.under("downstream_mtls"),
  );
  if (ca !== null && globals.insecure_server)
    report.error(
      ["downstream_mtls"],
      "needs TLS, and this listener serves plain HTTP, so no caller could present a certificate",
      "remove insecure_server and name certificates, or remove this",
      "key",
    );
  return {
    ca,
    crl,
    enforcement: written.enforcement,
    matchSubjectAltNames: written.match_subject_alt_names,
    maxVerifyDepth: written.max_verify_depth,
  };
}

/** The authority that verifies one route's callers. It replaces the global authority. */
export function resolveRouteClientCertificates(
  route: Route,
  { report, material, globals, all }: From & Readonly<{ globals: Globals; all: Config["downstreamMtls"] }>,
): Pick<RouteConfig, "clientCa" | "requiresClientCertificate"> {
  const own = material.authorities(material.textOrFile(route, { key: "tls_downstream_client_ca", secrecy: "public" }));
  if (own !== null && globals.insecure_server)
    report.error(
      [isSet(route.tls_downstream_client_ca_file) ? "tls_downstream_client_ca_file" : "tls_downstream_client_ca"],
      "needs TLS, and this listener serves plain HTTP, so no caller could present a certificate",
      "remove insecure_server and name certificates, or remove this",
    );
  const clientCa = own ?? all.ca;
  return { clientCa, requiresClientCertificate: clientCa !== null && all.enforcement !== "policy" };
}

/** Runs once all routes are known, because settings without any authority would let every caller through. */
export function checkClientCertificates(
  present: ReadonlySet<string>,
  from: Readonly<{ report: ProblemReporter; routes: readonly Pick<RouteConfig, "clientCa">[] }>,
): void {
  if (!present.has("downstream_mtls") || from.routes.some(({ clientCa }) => clientCa !== null)) return;
  if (from.report.hasErrors) return;
  from.report.error(
    ["downstream_mtls"],
    "names no authority, so no certificate would be requested",
    "write ca or ca_file, or remove it",
    "key",
  );
}

const isSet = (value: unknown): boolean => typeof value === "string" && value !== "";

function revocationLists(found: SourcedText | null, report: ProblemReporter): string | null {
  if (found === null) return null;
  const pem = pemOf(found.text);
  const { X509Crl } = certificateReader();
  const blocks = pem?.match(/-----BEGIN X509 CRL-----[\s\S]*?-----END X509 CRL-----/g) ?? [];
  if (pem !== null && blocks.length > 0 && blocks.every((block) => isRevocationList(block, X509Crl))) return pem;
  const at: Path = found.path;
  report.error(at, "contains no readable revocation list", "write PEM, or base64 of it");
  return null;
}

function isRevocationList(pem: string, List: typeof X509Crl): boolean {
  try {
    return new List(pem).issuer !== undefined;
  } catch {
    return false;
  }
}

/**
 * Process settings: the listener with its certificates, the redirect to https, response headers and runtime flags.
 *
 * Pure. Refuses unknown flags. Warns of TLS without a certificate, and of plain HTTP that other machines can reach.
 */
import type { Config, TlsFiles } from "../config.ts";
import { type Globals, runtimeFlags } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { type HostPort, isLoopback } from "../values/network-values.ts";
import { unknownKeyRemedy } from "../values/suggest.ts";
import type { KeyMaterial } from "./key-material.ts";
import { checkUpgrades } from "./upgrades.ts";
import { framingHeaders, settableHeaders } from "./upstream.ts";

export type ProcessPart = Readonly<{
  address: HostPort;
  certificates: readonly TlsFiles[];
  certificateAuthority: string | null;
  matchAnyIncomingPort: boolean;
  /** Headers of every response, without those that a route adds. */
  responseHeaders: Readonly<Record<string, string>>;
}>;

export function resolveProcess(
  globals: Globals,
  from: Readonly<{ report: ProblemReporter; material: KeyMaterial; failed: ReadonlySet<string> }>,
): ProcessPart {
  const { report, material } = from;
  const address = globals.address ?? { host: "0.0.0.0", port: globals.insecure_server ? 80 : 443 };
  const certificates = readCertificates(globals, material);
  const facesPeople = globals.services.has("proxy") || globals.services.has("authenticate");
  const certificateKeys = [
    "certificate",
    "certificate_file",
    "certificates",
    "certificate_key",
    "certificate_key_file",
  ];
  const named = certificateKeys.some((key) => globals[key as keyof Globals] !== undefined || from.failed.has(key));
  const canServe = named || globals.autocert || from.failed.has("autocert");
  if (facesPeople && !globals.insecure_server && !from.failed.has("insecure_server") && !canServe) {
    report.warn(
      ["certificates"],
      "is missing, so TLS is served with a self-signed certificate, which no browser trusts",
      "name a certificate and key, set autocert: true, or set insecure_server: true behind a load balancer that ends TLS",
      "key",
    );
  }
  if (facesPeople && globals.insecure_server && !isLoopback(address.host)) {
    report.warn(
      ["insecure_server"],
      `plain HTTP is served on ${address.host}:${address.port}`,
      "let only a load balancer that ends TLS reach it, or bind address to loopback",
      "key",
    );
  }
  for (const name of Object.keys(globals.jwt_claims_headers)) {
    const ours = framingHeaders.has(name) || ["host", "cookie", "x-pomerium-jwt-assertion"].includes(name);
    if (ours)
      report.error(["jwt_claims_headers"], `${name} is a header that the proxy itself must set`, "use another header");
  }
  checkUpgrades(globals.allow_upgrades, report);
  return {
    address,
    certificates,
    certificateAuthority: material.authorities(
      material.textOrFile(globals, { key: "certificate_authority", secrecy: "public" }),
    ),
    matchAnyIncomingPort: checkFlags(globals, report),
    responseHeaders: resolveResponseHeaders(globals, { certificates, report }),
  };
}

function readCertificates(globals: Globals, material: KeyMaterial): readonly TlsFiles[] {
  const single = material.pair(
    material.textOrFile(globals, { key: "certificate", secrecy: "public" }),
    material.textOrFile(globals, { key: "certificate_key", secrecy: "secret" }),
    ["certificate"],
  );
  const listed = (globals.certificates ?? []).map(({ cert, key }, i) => {
    const at = ["certificates", i];
    return material.pair(
      material.fileText(cert, { at: [...at, "cert"], secrecy: "public" }),
      material.fileText(key, { at: [...at, "key"], secrecy: "secret" }),
      at,
    );
  });
  return [...listed, single].filter((pair) => pair !== null);
}

/** Pomerium's default response headers. HSTS is sent only if this process serves TLS with a trusted certificate. */
function resolveResponseHeaders(
  globals: Globals,
  { certificates, report }: Readonly<{ certificates: readonly TlsFiles[]; report: ProblemReporter }>,
): Readonly<Record<string, string>> {
  if (globals.set_response_headers !== undefined) {
    const given = settableHeaders(globals.set_response_headers, report);
    return Object.hasOwn(given, "disable") ? {} : given;
  }
  const always = { "X-Frame-Options": "SAMEORIGIN", "X-XSS-Protection": "1; mode=block" };
  const isTrusted = certificates.length > 0 || (globals.autocert && !globals.autocert_use_staging);
  if (!isTrusted || globals.insecure_server) return always;
  return { ...always, "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload" };
}

function checkFlags(globals: Globals, report: ProblemReporter): boolean {
  for (const [flag, set] of Object.entries(globals.runtime_flags)) {
    const known = Object.hasOwn(runtimeFlags, flag) ? runtimeFlags[flag] : undefined;
    if (known === undefined) {
      const written = globals.runtime_flags;
      const remedy = unknownKeyRemedy(flag, { known: Object.keys(runtimeFlags), written, otherwise: "remove it" });
      report.error(["runtime_flags", flag], "is not a known flag", remedy, "key");
    } else if (known.here !== null && known.here !== set) {
      report.warn(["runtime_flags", flag], `has no effect: ${known.otherwise}`, "remove it", "key");
    }
  }
  return globals.runtime_flags["match_any_incoming_port"] ?? true;
}

/** Checks the HTTP versions to serve, and the address that redirects to https. */
export function resolveListener(
  globals: Globals,
  from: Readonly<{ report: ProblemReporter }>,
): Pick<Config, "codecType" | "httpRedirectAddress"> {
  const { codec_type: codec, http_redirect_addr: redirect, address } = globals;
  if (codec === "http3")
    from.report.warn(["codec_type"], "HTTP/3 is not served; callers speak HTTP/2 or HTTP/1.1", "write auto", "key");
  if (redirect !== null && address !== undefined && redirect.port === address.port && redirect.host === address.host)
    from.report.error(
      ["http_redirect_addr"],
      "is the address of the listener itself",
      "write another port, such as :80",
    );
  if (redirect !== null && globals.insecure_server)
    from.report.warn(
      ["http_redirect_addr"],
      "redirects to https, which this listener does not serve",
      "redirect where TLS ends, or remove insecure_server",
      "key",
    );
  return {
    codecType: codec === "http3" ? "auto" : codec,
    httpRedirectAddress: redirect,
  };
}

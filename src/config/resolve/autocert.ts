/**
 * Autocert settings: the ACME authority, the hosts that need certificates, and the challenge types.
 *
 * - Pure.
 * - Hosts are those of https routes and of the authenticate service, as in Pomerium.
 * - Wildcard hosts and IP addresses get no certificate this way.
 * - A host that a configured certificate covers is left out.
 */
import { isIP } from "node:net";
import { join } from "node:path";
import type { AutocertConfig, RouteConfig, TlsFiles } from "../config.ts";
import type { Globals } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { servedNames } from "./certificate-names.ts";
import { type KeyMaterial, readCertificate } from "./key-material.ts";

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory";
const letsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory";

export function resolveAutocert(
  globals: Globals,
  from: Readonly<{
    report: ProblemReporter;
    material: KeyMaterial;
    routes: readonly Pick<RouteConfig, "host" | "from">[];
    certificates: readonly TlsFiles[];
    /** The host that serves sign-in over TLS; null: none. */
    signInHost: string | null;
    /** Keys that the configuration sets. */
    present: ReadonlySet<string>;
  }>,
): AutocertConfig | null {
  const { report } = from;
  const trustedCa = from.material.authorities(
    from.material.textOrFile(globals, { key: "autocert_trusted_ca", secrecy: "public" }),
  );
  if (!globals.autocert) {
    for (const key of from.present)
      if (key.startsWith("autocert_")) report.warn([key], "has no effect without autocert", "remove it", "key");
    return null;
  }
  if (globals.insecure_server) {
    report.error(
      ["autocert"],
      "gets certificates for TLS, and this listener serves plain HTTP",
      "remove insecure_server, or write false",
    );
  }
  if (globals.autocert_must_staple) {
    report.error(
      ["autocert_must_staple"],
      "requests certificates that browsers accept only with an OCSP response, which this server does not send; Let's Encrypt no longer issues them",
      "write false or remove it",
    );
  }
  const folder = globals.autocert_dir ?? join(globals.data_dir, "autocert");
  if (/^[a-z0-9]+:\/\//i.test(folder))
    report.error(
      ["autocert_dir"],
      "is not a folder; buckets are not supported by this build",
      "write the path of a folder",
    );
  return {
    directory: globals.autocert_ca ?? new URL(globals.autocert_use_staging ? letsEncryptStaging : letsEncrypt),
    email: globals.autocert_email ?? null,
    eab: resolveBinding(globals, report),
    trustedCa,
    folder,
    hosts: hostsIn(globals, from),
    challenges: globals.http_redirect_addr === null ? ["tls-alpn-01"] : ["http-01", "tls-alpn-01"],
  };
}

function resolveBinding(
  { autocert_eab_key_id: keyId, autocert_eab_mac_key: macKey }: Globals,
  report: ProblemReporter,
): AutocertConfig["eab"] {
  if (keyId === undefined && macKey === undefined) return null;
  if (keyId === undefined || macKey === undefined) {
    const [written, missing] =
      keyId === undefined
        ? ["autocert_eab_mac_key", "autocert_eab_key_id"]
        : ["autocert_eab_key_id", "autocert_eab_mac_key"];
    report.error([written], `is set without ${missing}`, "write both, as the authority issued them", "key");
    return null;
  }
  if (/^[A-Za-z0-9_-]+={0,2}$/.test(macKey)) return { keyId, macKey };
  report.error(["autocert_eab_mac_key"], "is not base64url", "write it as the authority issued it");
  return null;
}

function hostsIn(
  globals: Globals,
  {
    routes,
    certificates,
    signInHost,
  }: Readonly<{
    routes: readonly Pick<RouteConfig, "host" | "from">[];
    certificates: readonly TlsFiles[];
    signInHost: string | null;
  }>,
): readonly string[] {
  const known = certificates.flatMap(({ cert }) => {
    const certificate = readCertificate(cert);
    return certificate === null ? [] : servedNames(certificate).hosts;
  });
  const isKnown = (host: string): boolean => known.includes(host) || known.includes(host.replace(/^[^.]+/, "*"));
  const ofRoutes = routes.filter(({ from }) => from.protocol === "https:").map(({ host }) => host);
  const ownHost = signInHost !== null && globals.services.has("authenticate") ? [signInHost] : [];
  const wanted = [...ofRoutes, ...ownHost].filter(
    (host) => !host.includes("*") && isIP(host.replace(/^\[|\]$/g, "")) === 0 && !isKnown(host),
  );
  return [...new Set(wanted)].sort();
}

/**
 * Decision API settings: the addresses that serve decisions to other proxies and services, and the accepted callers.
 *
 * Pure. Refuses addresses without TLS that other machines can reach, malformed ranges, and keys that could be guessed.
 */
import { isIP } from "node:net";
import type { DecisionApiConfig } from "../config.ts";
import { configFields } from "../schema/keys.ts";
import { type Globals, globalKeys } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { isLoopback } from "../values/network-values.ts";
import type { KeyMaterial } from "./key-material.ts";

const keyCharsMin = 32;

/** @returns null when decisions are not served */
export function resolveDecisionApi(
  { decision_api: written, services }: Pick<Globals, "decision_api" | "services">,
  from: Readonly<{ report: ProblemReporter; material: KeyMaterial }>,
): DecisionApiConfig | null {
  const report = from.report.under("decision_api");
  const material = from.material.under("decision_api");
  const tls = material.pair(
    material.textOrFile(written, { key: "certificate", secrecy: "public" }),
    material.textOrFile(written, { key: "certificate_key", secrecy: "secret" }),
    ["certificate"],
  );
  const { trusted_proxies: trustedProxies, keys } = written;
  for (const [i, range] of trustedProxies.entries()) {
    if (!isRange(range))
      report.error(
        ["trusted_proxies", i],
        `${range} is not an IP address or CIDR block`,
        "write it like 10.0.0.7 or 10.0.0.0/8",
      );
    else if (range.endsWith("/0"))
      report.error(
        ["trusted_proxies", i],
        `${range} covers every address`,
        "name the proxies in front of your services",
      );
  }
  for (const [name, key] of Object.entries(keys)) {
    if (key.length < keyCharsMin || new Set(key).size < 8 || !/^[\x21-\x7e]+$/.test(key))
      report.error(["keys", name], "is not a strong key", "make one with: openssl rand -base64 32");
  }
  if (new Set(Object.values(keys)).size < Object.keys(keys).length)
    report.error(["keys"], "two names have the same key", "give each service its own key");
  for (const [i, name] of written.lists_people.entries()) {
    if (!Object.hasOwn(keys, name))
      report.error(["lists_people", i], `no key is named ${name}`, "name one of decision_api.keys");
  }
  const clientCa = material.authorities(material.textOrFile(written, { key: "client_ca", secrecy: "public" }));
  const addresses = (["address", "grpc_address"] as const).filter((key) => written[key] !== undefined);
  const [first] = addresses;
  if (first === undefined) return null;
  const wantsTls = written.certificate !== undefined || written.certificate_file !== undefined;
  for (const key of addresses) {
    if (tls === null && !wantsTls && !isLoopback(written[key]?.host ?? ""))
      report.error(
        [key],
        "is open to other machines and has no certificate",
        "set decision_api.certificate and decision_api.certificate_key, or listen on loopback",
      );
  }
  if (clientCa !== null && tls === null && !wantsTls)
    report.error(
      [written.client_ca === undefined ? "client_ca_file" : "client_ca"],
      "has no effect without TLS",
      "set decision_api.certificate and decision_api.certificate_key",
    );
  if (trustedProxies.length === 0 && Object.keys(keys).length === 0 && clientCa === null)
    report.warn([first], "accepts no caller", "set decision_api.trusted_proxies or decision_api.keys", "key");
  if (!services.has("authorize") && !services.has("proxy"))
    report.warn([first], "has no effect: this process makes no decisions", "add authorize to services", "key");
  return {
    ...configFields(globalKeys.decision_api.shape, written),
    tls,
    clientCa,
  };
}

function isRange(written: string): boolean {
  const [address = "", prefix, ...more] = written.split("/");
  const family = isIP(address);
  if (family === 0 || more.length > 0) return false;
  if (prefix === undefined) return true;
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128);
}

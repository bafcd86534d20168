/**
 * Reload: what of a new configuration a running process can take, and what waits for its next start.
 *
 * Pure. Sockets that are open, stores, keys of the cluster and how brokers are reached stay as the process was started with;
 * whatever the file says of them keeps its old value, and is named. The hash is that of what is then in force, not of the file.
 */
import type { Config } from "./config.ts";
import { canonicalJson, hashConfig } from "./hash.ts";

/** What a process is started with. */
const startOnly = [
  "services",
  "address",
  "insecureServer",
  "codecType",
  "httpRedirectAddress",
  "useProxyProtocol",
  "region",
  "nodeName",
  "dataDir",
  "sharedSecret",
  "sharedSecretPrevious",
  "store",
  "nats",
  "broker",
  "audit",
  "metricsAddress",
  "metrics",
  "tracing",
  "accessLogFields",
  "authorizeLogFields",
  "hotReload",
  "workers",
] as const satisfies readonly (keyof Config)[];
type StartOnly = (typeof startOnly)[number];

export type Reload = Readonly<{
  /** What can be in force now. */
  config: Config;
  /** Keys as they are written that wait for the next start, `broker.lease` for one. */
  waiting: readonly string[];
}>;

export function reloadConfig(running: Config, next: Config): Reload {
  const kept = Object.fromEntries(startOnly.map((key) => [key, running[key]])) as Pick<Config, StartOnly>;
  const waiting = startOnly.flatMap((key) => differences(key, running[key], next[key]));
  const tlsChanges = (running.certificates.length === 0) !== (next.certificates.length === 0);
  if (tlsChanges) waiting.push("certificates");
  const { decisionApi, waiting: ofDecisions } = reloadDecisions(running.decisionApi, next.decisionApi);
  waiting.push(...ofDecisions);
  const config = { ...next, ...kept, decisionApi, ...(tlsChanges ? { certificates: running.certificates } : {}) };
  return { config: { ...config, hash: hashConfig(config) }, waiting };
}

/** Where decisions are asked for stays; who may ask, and what their words mean, follows. */
function reloadDecisions(
  running: Config["decisionApi"],
  next: Config["decisionApi"],
): Readonly<{ decisionApi: Config["decisionApi"]; waiting: readonly string[] }> {
  if (running === null || next === null)
    return { decisionApi: running, waiting: running === next ? [] : ["decision_api"] };
  const { address, grpcAddress, tls, clientCa } = running;
  const decisionApi = { ...next, address, grpcAddress, tls, clientCa };
  const kept = Object.keys(next) as (keyof typeof next)[];
  const changed = kept.filter((name) => canonicalJson(decisionApi[name]) !== canonicalJson(next[name]));
  return { decisionApi, waiting: changed.map((name) => `decision_api.${written(name)}`) };
}

function differences(key: StartOnly, running: unknown, next: unknown): readonly string[] {
  if (canonicalJson(running) === canonicalJson(next)) return [];
  if (key === "hotReload") return ["runtime_flags.config_hot_reload"];
  if (key === "store") return ["databroker_storage_type", "databroker_storage_connection_string"];
  if (key === "metrics") return ["metrics_basic_auth", "metrics_certificate", "metrics_client_ca"];
  if (key === "tracing") return ["otel_…"];
  if (!isSection(key) || running === null || next === null) return [written(key)];
  const [before, after] = [running, next] as Readonly<Record<string, unknown>>[];
  const inner = Object.keys(after ?? {}).filter(
    (name) => canonicalJson(before?.[name]) !== canonicalJson(after?.[name]),
  );
  return inner.map((name) => `${written(key)}.${written(name)}`);
}

function isSection(key: StartOnly): boolean {
  return key === "nats" || key === "broker" || key === "audit";
}

/** `leaseMs` is written as `lease`. */
function written(name: string): string {
  if (name === "httpRedirectAddress") return "http_redirect_addr";
  return name.replace(/Ms$/, "").replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/**
 * Broker settings: the store, how processes reach each other, leases, NATS and audit.
 *
 * Pure. Refuses settings that would break the staleness contract or send keys in clear:
 * - processes that cannot reach a broker
 * - two brokers on stores that they cannot share
 * - plain HTTP between machines
 * - leases that cannot be renewed in time
 */
import type { Config } from "../config.ts";
import { configFields } from "../schema/keys.ts";
import { type Globals, globalKeys } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import type { HomeRegion } from "../values/home-values.ts";
import { isLoopback } from "../values/network-values.ts";
import { isPlainPostgres, isPostgresAddress } from "../values/postgres-sink.ts";
import { everyService } from "../values/process-values.ts";
import { resolveAudit } from "./audit.ts";
import type { KeyMaterial } from "./key-material.ts";

export type BrokerPart = Readonly<{
  store: Config["store"] | null;
  nats: Config["nats"];
  broker: Config["broker"];
  audit: Config["audit"];
}>;
type From = Readonly<{
  report: ProblemReporter;
  material: KeyMaterial;
  failed: ReadonlySet<string>;
  certificates: Config["certificates"];
  certificateAuthority: string | null;
}>;

export function resolveBrokers(globals: Globals, from: From): BrokerPart {
  const nats = resolveNats(globals, from);
  const store = resolveStore(globals, from);
  return {
    store,
    nats,
    broker: resolveBroker(globals, { ...from, nats }),
    audit: resolveAudit(globals, { ...from, nats, store }),
  };
}

function resolveStore(globals: Globals, { report, material, failed }: From): Config["store"] | null {
  const found = material.textOrFile(globals, { key: "databroker_storage_connection_string", secrecy: "secret" });
  const type = globals.databroker_storage_type;
  // A regional broker that never leads needs no store.
  const isRegional = (globals.broker.home_urls ?? []).length > 0 || (globals.broker.homes ?? []).length > 0;
  const runs = globals.services.has("databroker") && (!isRegional || ownHome(globals) !== undefined);
  if (type === "redis") {
    report.error(["databroker_storage_type"], "redis is no longer supported", "use postgres or file");
    return null;
  }
  if (type === "memory") return { type };
  if (type === "file") {
    const written = (found?.text.trim() ?? "").replace(/^file:(?:\/\/)?/, "");
    if (/^[a-z]+:\/\//i.test(written)) {
      report.error(
        ["databroker_storage_connection_string"],
        "is not a file",
        "write a folder or a file that ends in .db, or set databroker_storage_type",
      );
      return null;
    }
    const path = written === "" ? globals.data_dir : written;
    return { type, path: /\.(?:db|sqlite)$/.test(path) ? path : `${path.replace(/\/+$/, "")}/cardea.db` };
  }
  const text = found?.text.trim() ?? "";
  const key = "databroker_storage_connection_string";
  if (text === "") {
    if (!runs) return { type, connectionString: "" };
    if (!failed.has(key) && globals.databroker_storage_connection_string_file === undefined) {
      report.error(
        [key],
        "is missing for the postgres store",
        "write postgres://user@host:5432/cardea, or keep it in a file and use databroker_storage_connection_string_file",
        "key",
      );
    }
    return null;
  }
  if (!isPostgresAddress(text)) {
    report.error(
      found?.path ?? [key],
      "is neither a postgres:// URL nor key=value settings",
      "write postgres://user@host:5432/cardea",
    );
    return null;
  }
  if (isPlainPostgres(text)) {
    report.warn(
      found?.path ?? [key],
      "turns TLS to Postgres off",
      "use sslmode=verify-full where the network is not your own",
    );
  }
  return { type, connectionString: text };
}

function resolveNats(globals: Globals, { report, material }: From): Config["nats"] {
  const { nats } = globals;
  const servers = nats.servers ?? [];
  const inside = material.under("nats");
  const tlsCa = inside.authorities(inside.textOrFile(nats, { key: "tls_ca", secrecy: "public" }));
  const password = inside.textOrFile(nats, { key: "password", secrecy: "secret" })?.text.trim() ?? null;
  if (servers.length === 0) {
    const others = [nats.credentials_file, nats.user, password, tlsCa].some(
      (value) => value !== undefined && value !== null,
    );
    if (others)
      report.error(["nats", "servers"], "is missing", "write the NATS servers, such as tls://nats-1:4222", "key");
    return null;
  }
  servers.forEach((server, i) => {
    const at = ["nats", "servers", i];
    const found = /^(?:(nats|tls|ws|wss):\/\/)?([^/?#]+)\/?$/i.exec(server.trim());
    if (found === null) report.error(at, "is not a NATS server", "write one such as tls://nats-1:4222");
    else if (found[2]?.includes("@"))
      report.error(
        at,
        "the URL of a NATS server contains a user name or password",
        "use nats.user and nats.password, or nats.credentials_file",
      );
    else if (
      found[1]?.toLowerCase() !== "tls" &&
      found[1]?.toLowerCase() !== "wss" &&
      tlsCa === null &&
      !isLoopback((found[2] ?? "").replace(/:\d+$/, ""))
    ) {
      report.warn(
        at,
        "is reached without TLS",
        "use tls:// and nats.tls_ca, unless the network is your own: what crosses it is signed, personal data is sealed",
      );
    }
  });
  if (nats.user !== undefined && password === null)
    report.error(["nats", "user"], "has no password", "write nats.password or nats.password_file", "key");
  if (nats.credentials_file !== undefined)
    inside.fileText(nats.credentials_file, { at: ["credentials_file"], secrecy: "secret" });
  return {
    ...configFields(globalKeys.nats.shape, nats),
    servers: servers.map((server) => server.trim()),
    password,
    tlsCa,
  };
}

/** The URLs of the other brokers, and the key that names them. */
type BrokerUrls = Readonly<{ urls: readonly URL[]; urlsKey: readonly string[] }>;

function resolveBroker(globals: Globals, from: From & Readonly<{ nats: Config["nats"] }>): Config["broker"] {
  const { report, failed } = from;
  const { broker } = globals;
  const material = from.material.under("broker");
  const runs = globals.services.has("databroker");
  const fromPomerium = globals.databroker_internal_service_url ?? globals.databroker_service_url;
  const urls = broker.urls ?? globals.databroker_service_urls ?? (fromPomerium === undefined ? [] : [fromPomerium]);
  const urlsKey =
    broker.urls !== undefined
      ? ["broker", "urls"]
      : globals.databroker_service_urls !== undefined
        ? ["databroker_service_urls"]
        : globals.databroker_internal_service_url !== undefined
          ? ["databroker_internal_service_url"]
          : ["databroker_service_url"];
  const listen = broker.listen ?? null;
  const homes = broker.homes ?? [];
  const elsewhere = homes.filter(({ region }) => region !== globals.region).flatMap((home) => home.urls);
  const homeUrls = [...(broker.home_urls ?? []), ...elsewhere];
  if ((broker.home_urls ?? []).length > 0) checkRegional(globals, { report, urls, runs });
  if (homes.length > 0) checkHomes(globals, { report, runs });

  checkPresence(globals, { report, failed, nats: from.nats, urls, urlsKey });
  checkPlainHttp(globals, { report, urls, urlsKey });
  checkTimes(globals, report);
  const pair = material.pair(
    broker.tls_cert_file === undefined
      ? null
      : material.fileText(broker.tls_cert_file, { at: ["tls_cert_file"], secrecy: "public" }),
    broker.tls_key_file === undefined
      ? null
      : material.fileText(broker.tls_key_file, { at: ["tls_key_file"], secrecy: "secret" }),
    ["tls_cert_file"],
  );
  const plain = listen === null || isLoopback(listen.host) || globals.grpc_insecure;
  const tls = pair ?? (plain ? null : (from.certificates[0] ?? null));
  const pairNamed = broker.tls_cert_file !== undefined || broker.tls_key_file !== undefined;
  const certificateNamed =
    globals.certificate !== undefined || globals.certificate_file !== undefined || globals.certificates !== undefined;
  if (listen !== null && !plain && tls === null && !pairNamed && !certificateNamed) {
    report.error(
      ["broker", "listen"],
      "is open to other machines and has no certificate",
      "write broker.tls_cert_file and broker.tls_key_file, or bind it to loopback",
    );
  }
  return {
    ...configFields(globalKeys.broker.shape, broker),
    urls,
    homeUrls,
    homes,
    maxWindow: {
      proxy: broker.max_window.proxy ?? null,
      authorize: broker.max_window.authorize ?? null,
      broker: broker.max_window.broker ?? null,
    },
    tlsCa:
      material.authorities(material.textOrFile(broker, { key: "tls_ca", secrecy: "public" })) ??
      from.certificateAuthority,
    tls,
  };
}

/** Reports settings that are missing, so that processes could not reach each other. */
function checkPresence(
  globals: Globals,
  from: Pick<From, "report" | "failed"> & Readonly<{ nats: Config["nats"] }> & BrokerUrls,
): void {
  const { report, failed, urls, urlsKey } = from;
  const { broker } = globals;
  const runs = globals.services.has("databroker");
  const allInOne = everyService.every((service) => globals.services.has(service));
  const listen = broker.listen ?? null;
  const isRegional = (broker.home_urls ?? []).length > 0 || (broker.homes ?? []).length > 0;
  if (!runs && urls.length === 0 && !failed.has("broker.urls")) {
    report.error(
      ["broker", "urls"],
      "is missing, and this process runs no databroker",
      "write the URLs of the brokers, or add databroker to services",
      "key",
    );
  }
  if (runs && !allInOne && listen === null && !failed.has("broker.listen")) {
    report.error(
      ["broker", "listen"],
      "is missing, so the processes with the other services could not reach this databroker",
      "write an address such as 127.0.0.1:5443",
      "key",
    );
  }
  if (runs && globals.workers > 1 && listen === null && !failed.has("broker.listen")) {
    report.error(
      ["broker", "listen"],
      "is missing, so the workers could not reach the databroker beside them",
      "write an address such as 127.0.0.1:5443, or remove workers",
      "key",
    );
  }
  if (runs && globals.workers > 1 && globals.services.size === 1 && !failed.has("workers"))
    report.error(["workers"], "shares the listener of a proxy, and this process runs none", "leave it out", "key");
  if (!allInOne && from.nats === null && !failed.has("nats.servers")) {
    report.warn(
      ["nats"],
      "is missing, so other processes learn of events by polling, up to a second late",
      "write nats.servers",
      "key",
    );
  }
  if (runs && !isRegional && urls.length > 1 && globals.databroker_storage_type !== "postgres") {
    report.error(
      ["databroker_storage_type"],
      `${globals.databroker_storage_type} serves one broker, and ${urlsKey.join(".")} names ${urls.length}`,
      "use postgres",
    );
  }
  if (runs && urls.length > 1 && listen === null && allInOne) {
    report.error(
      ["broker", "listen"],
      "is missing, so the other brokers could not reach this one",
      "write an address such as 10.0.0.1:5443",
      "key",
    );
  }
  if (
    runs &&
    urls.length > 1 &&
    broker.advertised_url === undefined &&
    listen !== null &&
    (listen.host === "0.0.0.0" || listen.host === "::")
  ) {
    report.error(
      ["broker", "advertised_url"],
      `is missing, and others cannot reach ${listen.host}`,
      "write the URL by which the other brokers reach this one",
      "key",
    );
  }
}

/** Reports broker URLs with plain HTTP that leave this machine. */
function checkPlainHttp(globals: Globals, { report, urls, urlsKey }: Pick<From, "report"> & BrokerUrls): void {
  const { broker } = globals;
  const named = broker.urls !== undefined || globals.databroker_service_urls !== undefined;
  const reached = urls.map((url, i) => ({ url, at: named ? [...urlsKey, i] : urlsKey }));
  for (const [i, url] of (broker.home_urls ?? []).entries()) reached.push({ url, at: ["broker", "home_urls", i] });
  for (const [i, { urls: ofHome }] of (broker.homes ?? []).entries())
    for (const [j, url] of ofHome.entries()) reached.push({ url, at: ["broker", "homes", i, "urls", j] });
  if (broker.advertised_url !== undefined)
    reached.push({ url: broker.advertised_url, at: ["broker", "advertised_url"] });
  for (const { url, at } of reached) {
    if (url.protocol !== "http:" || isLoopback(url.hostname)) continue;
    if (globals.grpc_insecure)
      report.warn(at, "is plain HTTP between machines", "make sure that something else encrypts this network");
    else
      report.error(
        at,
        "is plain HTTP between machines, and keys and tokens cross it",
        "use https, or grpc_insecure: true where something else encrypts the network",
      );
  }
}

/** A regional broker calls the brokers of the leader's region (`broker.home_urls`), so it must not be one of them. */
function checkRegional(
  globals: Globals,
  { report, urls, runs }: Readonly<{ report: ProblemReporter; urls: readonly URL[]; runs: boolean }>,
): void {
  const { broker, nats } = globals;
  const at = ["broker", "home_urls"];
  if (!runs)
    report.error(
      at,
      "is for brokers, and this process runs none",
      "write broker.urls: the brokers of this region",
      "key",
    );
  const own = new Set([...urls, ...(broker.advertised_url === undefined ? [] : [broker.advertised_url])].map(String));
  for (const [i, url] of (broker.home_urls ?? []).entries())
    if (own.has(String(url)))
      report.error(
        [...at, i],
        "is a broker of this region too",
        "write the brokers of the leader's region here, and those of this region in broker.urls",
      );
  if (nats.home_domain !== undefined && nats.placement_cluster !== undefined)
    report.error(
      ["nats", "placement_cluster"],
      "is for one JetStream domain that spans the regions, and nats.home_domain says that there are several",
      "leave one of them out",
    );
}

/** The entry of `broker.homes` for the region of this process, if its Postgres may hold the primary. */
function ownHome({ region, broker }: Globals): HomeRegion | undefined {
  return broker.homes?.find((home) => home.region === region && home.postgres.length > 0);
}

/** A broker whose region may hold the leader (`broker.homes`) changes between leading and serving its region. */
function checkHomes(globals: Globals, { report, runs }: Readonly<{ report: ProblemReporter; runs: boolean }>): void {
  const { broker, nats, services, workers } = globals;
  const homes = broker.homes ?? [];
  const at = ["broker", "homes"];
  if ((broker.home_urls ?? []).length > 0)
    report.error(["broker", "home_urls"], "is written beside broker.homes", "leave one of them out");
  if (!homes.some(({ postgres }) => postgres.length > 0))
    report.error(at, "names no Postgres server, so no region could hold the leader", "write postgres for one region");
  const servers = homes.flatMap(({ postgres }) => postgres);
  const twice = servers.find((server, i) => servers.indexOf(server) < i);
  if (twice !== undefined)
    report.error(at, `names the Postgres server ${twice} twice`, "write each server in the region in which it is");
  if (nats.home_domain !== undefined)
    report.error(
      ["nats", "home_domain"],
      "is for broker.home_urls; with broker.homes it follows the leader",
      "leave it out, and write nats_domain for each region of broker.homes",
    );
  if (!runs || ownHome(globals) === undefined) return;
  if (globals.databroker_storage_type !== "postgres")
    report.error(["databroker_storage_type"], "must be postgres where broker.homes names this region", "use postgres");
  if (services.size > 1 && workers === 1)
    report.error(
      ["services"],
      "must be databroker alone where broker.homes names this region, because its broker changes between leading and serving the region",
      "run the other services in processes of their own",
    );
}

/** A node must survive two missed renewals, and a leader several missed beats, without effect. */
function checkTimes(globals: Globals, report: ProblemReporter): void {
  const { broker } = globals;
  if (broker.renew * 3 > broker.lease)
    report.error(
      ["broker", "renew"],
      "is more than a third of broker.lease, so one lost message would stop a node",
      "renew more often, or lengthen broker.lease",
    );
  for (const [role, windowMs] of Object.entries(broker.max_window))
    if (windowMs !== undefined && windowMs < broker.lease)
      report.error(
        ["broker", "max_window", role],
        "is shorter than broker.lease, so no node of this role could use its lease to the end",
        "lengthen it, or shorten broker.lease",
      );
  if (broker.beat > broker.renew)
    report.error(["broker", "beat"], "is longer than broker.renew, so grants would arrive late", "beat more often");
  if (broker.beat * 3 > broker.takeover)
    report.error(
      ["broker", "takeover"],
      "is less than three times broker.beat, so a slow commit would cost the leader its leadership",
      "beat more often, or lengthen broker.takeover",
    );
}

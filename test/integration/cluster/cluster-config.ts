/** Configuration of each process of a test cluster, as JSON, which is also YAML. Pure. */
import type { ProcessPorts } from "./cluster-process.ts";

/** `default`: default leases, window W over a minute. `short`: W about 4 s. */
export type Timing = "default" | "short";

export type Service = "databroker" | "authenticate" | "proxy";

export type ProcessSpec = Readonly<{
  name: string;
  services: readonly Service[];
  region: string;
  ports: ProcessPorts;
  /** Addresses of NATS and the brokers; those of relays for a process that tests cut off. */
  nats: readonly string[];
  brokerUrls: readonly string[];
}>;

export type ClusterSetup = Readonly<{
  clusterName: string;
  sharedSecret: string;
  cookieSecret: string;
  idpSecret: string;
  postgres: string;
  upstreamPort: number;
  /** The public port: a load balancer in front of the proxies. */
  frontPort: number;
  idpPort: number;
  authenticatePort: number;
}>;

export const routeNames = ["app", "eng", "strict"] as const;

export const shortMs = { lease: 2_000, renew: 500, beat: 100, takeover: 1_500, grace: 2_000 };
const longestMs = `${shortMs.lease + shortMs.grace}ms`;
/** Milliseconds after which a silent node's grants have expired: its window, with the default drift. */
export const fenceMs = (windowMs: number): number => (windowMs * 1.01) / 0.99 + 50;

export const hostOf = (setup: Pick<ClusterSetup, "frontPort">, route: string): string =>
  `${route}.localhost:${setup.frontPort}`;
export const issuerOf = (setup: Pick<ClusterSetup, "idpPort">): string => `http://idp.localhost:${setup.idpPort}`;

export function configOf(spec: ProcessSpec, setup: ClusterSetup, options: ConfigOptions): object {
  const { timing } = options;
  const isBroker = spec.services.includes("databroker");
  const grace = timing === "short" ? { stale_grace: `${shortMs.grace}ms` } : {};
  const route = (name: string, who: object, stale: object): object => ({
    id: name,
    from: `http://${hostOf(setup, name)}`,
    to: `http://127.0.0.1:${setup.upstreamPort}`,
    allow_websockets: true,
    pass_identity_headers: true,
    ...who,
    ...stale,
  });
  return {
    ...options.settings,
    services: spec.services,
    address: `127.0.0.1:${spec.ports.address}`,
    insecure_server: true,
    metrics_address: `127.0.0.1:${spec.ports.metrics}`,
    region: spec.region,
    node_name: spec.name,
    data_dir: options.dataDir,
    drain_timeout: "8s",
    shared_secret: setup.sharedSecret,
    cookie_secret: setup.cookieSecret,
    authenticate_service_url: `http://${hostOf(setup, "authenticate")}`,
    authenticate_internal_service_url: `http://127.0.0.1:${setup.authenticatePort}`,
    idp_provider: "oidc",
    idp_provider_url: issuerOf(setup),
    idp_client_id: "cluster",
    idp_client_secret: setup.idpSecret,
    groups_from_claim: "groups",
    refresh_interval: "1s",
    databroker_storage_type: "postgres",
    ...(isBroker && { databroker_storage_connection_string: setup.postgres }),
    nats: { servers: spec.nats },
    broker: {
      cluster_name: setup.clusterName,
      urls: spec.brokerUrls,
      ...(isBroker && {
        listen: `127.0.0.1:${spec.ports.broker}`,
        advertised_url: `http://127.0.0.1:${spec.ports.broker}`,
      }),
      ...(timing === "short" && {
        lease: `${shortMs.lease}ms`,
        renew: `${shortMs.renew}ms`,
        beat: `${shortMs.beat}ms`,
        takeover: `${shortMs.takeover}ms`,
        // After a failover that may have lost beats, a receipt waits for the longest window ever granted.
        ...(options.moreRoutes === undefined && {
          max_window: { proxy: longestMs, authorize: longestMs, broker: longestMs },
        }),
      }),
      ...options.broker,
    },
    routes: [
      route("app", { allow_any_authenticated_user: true }, { on_stale: "serve", ...grace }),
      route("eng", { policy: { allow: { and: [{ groups: { has: "eng" } }] } } }, { on_stale: "serve", ...grace }),
      route("strict", { allow_any_authenticated_user: true }, { on_stale: "deny" }),
      ...Object.entries(options.moreRoutes ?? {}).map(([name, stale]) =>
        route(name, { allow_any_authenticated_user: true }, stale),
      ),
    ],
  };
}

/** `broker`: more settings of that section. */
export type ConfigOptions = Readonly<{
  timing: Timing;
  dataDir: string;
  broker?: object;
  /** More settings of the whole. */
  settings?: object;
  /** More routes, for every signed-in person; the value holds their staleness keys. */
  moreRoutes?: Readonly<Record<string, object>>;
}>;

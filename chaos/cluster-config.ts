/** Cluster config: the configuration files of a run's processes, written as JSON, which is YAML. Pure. */
import type { Link } from "./links.ts";
import { emailOf, lease, cluster as name, routes } from "./world.ts";

export type ProcessPorts = Readonly<{ address: number; metrics: number; broker: number }>;

export type ClusterAddresses = Readonly<{
  sharedSecret: string;
  cookieSecret: string;
  idpSecret: string;
  postgres: string;
  nats: readonly string[];
  upstreamPort: number;
  idpPort: number;
  authenticate: ProcessPorts;
  brokers: readonly ProcessPorts[];
  proxies: readonly ProcessPorts[];
}>;

const longest = `${lease.leaseMs + Math.max(...routes.map(({ graceMs }) => graceMs ?? 0))}ms`;

/** The addresses of the other processes: links that can be cut, or their own ports. */
export type Reach = Readonly<{ brokers: readonly number[]; nats: readonly string[]; postgres: string }>;

export const linkName = {
  brokers: (process: string): string => `${process} to brokers`,
  nats: (process: string): string => `${process} to NATS`,
  postgres: (process: string): string => `${process} to Postgres`,
};

/** Links of a proxy to brokers and NATS, and of a broker to Postgres. All other connections are direct. */
export function linksOf(
  { name, services }: ProcessSpec,
  addresses: ClusterAddresses,
  nextPort: () => number,
): Readonly<{ reach: Reach; links: readonly Link[] }> {
  const links: Link[] = [];
  const lay = (link: string, to: number): number => {
    const port = nextPort();
    links.push({ name: link, port, to });
    return port;
  };
  const moved = (url: string, link: string): string => {
    const at = new URL(url);
    at.port = String(lay(link, Number(at.port)));
    return at.href;
  };
  /** A connection string may name several hosts: one link for each, broken together. */
  const movedHosts = (url: string, link: string): string =>
    url.replace(/@([^/]+)\//, (_, hosts: string) => {
      const laid = hosts.split(",").map((host) => `127.0.0.1:${lay(link, Number(host.split(":").at(-1)))}`);
      return `@${laid.join(",")}/`;
    });
  const brokers = addresses.brokers.map((ports) => ports.broker);
  const { nats, postgres } = addresses;
  const reach: Reach = services.includes("proxy")
    ? {
        brokers: brokers.map((port) => lay(linkName.brokers(name), port)),
        nats: nats.map((url) => moved(url, linkName.nats(name))),
        postgres,
      }
    : services.includes("databroker")
      ? { brokers, nats, postgres: movedHosts(postgres, linkName.postgres(name)) }
      : { brokers, nats, postgres };
  return { reach, links };
}

export const issuerOf = (addresses: Pick<ClusterAddresses, "idpPort">): string =>
  `http://idp.localhost:${addresses.idpPort}`;
export const authenticateUrlOf = (addresses: Pick<ClusterAddresses, "authenticate">): string =>
  `http://authenticate.localhost:${addresses.authenticate.address}`;

export type ProcessSpec = Readonly<{
  name: string;
  services: readonly ("databroker" | "authenticate" | "proxy")[];
  region: string;
  ports: ProcessPorts;
}>;

export function specsOf(addresses: ClusterAddresses): readonly ProcessSpec[] {
  return [
    ...addresses.brokers.map((ports, i): ProcessSpec => {
      return { name: `broker-${i + 1}`, services: ["databroker"], region: "east", ports };
    }),
    { name: "authenticate", services: ["authenticate"], region: "east", ports: addresses.authenticate },
    ...addresses.proxies.map((ports, i): ProcessSpec => {
      return { name: `proxy-${i + 1}`, services: ["proxy"], region: i === 2 ? "west" : "east", ports };
    }),
  ];
}

export function configOf(
  spec: ProcessSpec,
  { addresses, reach, dataDir }: Readonly<{ addresses: ClusterAddresses; reach: Reach; dataDir: string }>,
): object {
  const isBroker = spec.services.includes("databroker");
  return {
    services: spec.services,
    address: `127.0.0.1:${spec.ports.address}`,
    insecure_server: true,
    metrics_address: `127.0.0.1:${spec.ports.metrics}`,
    region: spec.region,
    node_name: spec.name,
    data_dir: dataDir,
    drain_timeout: "2s",
    log_level: spec.services.includes("proxy") ? "warn" : "info", // a line per request has no use here
    shared_secret: addresses.sharedSecret,
    cookie_secret: addresses.cookieSecret,
    authenticate_service_url: authenticateUrlOf(addresses),
    idp_provider: "oidc",
    idp_provider_url: issuerOf(addresses),
    idp_client_id: "chaos",
    idp_client_secret: addresses.idpSecret,
    groups_from_claim: "groups",
    administrators: [`email:${emailOf("alice")}`],
    max_sessions_per_user: 10_000,
    databroker_storage_type: "postgres",
    ...(isBroker && { databroker_storage_connection_string: reach.postgres }),
    nats: { servers: reach.nats },
    broker: {
      cluster_name: name,
      urls: reach.brokers.map((port) => `http://127.0.0.1:${port}`),
      ...(isBroker && {
        listen: `127.0.0.1:${spec.ports.broker}`,
        advertised_url: `http://127.0.0.1:${spec.ports.broker}`,
      }),
      lease: `${lease.leaseMs}ms`,
      renew: `${lease.renewMs}ms`,
      beat: `${lease.beatMs}ms`,
      clock_drift: lease.drift,
      takeover: `${lease.takeoverMs}ms`,
      // After a failover that may have lost beats, a receipt waits for the longest granted window.
      max_window: { proxy: longest, authorize: longest, broker: longest },
    },
    routes: routes.map((route) => ({
      id: route.name,
      name: route.name,
      from: `http://${route.host}`,
      to: `http://127.0.0.1:${addresses.upstreamPort}`,
      ...(route.group === null
        ? { allow_any_authenticated_user: true }
        : { policy: { allow: { and: [{ groups: { has: route.group } }] } } }),
      allow_websockets: true,
      pass_identity_headers: true,
      ...(route.graceMs === null ? { on_stale: "deny" } : { on_stale: "serve", stale_grace: `${route.graceMs}ms` }),
    })),
  };
}

/** Worker shares: the part of a configuration that each worker runs. Pure. */
import type { Config, Service } from "../../config/index.ts";
import { parseNodeId } from "../../events/index.ts";

export type Share = Readonly<{
  /** From 1. 0: the parent process, which runs the databroker of this configuration. */
  index: number;
  /** `name:password` for health and metrics, known only to the parent process. */
  access: string;
}>;

const loopback = "127.0.0.1";

/** @param node the node name of the process without workers */
export function shareOf(config: Config, node: string, { index, access }: Share): Config {
  const common = {
    ...config,
    // Any free port on loopback, for the parent process; all others use the parent.
    metricsAddress: config.metricsAddress === null ? null : { host: loopback, port: 0 },
    metrics: { tls: null, clientCa: null, basicAuth: access },
  };
  if (index === 0) return { ...common, services: new Set<Service>(["databroker"]), nodeName: parseNodeId(node) };
  const services = new Set([...config.services].filter((service) => service !== "databroker"));
  return {
    ...common,
    services,
    nodeName: parseNodeId(`${node}-w${index}`),
    dataDir: `${config.dataDir}/worker-${index}`,
    broker: {
      ...config.broker,
      ...(config.services.has("databroker") ? { urls: [brokerUrl(config)], homeUrls: [], homes: [] } : {}),
      listen: null,
    },
  };
}

/** The databroker in the parent process. */
function brokerUrl({ broker }: Config): URL {
  const [named] = broker.urls;
  if (broker.advertisedUrl !== null || named !== undefined) return broker.advertisedUrl ?? (named as URL);
  return new URL(`${broker.tls === null ? "http" : "https"}://${loopback}:${broker.listen?.port ?? 0}`);
}

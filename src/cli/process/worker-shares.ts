/** Worker shares: what of a configuration each of the processes runs that share a listener. Pure. */
import type { Config, Service } from "../../config/index.ts";
import { parseNodeId } from "../../events/index.ts";

export type Share = Readonly<{
  /** From 1; 0: beside the workers, where the databroker of this configuration runs. */
  index: number;
  /** With which health and metrics are asked for; nobody else knows it. `name:password` */
  access: string;
}>;

const loopback = "127.0.0.1";

/** @param node the name that the process would have alone */
export function shareOf(config: Config, node: string, { index, access }: Share): Config {
  const common = {
    ...config,
    // Somewhere on this machine, for the process that started it: everybody else asks that one.
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
      ...(config.services.has("databroker") ? { urls: [brokerUrl(config)], homeUrls: [] } : {}),
      listen: null,
    },
  };
}

/** Of the databroker beside the workers. */
function brokerUrl({ broker }: Config): URL {
  const [named] = broker.urls;
  if (broker.advertisedUrl !== null || named !== undefined) return broker.advertisedUrl ?? (named as URL);
  return new URL(`${broker.tls === null ? "http" : "https"}://${loopback}:${broker.listen?.port ?? 0}`);
}

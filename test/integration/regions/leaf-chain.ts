/** Leaf chain: the NATS servers of three regions, each a leaf of the regions before it (docs/regions.md). Pure. */
export const regionNames = ["east", "us", "ap"] as const;
export type RegionName = (typeof regionNames)[number];

/**
 * @param ports of the leaf listeners, in the order of the regions
 * @param farPorts by which the other regions reach them
 */
export function leafConfig(region: RegionName, ports: readonly number[], farPorts = ports): string {
  const at = regionNames.indexOf(region);
  const before = farPorts.slice(0, at).map((port) => `"nats-leaf://127.0.0.1:${port}"`);
  const remotes =
    before.length === 0 ? "" : `, reconnect: 1, remotes: [{ urls: [${before.join(", ")}], no_randomize: true }]`;
  return `leafnodes { listen: "127.0.0.1:${ports[at]}"${remotes} }\nping_interval: "1s"`;
}

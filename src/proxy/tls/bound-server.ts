/** Bound server: has a server listen, and says where. */
import type { AddressInfo, Server } from "node:net";
import type { HostPort } from "../../config/index.ts";

/**
 * @param at an empty host: every address; port 0: a free one
 * @returns where it listens
 * @throws what `listen` failed with, such as EADDRINUSE
 */
export async function listenAt(server: Server, { host, port }: HostPort): Promise<HostPort> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, ...(host === "" ? {} : { host }) }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const bound = server.address() as AddressInfo;
  return { host: bound.address, port: bound.port };
}

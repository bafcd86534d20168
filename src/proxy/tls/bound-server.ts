/** Bound server: binds a server to an address and returns the bound address. */
import type { AddressInfo, Server } from "node:net";
import type { HostPort } from "../../config/index.ts";

/**
 * @param at an empty host: all addresses; port 0: a free port
 * @returns the bound address
 * @throws the error of `listen`, such as EADDRINUSE
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

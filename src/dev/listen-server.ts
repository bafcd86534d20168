/** Starts and ends an HTTP server. */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

export type ListenAddress = Readonly<{ host: string; port: number }>;
export type Listening = Readonly<{
  url: URL;
  /** Also closes open connections. */
  close: () => Promise<void>;
}>;

/** @param at port 0: any free one */
export async function listenServer(server: Server, at: ListenAddress): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(at.port, at.host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: new URL(`http://${family === "IPv6" ? `[${address}]` : address}:${port}`),
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

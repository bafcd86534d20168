/** Cutting proxy: a TCP proxy on loopback that refuses connections, or cuts them in the middle of an answer. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type CuttingProxy = Readonly<{
  port: number;
  /** Null: it forwards everything. `afterBytes`: of the server's answers on each new connection; 0: nothing. */
  cut(afterBytes: number | null): void;
  close(): Promise<void>;
}>;

export async function startCuttingProxy(target: number): Promise<CuttingProxy> {
  let left: number | null = null;
  const sockets = new Set<Socket>();
  const server = createServer((downstream) => {
    const upstream = connect(target, "127.0.0.1");
    let budget = left ?? Number.POSITIVE_INFINITY;
    for (const socket of [downstream, upstream]) {
      sockets.add(socket.unref());
      socket
        .on("error", () => {})
        .on("close", () => {
          sockets.delete(socket);
          downstream.destroy();
          upstream.destroy();
        });
    }
    if (budget === 0) downstream.destroy();
    downstream.pipe(upstream);
    upstream.on("data", (chunk: Buffer) => {
      const part = chunk.subarray(0, budget);
      budget -= part.byteLength;
      downstream.write(part, () => {
        if (part.byteLength < chunk.byteLength) downstream.destroy();
      });
    });
  }).unref();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    cut(afterBytes) {
      left = afterBytes;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

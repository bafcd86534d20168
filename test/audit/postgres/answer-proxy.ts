/** Answer proxy: a TCP proxy on loopback that can withhold the answers of the server, and cut the connections. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type AnswerProxy = Readonly<{
  port: number;
  /** After this many further answers the server still gets every request, and the client no answer. */
  withhold(afterAnswers: number): void;
  /** Cuts all connections, and forwards everything on later ones. */
  cut(): void;
  stop(): Promise<void>;
}>;

export async function startAnswerProxy(target: number): Promise<AnswerProxy> {
  let left = Number.POSITIVE_INFINITY;
  const sockets = new Set<Socket>();
  const server = createServer((downstream) => {
    const upstream = connect(target, "127.0.0.1");
    for (const socket of [downstream, upstream]) {
      sockets.add(socket);
      socket
        .on("error", () => {})
        .on("close", () => {
          sockets.delete(socket);
          downstream.destroy();
          upstream.destroy();
        });
    }
    downstream.pipe(upstream);
    upstream.on("data", (chunk: Buffer) => {
      if (left-- > 0) downstream.write(chunk);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
    left = Number.POSITIVE_INFINITY;
  };
  return {
    port: (server.address() as AddressInfo).port,
    withhold(afterAnswers) {
      left = afterAnswers;
    },
    cut,
    async stop() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

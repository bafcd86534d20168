/**
 * Free port: a loopback TCP port that nobody listens on, for a server that a test starts.
 *
 * Ports come from below the range that the system hands out for outgoing connections. Inside that range a client that
 * keeps dialling a server which is down could be given the server's own port, and would then be talking to itself.
 * It is not reserved: whoever starts the server tries again with another port when somebody was faster.
 */
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

const lowest = 20_000;
const aboveHighest = 32_000;
const attempts = 200;
const startAttempts = 3;

export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const port = randomInt(lowest, aboveHighest);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port found between ${lowest} and ${aboveHighest} in ${attempts} attempts`);
}

/** Different ones, as many as asked for. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

/** Somebody else may take a port between our look and the server's start. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (attempt === startAttempts) throw error;
    }
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}

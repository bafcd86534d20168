/** Call counter: a reverse proxy before a broker that counts calls by time and kind, open calls, and responses. */
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";

export type CallCounter = Readonly<{
  url: string;
  calls: readonly Readonly<{ at: number; kind: string }>[];
  statuses: ReadonlyMap<number, number>;
  /** Count of each 4xx response, by kind, status and body. */
  refusals: ReadonlyMap<string, number>;
  /** Calls that are open now, by kind. */
  open: ReadonlyMap<string, number>;
  close(): Promise<void>;
}>;

/** @param onCall called when a call begins */
export async function startCallCounter(broker: string, onCall: () => void): Promise<CallCounter> {
  const calls: { at: number; kind: string }[] = [];
  const statuses = new Map<number, number>();
  const refusals = new Map<string, number>();
  const open = new Map<string, number>();
  const count = <K>(map: Map<K, number>, key: K, by: number): void => void map.set(key, (map.get(key) ?? 0) + by);
  const server = createServer((req, res) => {
    const kind = /^\/v1\/(\w+)/.exec(req.url ?? "")?.[1] ?? "other";
    calls.push({ at: performance.now(), kind });
    count(open, kind, 1);
    onCall();
    res.once("close", () => count(open, kind, -1));
    const up = request(`${broker}${req.url}`, { method: req.method ?? "GET", headers: req.headers }, (answer) => {
      count(statuses, answer.statusCode ?? 0, 1);
      res.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(res);
      const status = answer.statusCode ?? 0;
      if (status >= 400 && status < 500)
        answer.once("data", (body: Buffer) => count(refusals, `${kind} ${status} ${body}`, 1));
      answer.once("error", () => res.destroy());
    });
    up.once("error", () => res.destroy());
    res.once("close", () => up.destroy());
    req.pipe(up);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    ...{ calls, statuses, refusals, open },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

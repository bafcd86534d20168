/**
 * Live-cut environment: the proxy runs in this process, and its upstream and callers each in a process of their own, so
 * no process needs more than two file descriptors per stream.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import type { RouteConfig } from "../../../src/config/index.ts";
import { engOnly, groupChanged, type Rig, routeTo, signedIn, startRig } from "../../proxy/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  hostOf,
  kinds,
  routeNames,
  type StreamSpec,
  type StreamState,
  tunnelPort,
  type UpstreamPorts,
} from "./protocol.ts";

export type Company = Readonly<{
  rig: Rig;
  /** Opens these streams. @returns how many are open */
  open(streams: readonly StreamSpec[]): Promise<number>;
  states(): Promise<readonly StreamState[]>;
  /** Makes the callers that did not read start reading. */
  read(): Promise<unknown>;
  /** Makes the upstream send one message on every open stream. @returns how many streams the upstream has open */
  broadcast(): Promise<number>;
  upstreamStreams(): Promise<number>;
  close(): Promise<void>;
}>;

/** Default limit of streams to one target, as its connection pool enforces it. */
const streamsPerPort = 500;

export async function startCompany(
  options: Readonly<{ users: number; streams: number; route?: Partial<RouteConfig> }>,
): Promise<Company> {
  const upstream = child("upstream-process.ts");
  const callers = child("callers-process.ts");
  const portsEach = Math.max(1, Math.ceil(options.streams / kinds.length / streamsPerPort));
  const ports = (await upstream.request({ type: "listen", portsEach })) as UpstreamPorts;
  const rig = await startRig(routesTo(ports, options.route ?? {}));
  const userNumbers = Array.from({ length: options.users }, (_, i) => i + 1);
  await rig.apply(...userNumbers.map((n) => signedIn(n)), groupChanged({ added: userNumbers }));
  return {
    rig,
    open: async (streams) => (await callers.request({ type: "open", port: rig.port, streams })) as number,
    states: async () => (await callers.request({ type: "states" })) as StreamState[],
    read: () => callers.request({ type: "read" }),
    broadcast: async () => (await upstream.request({ type: "broadcast" })) as number,
    upstreamStreams: async () => (await upstream.request({ type: "count" })) as number,
    async close() {
      await callers.end();
      await rig.close();
      await upstream.end();
    },
  };
}

function routesTo(ports: UpstreamPorts, parts: Partial<RouteConfig>): RouteConfig[] {
  const schemes = { sse: "http", websocket: "http", grpc: "h2c", tcp: "tcp" } as const;
  return routeNames.flatMap((name) =>
    kinds.map((kind): RouteConfig => {
      const host = hostOf(name, kind);
      return {
        ...routeTo(0, { host, id: host, allowWebsockets: true, timeoutMs: 0, idleTimeoutMs: 0 }),
        ...(name === "eng" ? engOnly : {}),
        tunnel: kind === "tcp" ? { kind, targets: [{ host, port: tunnelPort }], behindProxy: false } : null,
        to: ports[kind].map((port) => ({ url: new URL(`${schemes[kind]}://127.0.0.1:${port}`), weight: null })),
        ...parts,
      };
    }),
  );
}

/** The same number of streams of every kind and route for every user. */
export function streamsOf(users: number, streams: number): StreamSpec[] {
  const each = streams / (users * kinds.length * routeNames.length);
  if (!Number.isInteger(each)) throw new Error(`${streams} streams cannot be spread evenly over ${users} users`);
  const specs: StreamSpec[] = [];
  for (let user = 1; user <= users; user++)
    for (const kind of kinds)
      for (const route of routeNames) for (let i = 0; i < each; i++) specs.push({ user, kind, route, slow: false });
  return specs;
}

type Child = Readonly<{ request(message: object): Promise<unknown>; end(): Promise<void> }>;

function child(file: string): Child {
  const started: ChildProcess = fork(join(import.meta.dirname, file), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const waiting = new Map<number, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>();
  let lastId = 0;
  started.on("message", ({ id, answer, error }: { id: number; answer: unknown; error?: string }) => {
    if (error === undefined) waiting.get(id)?.resolve(answer);
    else waiting.get(id)?.reject(new Error(error));
    waiting.delete(id);
  });
  let exited = false;
  started.on("exit", () => {
    exited = true;
    for (const { reject } of waiting.values()) reject(new Error(`${file} has exited`));
  });
  return {
    request: (message) =>
      new Promise((resolve, reject) => {
        const id = ++lastId;
        waiting.set(id, { resolve, reject });
        started.send({ ...message, id });
      }),
    async end() {
      started.kill("SIGKILL");
      await waitFor(`${file} to exit`, () => exited);
    },
  };
}

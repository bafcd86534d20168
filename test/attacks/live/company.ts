/**
 * Company: the proxy in this process, its upstream and its callers each in one of their own, so that none of them needs
 * more than two descriptors for a stream.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import type { RouteConfig } from "../../../src/config/index.ts";
import { engOnly, members, type Rig, routeTo, signedIn, startRig } from "../../proxy/support.ts";
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
  /** Opens streams of everybody on every route. @returns how many are open */
  open(streams: readonly StreamSpec[]): Promise<number>;
  look(): Promise<readonly StreamState[]>;
  /** Those who did not read begin to. */
  read(): Promise<unknown>;
  /** Something is said on every stream that is open. @returns how many that are, as the upstream knows them */
  say(): Promise<number>;
  upstreamHolds(): Promise<number>;
  close(): Promise<void>;
}>;

/** One target's pool takes no more than this many at once by default. */
const streamsPerPort = 500;

export async function startCompany(
  options: Readonly<{ users: number; streams: number; route?: Partial<RouteConfig> }>,
): Promise<Company> {
  const upstream = child("upstream-process.ts");
  const callers = child("callers-process.ts");
  const portsEach = Math.max(1, Math.ceil(options.streams / kinds.length / streamsPerPort));
  const ports = (await upstream.ask({ type: "listen", portsEach })) as UpstreamPorts;
  const rig = await startRig(routesTo(ports, options.route ?? {}));
  const people = Array.from({ length: options.users }, (_, i) => i + 1);
  await rig.apply(...people.map((n) => signedIn(n)), members({ added: people }));
  return {
    rig,
    open: async (streams) => (await callers.ask({ type: "open", port: rig.port, streams })) as number,
    look: async () => (await callers.ask({ type: "look" })) as StreamState[],
    read: () => callers.ask({ type: "read" }),
    say: async () => (await upstream.ask({ type: "say" })) as number,
    upstreamHolds: async () => (await upstream.ask({ type: "count" })) as number,
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

/** As many streams of every kind and route for everybody. */
export function streamsOf(users: number, streams: number): StreamSpec[] {
  const each = streams / (users * kinds.length * routeNames.length);
  if (!Number.isInteger(each)) throw new Error(`${streams} streams are not the same for ${users} people`);
  const specs: StreamSpec[] = [];
  for (let user = 1; user <= users; user++)
    for (const kind of kinds)
      for (const route of routeNames) for (let i = 0; i < each; i++) specs.push({ user, kind, route, slow: false });
  return specs;
}

type Child = Readonly<{ ask(message: object): Promise<unknown>; end(): Promise<void> }>;

function child(file: string): Child {
  const started: ChildProcess = fork(join(import.meta.dirname, file), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const waiting = new Map<number, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>();
  let asked = 0;
  started.on("message", ({ id, answer, error }: { id: number; answer: unknown; error?: string }) => {
    if (error === undefined) waiting.get(id)?.resolve(answer);
    else waiting.get(id)?.reject(new Error(error));
    waiting.delete(id);
  });
  let gone = false;
  started.on("exit", () => {
    gone = true;
    for (const { reject } of waiting.values()) reject(new Error(`${file} has ended`));
  });
  return {
    ask: (message) =>
      new Promise((resolve, reject) => {
        const id = ++asked;
        waiting.set(id, { resolve, reject });
        started.send({ ...message, id });
      }),
    async end() {
      started.kill("SIGKILL");
      await waitFor(`${file} to end`, () => gone);
    },
  };
}
